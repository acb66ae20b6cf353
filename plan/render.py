"""Renders a step as data that ``scripts/step.sh`` reads on the machine (``plan/records.py``)."""

import re
from collections.abc import Iterable, Iterator, Sequence

from plan import library, things
from plan.library import script
from plan.limits import HARD, LIMITS
from plan.model import Material, Membership, Step
from plan.records import END, STEP, content, record
from plan.things import logins


def text(step: Step, material: Material | None = None) -> str:
    """The data of a step.

    A step without secrets saves its data on the machine, for people to read. ``material`` supplies
    the content of secret files. Raises ValueError where a step has such files and no material is
    given.
    """
    first = record(STEP, step.name, *used(step))
    return "".join((first, *_records(step, material), record(END)))


def command(step: Step) -> str:
    """The command line that runs a step."""
    return library.command(limit(step), used(step))


TAKES_AWAY = ("pace", "prelude", "before", "absence")
"""The scripts that a script needs which takes away what steps brought, in their order."""

LEAVE = "leave"
"""The script that takes away what a step brought that has left a machine's plan."""


def leaving(name: str) -> str:
    """The command line that runs when the engine deletes the step of this name."""
    scripts = (*TAKES_AWAY, LEAVE)
    pairs = " ".join(f"{wait}={seconds}" for wait, seconds in limits(scripts).items())
    script = f"{library.PLACE}/{library.FOLDER.name}/{LEAVE}.sh"
    limit = _seconds(scripts)
    return f"timeout -k 10 {limit} bash -euo pipefail {script} {name} {HARD} {pairs}"


def taking_away(text: str) -> str:
    """A text for bash, with the scripts before it that take away what steps brought."""
    pairs = (f"limits[{wait}]={seconds}\n" for wait, seconds in limits(TAKES_AWAY).items())
    return "".join((*map(script, TAKES_AWAY), f"hard={HARD}\n", *pairs, text))


def used(step: Step) -> tuple[str, ...]:
    """The scripts that a step uses, besides the one that runs it."""
    names = {
        "pace": True,
        "prelude": True,
        "before": step.alone,
        "absence": step.alone,
        "skew": step.not_newer is not None,
        "roll": step.rolling is not None,
        "admin": step.admin,
        "member": step.membership is not None,
        "turn": bool(step.turns),
        **dict.fromkeys(logins.SCRIPTS, step.logins is not None),
        **dict.fromkeys(("walk", "encryption", "signing"), step.walk is not None),
    }
    own = tuple(script_name for script_name in (step.begin, step.script) if script_name)
    return (*(name for name, needed in names.items() if needed), *own)


WORK = 1800
"""Seconds, on a quiet machine, for all work of a step that is not a wait, such as downloads."""

WAIT = re.compile(
    r"^[^#\n]*?\b(?:(?:await|await_api|wait_for) ([a-z-]+|\d+)"
    r"|(?:timeout(?: --\S+)*|flock --timeout) (\d+)|limits\[([a-z-]+)\])",
    re.MULTILINE,
)
"""Matches the limit of a wait in a script: its name in ``plan.limits``, or a number of seconds."""

SENTENCE = re.compile(r"^failed: (.+)$", re.MULTILINE)
"""Matches the sentence that says why a step failed; a step prints it before all details."""


def failure(output: str) -> str | None:
    """The sentence that says why a step failed; None where the step's output has none."""
    sentence = SENTENCE.search(output)
    return sentence[1].strip() if sentence else None


def limit(step: Step) -> int:
    """The time limit of a whole step, in seconds, after which the step is ended.

    This limit is a safety net: each wait of the step ends earlier, at its hard limit at the latest,
    and prints what the step waited for.
    """
    return _seconds(used(step))


def _seconds(scripts: Sequence[str]) -> int:
    named = limits(scripts)
    return HARD * (WORK + sum(named.get(wait) or int(wait) for wait in _waits(scripts)))


def limits(scripts: Iterable[str]) -> dict[str, int]:
    """The limits in seconds of the waits that scripts have, by their names in ``plan.limits``.

    Raises ValueError for a limit that ``plan.limits`` does not have.
    """
    names = {wait for wait in _waits(scripts) if not wait.isdecimal()}
    if unknown := names - LIMITS.keys():
        raise ValueError(f"plan/limits.py has no limit {', '.join(sorted(unknown))}")
    return {name: limit_of_wait.seconds for name, limit_of_wait in LIMITS.items() if name in names}


def _waits(scripts: Iterable[str]) -> list[str]:
    """The limits of all waits in scripts: names, or numbers of seconds."""
    return [wait for name in scripts for wait in waits(script(name))]


def waits(text: str) -> list[str]:
    """The limits of all waits in a text: names, or numbers of seconds."""
    return ["".join(groups) for groups in WAIT.findall(text)]


def _records(step: Step, material: Material | None) -> Iterator[str]:
    pairs = (f"{name}={seconds}" for name, seconds in limits(used(step)).items())
    yield record("limits", str(HARD), *pairs)
    for turn in step.turns:
        yield record("lock_at", ",".join(turn.lock), *turn.lock_trust)
        yield record("shared", turn.unit, " ".join(turn.trust), turn.own, *turn.others)
    if rule := step.not_newer:
        program = (rule.program.path, rule.program.target)
        yield record("not_newer", *program, rule.version, rule.kubeconfig, *rule.servers)
    if rolls := step.rolling:
        pairs = (f"{link.path}={link.target}" for link in rolls.programs)
        yield record("rolls", rolls.node, rolls.kubeconfig, rolls.lookout, *pairs)
    if step.alone:
        yield record("alone")
    settings = [_setting(name, value) for name, value in step.settings.items()]
    if step.begin:
        yield from (*settings, record("run", step.begin))
    if step.keeps:
        yield record("keeps", *step.keeps)
    for kind in things.PROGRAMS:
        yield from kind.records(step, material)
    if step.membership:
        yield member(step.membership)
    for kind in things.REST:
        yield from kind.records(step, material)
    if step.outcome:
        yield _setting("outcome", step.outcome)
    if step.script:
        yield from (*settings, record("run", step.script))


def member(membership: Membership) -> str:
    """The record that lets a member of etcd start, makes it join anew, or refuses it."""
    own = (membership.unit, membership.name, membership.peer, membership.ready)
    places = (membership.data, membership.marker, membership.once, membership.removed)
    asks = (membership.program, *membership.trust, membership.own)
    pairs = " ".join(f"{name}={peer}" for name, peer in membership.members.items())
    founders = " ".join(membership.founders)
    return record("member", *own, *places, *asks, pairs, founders, *membership.others)


def _setting(name: str, value: str) -> str:
    if "\n" in value or "\t" in value:
        return record("setting", name) + content(f"{value}\n")
    return record("setting", name, value)
