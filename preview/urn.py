"""The engine's whole name of a resource (URN): stack, project, types down to its own, its name."""

from preview.kinds import MACHINE


def name_of(urn: str) -> str:
    """The name that the program gives it; empty for no URN."""
    return urn.rpartition("::")[2]


def kind_of(urn: str) -> str:
    """Its type token, without those of the resources that hold it; empty for no URN."""
    return urn.rpartition("::")[0].rpartition("::")[2].rpartition("$")[2]


def of_machine(urn: str) -> bool:
    """Whether a machine holds it. A name does not tell, since people choose those of machines."""
    return f"${MACHINE}$" in urn
