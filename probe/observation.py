"""Observes the items that a machine must hold, with one command that only reads."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from plan.held import GONE, REGISTERED, ROLLS, THERE, Difference, differences
from plan.item import (
    AS_KEPT,
    AS_VERIFIED,
    LEADS,
    MISSING,
    OTHER_CONTENT,
    RESTARTS,
    RUNS,
    UNREAD,
    Item,
    Kind,
    described,
    digest,
)
from probe import vxlan
from probe.access import Access
from probe.machines import Done, Machines, Unreachable
from probe.pods import script
from probe.vxlan import Device

SECONDS = 120
"""The time limit of an observation. It takes a second where nothing was touched, and more where the
machine must read an artifact again."""

ALL = "these were all"
"""The last line of a complete answer: an answer without it was cut off and is not used."""

TOUCHED = "touched since it was verified"
RUNNING = ("active", "activating", "reloading")
"""States that count as running. They include a service that is starting, since services wait for
each other; the cluster's conditions check their health."""

SYSTEMD = ("systemd", "systemd-executor")
"""What the new process of a service runs before the service's own program. The second program
exists since systemd 254."""

TYPES = {"f": "a file", "d": "a directory", "l": "a link"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """The file, directory or link at a path."""

    type: str
    """The letter that find(1) prints for ``%y``."""
    mode: int
    owner: str
    changed: float
    """The time of the last change of the content, in seconds since the epoch."""
    target: str
    """Of a link; empty for anything else."""


@dataclass(kw_only=True)
class Facts:
    """What a machine reports."""

    places: dict[str, Place] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    """Path to the sha256 of the content, for the files that the machine read."""
    verified: set[str] = field(default_factory=set)
    """Paths of artifacts that were not read, since nothing touched them after their
    verification."""
    units: list[dict[str, str]] = field(default_factory=list)
    """systemd's properties of each unit, in the order of the question."""
    programs: dict[str, str] = field(default_factory=dict)
    """Process number to the path of the program that the process runs."""
    restarts: dict[str, int] = field(default_factory=dict)
    """Unit to systemd's count of automatic restarts, read some seconds after ``units``."""
    jobs: dict[str, str] = field(default_factory=dict)
    """Unit to the type of its pending systemd job, such as ``restart``."""
    packages: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)
    settings: dict[str, str] = field(default_factory=dict)
    logins: dict[str, list[str]] = field(default_factory=dict)
    """User to the lines with the cluster's SSH keys in the user's list of keys."""
    devices: dict[str, Device] = field(default_factory=dict)
    """VXLAN devices by name."""
    gone: set[str] = field(default_factory=set)
    """Nodes for which the API answers that no Node object exists."""
    rolling: set[str] = field(default_factory=set)
    """Nodes whose change to another version has not ended."""


async def observed(
    machines: Machines, node: str, items: Sequence[Item], secrets: Mapping[str, str]
) -> dict[str, str]:
    """Key of each item to its observed state, which equals ``wanted`` where the item is right.

    ``secrets`` maps the path of each secret file to its sha256. Raises Unreachable where the
    machine cannot be reached at a second attempt either, or its answer is not complete.
    """
    states, _ = await _looked(machines, node, items, secrets)
    return states


async def _looked(
    machines: Machines, node: str, items: Sequence[Item], secrets: Mapping[str, str]
) -> tuple[dict[str, str], Facts]:
    """The result of ``observed``, and the facts behind it. Raises Unreachable."""
    done = await _answer(machines, node, question(items))
    if done.status != 0 or not done.stdout.endswith(f"{ALL}\n"):
        raise Unreachable(f"{node} does not say what it holds ({done.reason})")
    facts = read(done.stdout)
    services = [item for item in items if item.kind in (Kind.SERVICE, Kind.MASKED)]
    if len(facts.units) != len(services):
        raise Unreachable(f"systemd on {node} does not say what runs ({done.reason})")
    units = {item.key: unit for item, unit in zip(services, facts.units, strict=True)}
    states = {item.key: _state(item, facts, units, secrets) for item in items}
    return states | dict(_started_with_others(items, facts, units, states)), facts


async def _answer(machines: Machines, node: str, given: str) -> Done:
    try:
        return await machines.run(node, script("observe"), timeout=SECONDS, input=given)
    except Unreachable:
        # A busy machine, above all an emulated one, may take longer than usual to accept a login.
        return await machines.run(node, script("observe"), timeout=SECONDS, input=given)


