"""What a machine really has of the things that it must hold, in one command that only reads."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from plan.held import (
    AS_KEPT,
    AS_VERIFIED,
    LEADS,
    REGISTERED,
    RESTARTS,
    RUNS,
    UNREAD,
    Difference,
    Item,
    Kind,
    described,
    differences,
)
from probe import vxlan
from probe.access import Access
from probe.machines import Done, Machines, Unreachable
from probe.pods import script
from probe.vxlan import Device

SECONDS = 120
"""For an observation: a second where nothing was touched, more where an artifact is read again."""

ALL = "these were all"
"""The last line of an answer: one that was cut off on its way says nothing."""

MISSING, OTHER_CONTENT, TOUCHED = "missing", "other content", "touched since it was verified"
RUNNING = ("active", "activating", "reloading")
"""Coming up is as good as up: services wait for each other, and the conditions ask for health."""

SYSTEMD = ("systemd", "systemd-executor")
"""What a service's new process runs before its program: the second of them since systemd 254."""

TYPES = {"f": "a file", "d": "a directory", "l": "a link"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """What lies at a path."""

    type: str
    """As find(1) has it."""
    mode: int
    owner: str
    changed: float
    """When its content was last changed, in seconds."""
    target: str
    """Of a link."""


@dataclass(kw_only=True)
class Facts:
    """What a machine says."""

    places: dict[str, Place] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    """Path to the sha256 of the content, where it was read."""
    verified: set[str] = field(default_factory=set)
    """Artifacts that need not be read, since they were not touched after they had been."""
    units: list[dict[str, str]] = field(default_factory=list)
    """systemd's properties, in the order of the questions."""
    programs: dict[str, str] = field(default_factory=dict)
    """Process number to the file that it runs."""
    restarts: dict[str, int] = field(default_factory=dict)
    """How often systemd had started a service again by itself, some seconds after ``units``."""
    jobs: dict[str, str] = field(default_factory=dict)
    """What systemd is about to do with a unit, by its name, such as ``restart``."""
    packages: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)
    settings: dict[str, str] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    """VXLAN devices by name."""
    gone: set[str] = field(default_factory=set)
    """Nodes of which the API says that there are none."""


async def observed(
    machines: Machines, node: str, items: Sequence[Item], secrets: Mapping[str, str]
) -> dict[str, str]:
    """How each thing is, by its key: in the words of ``wanted`` where it is as it must be.

    ``secrets`` is the sha256 of each secret file by its path. Raises Unreachable where the machine
    cannot be asked, also a second time, or does not answer all of it.
    """
    told, _ = await _looked(machines, node, items, secrets)
    return told


async def _looked(
    machines: Machines, node: str, items: Sequence[Item], secrets: Mapping[str, str]
) -> tuple[dict[str, str], Facts]:
    """The same, with the facts of which it was made. Raises Unreachable."""
    done = await _answer(machines, node, question(items))
    if done.status != 0 or not done.stdout.endswith(f"{ALL}\n"):
        raise Unreachable(f"{node} does not say what it holds ({done.said})")
    facts = read(done.stdout)
    services = [item for item in items if item.kind in (Kind.SERVICE, Kind.MASKED)]
    if len(facts.units) != len(services):
        raise Unreachable(f"systemd on {node} does not say what runs ({done.said})")
    units = {item.key: unit for item, unit in zip(services, facts.units, strict=True)}
    told = {item.key: _told(item, facts, units, secrets) for item in items}
    return told | dict(_started_with_others(items, facts, units, told)), facts


async def _answer(machines: Machines, node: str, given: str) -> Done:
    try:
        return await machines.run(node, script("observe"), timeout=SECONDS, input=given)
    except Unreachable:
        # One that is busy, above all an emulated one, may take longer to let somebody in.
        return await machines.run(node, script("observe"), timeout=SECONDS, input=given)


def question(items: Iterable[Item]) -> str:
    """What ``scripts/observe.sh`` reads."""
    return "".join(f"{item.kind}\t{item.path or item.name}\t{item.mark}\n" for item in items)


