"""Reads a URN, the engine's full name of a resource.

It consists of stack, project, the types of the parents, the own type and the name.
"""

from preview.kinds import MACHINE


def name_of(urn: str) -> str:
    """The name that the program gives the resource; empty for an empty URN."""
    return urn.rpartition("::")[2]


def kind_of(urn: str) -> str:
    """The type token of the resource, without those of its parents; empty for an empty URN."""
    return urn.rpartition("::")[0].rpartition("::")[2].rpartition("$")[2]


def of_machine(urn: str) -> bool:
    """Whether the resource belongs to a machine.

    The URN's types decide, since people choose the names of machines.
    """
    return f"${MACHINE}$" in urn