def question(items: Iterable[Item]) -> str:
    """The standard input of ``scripts/observe.sh``."""
    return "".join(f"{item.kind}\t{item.path or item.name}\t{item.mark}\n" for item in items)


def read(answer: str) -> Facts:
    """Parse the facts that the script prints."""
    facts = Facts()
    unit: dict[str, str] = {}
    for line in answer.splitlines():
        kind, _, rest = line.partition("\t")
        fields = rest.split("\t")
        match kind:
            case "path":
                path, type_, mode, owner, changed, target = fields
                facts.places[path] = Place(
                    type=type_,
                    mode=int(mode, 8),
                    owner=owner,
                    changed=float(changed),
                    target=target,
                )
            case "sum":
                facts.sums[fields[0]] = fields[1]
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
                facts.programs[fields[0].split("/")[2]] = fields[1]
            case "restarts":
                facts.restarts[fields[0]] = int(fields[1])
            case "job":
                facts.jobs[fields[0]] = fields[1]
            case "package" if fields[1] == "installed":
                facts.packages.add(fields[0])
            case "module":
                facts.modules.add(rest)
            case "device" | "route" | "neighbour" | "forwarded":
                facts.devices.setdefault(fields[0], Device()).add(kind, fields[1])
            case "gone":
                facts.gone.add(rest)
            case "rolling":
                facts.rolling.add(rest)
            case "login":
                facts.logins.setdefault(fields[0], []).append("\t".join(fields[1:]))
            case "setting":
                facts.settings[fields[0]] = " ".join(fields[1:])
    return facts


def _state(
    item: Item, facts: Facts, units: Mapping[str, Mapping[str, str]], secrets: Mapping[str, str]
) -> str:
    match item.kind:
        case Kind.FILE | Kind.ARTIFACT | Kind.DIRECTORY | Kind.LINK:
            return _at(item, facts, secrets)
        case Kind.ROLE:
            return THERE if item.path in facts.places else GONE
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
            return MISSING if device is None else device.state
        case Kind.NODE:
            if item.name in facts.gone:
                return MISSING
            return ROLLS if item.name in facts.rolling else REGISTERED
        case Kind.LOGINS:
            return _logins(item, facts.logins.get(item.name, []), secrets)
        case Kind.SETTING:
            return facts.settings.get(item.name, MISSING)
        case Kind.OBJECT:
            raise ValueError(f"{item.key} is in the API and on no machine")


# -- files ---------------------------------------------------------------------------------------


def _at(item: Item, facts: Facts, secrets: Mapping[str, str]) -> str:
    path = item.path or item.name
    entry = facts.places.get(path)
    if entry is None:
        return MISSING
    if entry.type == "l":
        return f"-> {entry.target}"
    if entry.type == "d":
        text = f"{entry.mode:04o} {entry.owner}"
        return text if item.kind is Kind.DIRECTORY else f"{TYPES['d']} {text}"
    if entry.type != "f" or item.kind in (Kind.DIRECTORY, Kind.LINK):
        return TYPES.get(entry.type, "no file")
    return described(_content(item, path, facts, secrets), entry.mode, entry.owner)


def _content(item: Item, path: str, facts: Facts, secrets: Mapping[str, str]) -> str:
    checksum = facts.sums.get(path, "")
    if item.wanted.startswith(AS_KEPT):
        return AS_KEPT if checksum == secrets[path] else OTHER_CONTENT
    if path in facts.verified:
        return item.wanted.rsplit(" ", 2)[0]
    if item.wanted.startswith(AS_VERIFIED):
        return TOUCHED
    return f"sha256:{checksum}" if checksum else "unreadable"


def _logins(item: Item, lines: Sequence[str], secrets: Mapping[str, str]) -> str:
    if not lines:
        return MISSING
    whole = digest("".join(f"{line}\n" for line in lines))
    return AS_KEPT if whole == secrets[item.key] else OTHER_CONTENT


# -- services ------------------------------------------------------------------------------------


def _service(item: Item, unit: Mapping[str, str], facts: Facts) -> str:
    wanted = item.wanted.rpartition(" ")[2]
    state = unit["ActiveState"]
    program = facts.programs.get(unit.get("MainPID", ""), "")  # a timer has none
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
    parts = [unit["UnitFileState"] or MISSING, runs]
    parts += [
        f"with settings of {path}"
        for path in unit["DropInPaths"].split()
        if path.rpartition("/")[0].endswith(f"/{item.name}.d")
    ]
    if unit["NeedDaemonReload"] == "yes":
        parts.append(UNREAD)
    return ", ".join(parts)


