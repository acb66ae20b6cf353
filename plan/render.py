"""Renders a step as the text that a machine's shell runs."""

import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from plan import unit
from plan.limits import HARD, LIMITS
from plan.model import Artifact, File, Membership, SecretFile, Source, Step, Unit
from plan.reading import SAYS_OUTCOME

SCRIPTS = Path(__file__).with_name("scripts")

Material = Callable[[Source], str]
"""Returns the content of a secret file, given the file's source."""

KEPT = "/var/lib/hardway/steps"
"""The directory in which a machine keeps the texts of its steps, for people to read."""


def text(step: Step, material: Material | None = None) -> str:
    """The text that ``bash -euo pipefail -s`` reads from its standard input.

    The text is one ``{ ... }`` block, which bash reads completely before it runs any of it: a text
    that was cut off in transit does nothing. A step without secrets saves its text on the machine.
    ``material`` supplies the content of secret files. Raises ValueError where a step has such files
    and no material is given.
    """
    words = [*_said_first(step), *_words(step, material), *_ending(step)]
    body = "\n".join(words).rstrip("\n") + "\n"
    if step.secret:
        return f"{{\n{body}exit\n}}\n"
    # Two runs may get here at once, before either has the prelude's lock, so each run writes a file
    # of its own.
    kept, new = f"{KEPT}/{step.name}", f"{KEPT}/.{step.name}.$$"
    return (
        f"{{\numask 077\nmkdir -p {KEPT}\ncat >{new} {_heredoc(body)}"
        f"mv {new} {kept}\nexec bash -euo pipefail {kept} </dev/null\n}}\n"
    )


WORK = 1800
"""Seconds, on a quiet machine, for all work of a step that is not a wait, such as downloads."""

WAIT = re.compile(
    r"^[^#\n]*?\b(?:(?:await|await_api|wait_for) ([a-z-]+|\d+)"
    r"|(?:timeout(?: --\S+)*|flock --timeout) (\d+)|limits\[([a-z-]+)\])",
    re.MULTILINE,
)
"""Matches the limit of a wait in a script: its name in ``plan.limits``, or a number of seconds."""

GIVEN = re.compile(r"^declare -A limits=\((.*)\)$", re.MULTILINE)
EACH = re.compile(r"\[(\S+)\]=(\d+)")
"""Match the line of a step's text that declares limits, and each limit in that line."""

SENTENCE = re.compile(r"^failed: (.+)$", re.MULTILINE)
"""Matches the sentence that says why a step failed; a step prints it before all details."""


def failure(said: str) -> str | None:
    """The sentence that says why a step failed; None where the step's output has none."""
    found = SENTENCE.search(said)
    return found[1].strip() if found else None


def seconds(text: str) -> int:
    """The time limit of a whole step, in seconds, after which the step is ended.

    This limit is a safety net: each wait of the step ends earlier, at its hard limit at the latest,
    and prints what the step waited for.
    """
    found = GIVEN.search(text)
    given = dict(EACH.findall(found[1])) if found else {}
    every = (given.get(one, one) for one in _waits(text))
    return HARD * (WORK + sum(int(one) for one in every if one.isdecimal()))


def _waits(text: str) -> list[str]:
    """The limits of all waits in a text: names, or numbers of seconds."""
    return ["".join(each) for each in WAIT.findall(text)]


def limit(step: Step) -> int:
    """The result of ``seconds`` for a step, computed without its keys."""
    own = [script(step.script)] if step.script else []
    return seconds("\n".join([*_said_first(step), *own]))


@cache
def script(name: str) -> str:
    """The text of a file in ``plan/scripts``."""
    return (SCRIPTS / f"{name}.sh").read_text()


def words(*names: str, before: str = "") -> str:
    """The shell functions of these scripts, as they precede the calls in a step's text.

    The result also declares the limits of waits: those that the scripts use, and those that the
    text ``before`` uses, which follows the functions. Raises ValueError for a limit that
    ``plan.limits`` does not have.
    """
    text = "\n".join(map(script, names))
    used = {one for one in _waits(f"{text}\n{before}") if not one.isdecimal()}
    if unknown := used - LIMITS.keys():
        raise ValueError(f"plan/limits.py has no limit {', '.join(sorted(unknown))}")
    limits = " ".join(f"[{name}]={one.seconds}" for name, one in LIMITS.items() if name in used)
    return "\n".join([script("pace"), f"hard={HARD}", f"declare -A limits=({limits})\n", text])