def read(answer: str) -> Facts:
    """The facts that the script prints."""
    facts = Facts()
    unit: dict[str, str] = {}
    for line in answer.splitlines():
        kind, _, rest = line.partition("\t")
        words = rest.split("\t")
        match kind:
            case "path":
                path, type_, mode, owner, changed, target = words
                facts.places[path] = Place(
                    type=type_,
                    mode=int(mode, 8),
                    owner=owner,
                    changed=float(changed),
                    target=target,
                )
            case "sum":
                facts.sums[words[0]] = words[1]
            case "verified":
                facts.verified.add(rest)
            case "unit" if rest:
                if not unit:
                    facts.units.append(unit)
                name, _, value = rest.partition("=")
                unit[name] = value
            case "unit":
                unit = {}
            case "program":
                facts.programs[words[0].split("/")[2]] = words[1]
            case "restarts":
                facts.restarts[words[0]] = int(words[1])
            case "job":
                facts.jobs[words[0]] = words[1]
            case "package" if words[1] == "installed":
                facts.packages.add(words[0])
            case "module":
                facts.modules.add(rest)
            case "device" | "route" | "neighbour" | "forwarded":
                facts.devices.setdefault(words[0], Device()).add(kind, words[1])
            case "gone":
                facts.gone.add(rest)
            case "setting":
                facts.settings[words[0]] = " ".join(words[1:])
    return facts


def _told(
    item: Item, facts: Facts, units: Mapping[str, Mapping[str, str]], secrets: Mapping[str, str]
) -> str:
    match item.kind:
        case Kind.FILE | Kind.ARTIFACT | Kind.DIRECTORY | Kind.LINK:
            return _at(item, facts, secrets)
        case Kind.SERVICE:
            return _service(item, units[item.key], facts)
        case Kind.MASKED:
            return _masked(units[item.key])
        case Kind.PACKAGE:
            return "installed" if item.name in facts.packages else MISSING
        case Kind.MODULE:
            return "loaded" if item.name in facts.modules else MISSING
        case Kind.VXLAN:
            device = facts.devices.get(item.name)
            return MISSING if device is None else device.told
        case Kind.NODE:
            return MISSING if item.name in facts.gone else REGISTERED
        case Kind.SETTING:
            return facts.settings.get(item.name, MISSING)


# -- files ---------------------------------------------------------------------------------------


def _at(item: Item, facts: Facts, secrets: Mapping[str, str]) -> str:
    path = item.path or item.name
    place = facts.places.get(path)
    if place is None:
        return MISSING
    if place.type == "l":
        return f"-> {place.target}"
    if place.type == "d":
        text = f"{place.mode:04o} {place.owner}"
        return text if item.kind is Kind.DIRECTORY else f"{TYPES['d']} {text}"
    if place.type != "f" or item.kind in (Kind.DIRECTORY, Kind.LINK):
        return TYPES.get(place.type, "no file")
    return described(_content(item, path, facts, secrets), place.mode, place.owner)


def _content(item: Item, path: str, facts: Facts, secrets: Mapping[str, str]) -> str:
    found = facts.sums.get(path, "")
    if item.wanted.startswith(AS_KEPT):
        return AS_KEPT if found == secrets[path] else OTHER_CONTENT
    if path in facts.verified:
        return item.wanted.rsplit(" ", 2)[0]
    if item.wanted.startswith(AS_VERIFIED):
        return TOUCHED
    return f"sha256:{found}" if found else "unreadable"


# -- services ------------------------------------------------------------------------------------


def _service(item: Item, unit: Mapping[str, str], facts: Facts) -> str:
    wanted = item.wanted.rpartition(" ")[2]
    state = unit["ActiveState"]
    program = facts.programs.get(unit["MainPID"], "")
    if restarts_again(unit, facts):
        runs = RESTARTS
    elif _about_to_start(item, facts):
        runs = f"{RUNS} {wanted}"
    elif state not in RUNNING:
        runs = "failed" if state == "failed" else "stopped"
    elif not program or _becomes(wanted, program.split()[0]):
        runs = f"{RUNS} {wanted}"
    else:
        runs = f"{RUNS} {program}"
    told = [unit["UnitFileState"] or MISSING, runs]
    told += [
        f"with settings of {path}"
        for path in unit["DropInPaths"].split()
        if path.rpartition("/")[0].endswith(f"/{item.name}.d")
    ]
    if unit["NeedDaemonReload"] == "yes":
        told.append(UNREAD)
    return ", ".join(told)


