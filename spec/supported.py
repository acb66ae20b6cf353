"""Refuses fields of a valid description that this version of the program cannot carry out."""

from collections.abc import Iterator

from spec.description import Description
from spec.refusal import Refusal, SpecError, dotted


def demand_supported(spec: Description) -> None:
    """Raises SpecError with a sentence for each field that this version would not carry out."""
    if refusals := list(_unsupported(spec)):
        raise SpecError("\n".join(map(str, refusals)))


def _unsupported(spec: Description) -> Iterator[Refusal]:
    own = {name: machine.hypervisor for name, machine in spec.machines.items()}
    fields = {dotted(("machines", name, "hypervisor")): where for name, where in own.items()}
    for field, where in {"hypervisor": spec.hypervisor, **fields}.items():
        if where is not None and not where.is_supported:
            yield Refusal(
                f"{field}.kind",
                f"{where.kind} cannot be used yet",
                "no machine could be brought up",
                "write libvirt, or leave hypervisor out and use what this machine's lab offers",
            )