def _said_first(step: Step) -> Iterator[str]:
    """The shell functions that every step has, those that only this step needs, and its turns."""
    names = {
        "prelude": True,
        "skew": step.not_newer is not None,
        "admin": step.admin,
        "member": step.membership is not None,
        "turn": bool(step.turns),
    }
    own = script(step.script) if step.script else ""
    yield words(*(name for name, needed in names.items() if needed), before=own)
    for turn in step.turns:
        yield _line("lock_at", ",".join(turn.lock), *turn.lock_trust)
        yield _line("shared", turn.unit, " ".join(turn.trust), turn.own, *turn.others)


def _words(step: Step, material: Material | None) -> Iterator[str]:
    """The step's data, each part as a call of a shell function."""
    if rule := step.not_newer:
        words = (rule.program.path, rule.program.target, rule.version, rule.kubeconfig)
        yield _line("not_newer", *words, *rule.servers)
    if step.alone:
        yield "alone"
    if step.packages:
        yield _line("packages", *step.packages)
    for name in step.users:
        yield _line("user", name)
    for artifact in step.artifacts:
        yield _artifact(artifact)
    if any(artifact.sha256 is None for artifact in step.artifacts):
        yield "unpacked"
    if step.membership:
        yield member(step.membership)
    for directory in step.directories:
        yield _line("directory", f"{directory.mode:04o}", directory.owner, directory.path)
    for file in step.files:
        yield _file(file, file.content)
    for secret in step.secret_files:
        if material is None:
            raise ValueError(f"the step {step.name} needs keys to be rendered")
        yield _file(secret, material(secret.source), word="secret")
    if step.secret_files:
        yield "in_place"
    for link in step.links:
        yield _line("link", link.path, link.target)
    if step.masked:
        yield _line("masked", *step.masked)
    for one in step.units:
        yield _line("unit", one.name, *started_with(one)) + " " + _heredoc(unit.text(one)).rstrip()
    if step.units:
        yield "settle"


def _ending(step: Step) -> Iterator[str]:
    for name, value in step.settings.items():
        yield f"{name}={shlex.quote(value)}"
    if step.outcome:
        yield f"outcome={shlex.quote(step.outcome)}"
    if step.script:
        yield script(step.script)
    if step.outcome:
        yield SAYS_OUTCOME


def member(one: Membership) -> str:
    """The call that lets a member of etcd start, makes it join anew, or refuses it."""
    own = (one.unit, one.name, one.peer, one.ready)
    places = (one.data, one.marker, one.once, one.removed)
    return _line("member", *own, *places, one.program, *one.trust, *one.others)


def started_with(one: Unit) -> tuple[str, ...]:
    """The paths whose change restarts a service, in addition to its unit file."""
    return tuple(dict.fromkeys((one.program, *one.needs)))


def _artifact(artifact: Artifact) -> str:
    mode = "0555" if artifact.kind == "binary" else "0444"
    if artifact.sha256:
        return _line("artifact", artifact.name, artifact.sha256, mode, *artifact.urls)
    assert artifact.archive is not None
    archive = artifact.archive
    return _line("archived", artifact.name, archive.digest, archive.member, mode, archive.url)


def _file(file: File | SecretFile, content: str, word: str = "file") -> str:
    words = (f"{file.mode:04o}", file.owner, file.path)
    return _line(word, *words) + " " + _heredoc(content).rstrip()


def _line(*words: str) -> str:
    return " ".join(shlex.quote(word) for word in words)


def _heredoc(content: str) -> str:
    """A quoted here-document; its end marker is a line that the content does not have.

    Raises ValueError where the content does not end with one newline or has a NUL.
    """
    if content.rstrip("\n") + "\n" != content or "\0" in content:
        raise ValueError("the content of a file must be text that ends with one newline")
    end = "END"
    lines = set(content.splitlines())
    while end in lines:
        end += "-END"
    return f"<<'{end}'\n{content}{end}\n"
