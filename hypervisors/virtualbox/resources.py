"""The types of VirtualBox's resources, and the inputs whose change replaces them."""

from hypervisors.upkeep import ResourceTypes

NETWORK = "pulumi-python:dynamic/hardway:VirtualBoxNetwork"
MACHINE = "pulumi-python:dynamic/hardway:VirtualBoxMachine"

REPLACED_FOR: dict[str, frozenset[str]] = {
    NETWORK: frozenset({"addresses"}),
    MACHINE: frozenset({"uuid"}),
}
"""All else changes in place."""

RESOURCE_TYPES = ResourceTypes(machine=MACHINE, disk=None, replaced_for=REPLACED_FOR, restarts=True)
"""VirtualBox unregisters a machine together with its disk, so both are one resource."""
