"""Renders a step as data that ``scripts/step.sh`` reads on the machine.

The data are records, each a line of fields with a tab between two of them. The first field says
what the record is. Lines of two spaces and a text, after a record, are the lines of its content: of
a file, of a unit, or of a value with several lines. A line of a plan's file is a line of the data,
so a preview of the engine shows the lines that change.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from plan import library, unit
from plan.library import script
from plan.limits import HARD, LIMITS
from plan.model import Artifact, File, Membership, SecretFile, Source, Step, Unit

Material = Callable[[Source], str]
"""Returns the content of a secret file, given the file's source."""

INDENT = "  "
"""Begins each line of a record's content."""

STEP, END = "step", "end"
"""The first and the last record of a step: the first has its name and the scripts that it uses;
without the last one the data are not whole."""


def text(step: Step, material: Material | None = None) -> str:
    """The data of a step.

    A step without secrets saves its data on the machine, for people to read. ``material`` supplies
    the content of secret files. Raises ValueError where a step has such files and no material is
    given.
    """
    first = _record(STEP, step.name, *used(step))
    return "".join((first, *_records(step, material), _record(END)))


def command(step: Step) -> str:
    """The command line that runs a step."""
    return library.command(limit(step), used(step))


LEAVE = "leave"
"""The script that takes away what a step brought that has left a machine's plan."""


def leaving(name: str) -> str:
    """The command line that runs when the engine deletes the step of this name."""
    scripts = ("pace", "prelude", "absence", LEAVE)
    pairs = " ".join(f"{wait}={seconds}" for wait, seconds in limits(scripts).items())
    script = f"{library.PLACE}/{library.FOLDER.name}/{LEAVE}.sh"
    limit = _seconds(scripts)
    return f"timeout -k 10 {limit} bash -euo pipefail {script} {name} {HARD} {pairs}"


def used(step: Step) -> tuple[str, ...]:
    """The scripts that a step uses, besides the one that runs it."""
    names = {
        "pace": True,
        "prelude": True,
        "absence": step.alone,
        "skew": step.not_newer is not None,
        "admin": step.admin,
        "member": step.membership is not None,
        "turn": bool(step.turns),
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
    yield _record("limits", str(HARD), *pairs)
    for turn in step.turns:
        yield _record("lock_at", ",".join(turn.lock), *turn.lock_trust)
        yield _record("shared", turn.unit, " ".join(turn.trust), turn.own, *turn.others)
    if rule := step.not_newer:
        program = (rule.program.path, rule.program.target)
        yield _record("not_newer", *program, rule.version, rule.kubeconfig, *rule.servers)
    if step.alone:
        yield _record("alone")
    settings = [_setting(name, value) for name, value in step.settings.items()]
    if step.begin:
        yield from (*settings, _record("run", step.begin))
    if step.packages:
        yield _record("packages", *step.packages)
    for name in step.users:
        yield _record("user", name)
    for artifact in step.artifacts:
        yield _artifact(artifact)
    if any(artifact.sha256 is None for artifact in step.artifacts):
        yield _record("unpacked")
    if step.membership:
        yield member(step.membership)
    for directory in step.directories:
        yield _record("directory", f"{directory.mode:04o}", directory.owner, directory.path)
    for file in step.files:
        yield _file("file", file, file.content)
    for secret in step.secret_files:
        if material is None:
            raise ValueError(f"the step {step.name} needs keys to be rendered")
        yield _file("secret", secret, material(secret.source))
    if step.secret_files:
        yield _record("in_place")
    if step.keeps:
        yield _record("keeps", *step.keeps)
    for link in step.links:
        yield _record("link", link.path, link.target)
    if step.masked:
        yield _record("masked", *step.masked)
    for service in step.units:
        yield _record("unit", service.name, *started_with(service)) + _content(unit.text(service))
    if step.units:
        yield _record("settle")
    if step.outcome:
        yield _setting("outcome", step.outcome)
    if step.script:
        yield from (*settings, _record("run", step.script))


def member(membership: Membership) -> str:
    """The record that lets a member of etcd start, makes it join anew, or refuses it."""
    own = (membership.unit, membership.name, membership.peer, membership.ready)
    places = (membership.data, membership.marker, membership.once, membership.removed)
    return _record(
        "member", *own, *places, membership.program, *membership.trust, *membership.others
    )


def started_with(service: Unit) -> tuple[str, ...]:
    """The paths whose change restarts a service, in addition to its unit file."""
    return tuple(dict.fromkeys((service.program, *service.needs)))


def _artifact(artifact: Artifact) -> str:
    mode = "0555" if artifact.kind == "binary" else "0444"
    if artifact.sha256:
        return _record("artifact", artifact.name, artifact.sha256, mode, *artifact.urls)
    assert artifact.archive is not None
    archive = artifact.archive
    return _record("archived", artifact.name, archive.digest, archive.member, mode, archive.url)


def _file(kind: str, file: File | SecretFile, content: str) -> str:
    return _record(kind, f"{file.mode:04o}", file.owner, file.path) + _content(content)


def _setting(name: str, value: str) -> str:
    if "\n" in value or "\t" in value:
        return _record("setting", name) + _content(f"{value}\n")
    return _record("setting", name, value)


def _record(*fields: str) -> str:
    """Raises ValueError for a field with a tab or a newline."""
    line = "\t".join(fields)
    if "\n" in line or line.count("\t") != len(fields) - 1:
        raise ValueError(f"a field of a record has a tab or a newline: {fields!r}")
    return f"{line}\n"


def _content(text: str) -> str:
    """The lines of a record's content.

    Raises ValueError where the text does not end with a newline, has a NUL or has the character
    with which ``scripts/step.sh`` joins the lines.
    """
    if not text.endswith("\n") or "\0" in text or "\1" in text:
        raise ValueError("the content of a file must be text that ends with a newline")
    return "".join(f"{INDENT}{line}\n" for line in text[:-1].split("\n"))
