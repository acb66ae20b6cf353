"""The type of the resource of a machine that exists already."""

from hypervisors.upkeep import ResourceTypes

MACHINE = "pulumi-python:dynamic/hardway:ExistingMachine"

RESOURCE_TYPES = ResourceTypes(machine=MACHINE, disk=None, replaced_for={})
"""Nothing makes such a machine anew: a change must not touch its data, which are on its disk."""