def restarts_again(unit: Mapping[str, str], facts: Facts) -> bool:
    """Whether systemd started a service again between two looks, as it had done before.

    Its state alone says nothing: between two starts it is coming up, and a program may say that it
    is ready before it ends.
    """
    return facts.restarts.get(unit["Id"], 0) > int(unit.get("NRestarts") or 0)


def _about_to_start(item: Item, facts: Facts) -> bool:
    """Whether systemd has the service's start before it, at once or once another has ended."""
    return facts.jobs.get(item.name) in ("start", "restart")


def _becomes(wanted: str, program: str) -> bool:
    """Whether a process that runs ``program`` is the wanted one, or is still becoming it."""
    name = program.rpartition("/")[2]
    return name in SYSTEMD or wanted == name


def _masked(unit: Mapping[str, str]) -> str:
    masked = "masked" if unit["UnitFileState"] == "masked" else "not masked"
    return f"{masked}, {'runs' if unit['ActiveState'] in RUNNING else 'stopped'}"


def _started_with_others(
    items: Sequence[Item],
    facts: Facts,
    units: Mapping[str, Mapping[str, str]],
    told: Mapping[str, str],
) -> Iterable[tuple[str, str]]:
    """Services that were started after a file that they need was changed by somebody.

    The file can be mended, and they would go on with what they read.
    """
    changed = {
        item.name: facts.places[item.name].changed
        for item in items
        if item.kind is Kind.FILE
        and item.name in facts.places
        # Its mode or owner alone is nothing that a program reads.
        and item.wanted.rsplit(" ", 2)[0] != told[item.key].rsplit(" ", 2)[0]
    }
    for item in items:
        if item.kind is not Kind.SERVICE or _about_to_start(item, facts):
            continue
        if units[item.key]["ActiveState"] not in RUNNING:
            continue
        since = _started(units[item.key]["ExecMainStartTimestamp"])
        read = [path for path in item.needs if path in changed and changed[path] <= since]
        if read:
            yield item.key, f"{told[item.key]}, started with this {' and '.join(read)}"


def _started(told: str) -> float:
    """A time of systemd's in seconds; of a service that was never started, the very first."""
    try:
        # Such as: Sat 2026-11-21 23:55:06.123456 UTC
        day, time = told.split()[1:3]
        return datetime.fromisoformat(f"{day} {time}+00:00").timestamp()
    except ValueError:
        return 0.0


async def drifted(
    machines: Machines, node: str, items: Sequence[Item], secrets: Mapping[str, str]
) -> tuple[Difference, ...]:
    """What of a machine is not as it must be. Raises Unreachable."""
    return differences(items, await observed(machines, node, items, secrets))


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What one machine must hold."""

    items: tuple[Item, ...]
    secrets: Mapping[str, str]
    """The sha256 of each secret file by its path."""


async def everywhere(
    access: Access, wanted: Mapping[str, Wanted]
) -> dict[str, tuple[Difference, ...] | Unreachable]:
    """What differs on each machine, or why it cannot be asked; all are asked at the same time.

    What they know of each other is compared as well.
    """
    async with Machines(access) as machines:

        async def one(node: str) -> tuple[dict[str, str], Facts] | Unreachable:
            try:
                return await _looked(machines, node, wanted[node].items, wanted[node].secrets)
            except Unreachable as error:
                return error

        looks = dict(zip(wanted, await asyncio.gather(*map(one, wanted)), strict=True))
    addresses = {node: machine.address for node, machine in access.machines.items()}
    seen = {node: look[1].devices for node, look in looks.items() if isinstance(look, tuple)}
    unknown = vxlan.unknown_to_others(seen, addresses)
    found: dict[str, tuple[Difference, ...] | Unreachable] = {}
    for node, look in looks.items():
        if isinstance(look, Unreachable):
            found[node] = look
            continue
        # What a machine says of itself comes first: its guard says the same.
        told = {f"{Kind.VXLAN} {device}": said for device, said in unknown[node].items()}
        told |= {
            key: said for key, said in look[0].items() if told.get(key) is None or said != LEADS
        }
        found[node] = differences(wanted[node].items, told)
    return found