def restarts_again(unit: Mapping[str, str], facts: Facts) -> bool:
    """Whether systemd restarted a service by itself between two readings of its restart counter.

    The service's state alone does not show that the service fails repeatedly: between two restarts
    the service is activating, and a program may report that it is ready before it ends.
    """
    return facts.restarts.get(unit["Id"], 0) > int(unit.get("NRestarts") or 0)


def _about_to_start(item: Item, facts: Facts) -> bool:
    """Whether systemd has a pending job that starts the service, at once or after another job."""
    return facts.jobs.get(item.name) in ("start", "restart")


def _becomes(wanted: str, program: str) -> bool:
    """Whether a process runs the wanted program, or still systemd's code that starts it.

    ``wanted`` is compared with the file name only, as it is for programs of the distribution.
    """
    name = program.rpartition("/")[2]
    return name in SYSTEMD or wanted == name


def _masked(unit: Mapping[str, str]) -> str:
    masked = "masked" if unit["UnitFileState"] == "masked" else "not masked"
    return f"{masked}, {'runs' if unit['ActiveState'] in RUNNING else 'stopped'}"


def _started_with_others(
    items: Sequence[Item],
    facts: Facts,
    units: Mapping[str, Mapping[str, str]],
    states: Mapping[str, str],
) -> Iterable[tuple[str, str]]:
    """Services that started after the change of a file that they need, each with its state.

    The file still differs from the plan. After a repair of the file alone, such a service would
    keep running with what it read at its start.
    """
    changed = {
        item.name: facts.places[item.name].changed
        for item in items
        if item.kind is Kind.FILE
        and item.name in facts.places
        # A program reads only the content, so a change of mode or owner alone does not count.
        and item.wanted.rsplit(" ", 2)[0] != states[item.key].rsplit(" ", 2)[0]
    }
    for item in items:
        if item.kind is not Kind.SERVICE or _about_to_start(item, facts):
            continue
        if units[item.key]["ActiveState"] not in RUNNING:
            continue
        since = _started(units[item.key].get("ExecMainStartTimestamp", ""))
        read = [path for path in item.needs if path in changed and changed[path] <= since]
        if read:
            yield item.key, f"{states[item.key]}, started with this {' and '.join(read)}"


def _started(text: str) -> float:
    """A time that systemd prints, in seconds since the epoch; 0 where a service never started."""
    try:
        # Such as: Sat 2026-11-21 23:55:06.123456 UTC
        day, time = text.split()[1:3]
        return datetime.fromisoformat(f"{day} {time}+00:00").timestamp()
    except ValueError:
        return 0.0


async def drifted(
    machines: Machines, node: str, items: Sequence[Item], secrets: Mapping[str, str]
) -> tuple[Difference, ...]:
    """The items of a machine that are not as they must be. Raises Unreachable."""
    return differences(items, await observed(machines, node, items, secrets))


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What one machine must hold."""

    items: tuple[Item, ...]
    secrets: Mapping[str, str]
    """Path of each secret file to its sha256."""


async def everywhere(
    access: Access, wanted: Mapping[str, Wanted]
) -> dict[str, tuple[Difference, ...] | Unreachable]:
    """What differs on each machine, or why a machine cannot be observed.

    All machines are observed at the same time. The addresses under which their VXLAN devices know
    each other are compared as well.
    """
    async with Machines(access) as machines:

        async def look_at(node: str) -> tuple[dict[str, str], Facts] | Unreachable:
            try:
                return await _looked(machines, node, wanted[node].items, wanted[node].secrets)
            except Unreachable as error:
                return error

        looks = dict(zip(wanted, await asyncio.gather(*map(look_at, wanted)), strict=True))
    addresses = {node: machine.address for node, machine in access.machines.items()}
    seen = {node: look[1].devices for node, look in looks.items() if isinstance(look, tuple)}
    unknown = vxlan.unknown_to_others(seen, addresses)
    differing: dict[str, tuple[Difference, ...] | Unreachable] = {}
    for node, look in looks.items():
        if isinstance(look, Unreachable):
            differing[node] = look
            continue
        # A fault that a machine observes in its own device takes precedence over what other
        # machines know of the device, since the machine's guard reports the same fault.
        states = {f"{Kind.VXLAN} {device}": state for device, state in unknown[node].items()}
        states |= {
            key: state
            for key, state in look[0].items()
            if states.get(key) is None or state != LEADS
        }
        differing[node] = differences(wanted[node].items, states)
    return differing
