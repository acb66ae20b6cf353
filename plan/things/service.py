"""Services. They leave a machine together with what their programs leave behind there."""

from collections.abc import Iterator, Mapping, Sequence

from plan import layout, unit
from plan.item import LEADS, RUNS, Item, Kind, described, digest
from plan.model import Material, Step, Unit
from plan.records import Record, content, record
from plan.things.kind import Text, ThingKind, of_kind


def started_with(service: Unit) -> tuple[str, ...]:
    """The paths whose change restarts a service, in addition to its unit file."""
    return tuple(dict.fromkeys((service.program, *service.needs)))


def _records(step: Step, _material: Material | None) -> Iterator[str]:
    for service in step.units:
        yield record("unit", service.name, *started_with(service)) + content(unit.text(service))
    if step.units:
        yield record("settle")


def _read_files(records: Sequence[Record]) -> Mapping[str, Text]:
    return {
        f"{layout.UNITS}/{name}": Text(text, "0600 root:root")
        for (name, *_), text in of_kind("unit", records)
    }


def _items(step: Step) -> Iterator[Item]:
    programs = {link.path: link.target for link in step.links}
    for service in step.units:
        wanted = described(f"sha256:{digest(unit.text(service))}", 0o600, "root:root")
        yield Item(kind=Kind.FILE, name=service.path, wanted=wanted, step=step.name)
        yield Item(
            kind=Kind.SERVICE,
            name=service.name,
            wanted=f"enabled, {RUNS} {_program(service, programs)}",
            step=step.name,
            needs=(service.path, *started_with(service)[1:]),
        )
        if service.vxlan:
            yield Item(
                kind=Kind.VXLAN,
                name=service.vxlan,
                wanted=LEADS,
                step=step.name,
                mark=service.name,
            )


def _program(service: Unit, programs: Mapping[str, str]) -> str:
    """The file that a service's process runs, with links resolved.

    For a program of the distribution only the file's name, since its directory may differ.
    """
    return programs.get(service.program) or service.program.rpartition("/")[2]


KIND = ThingKind(label="service", records=_records, items=_items, read_files=_read_files)
