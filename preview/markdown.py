"""A review as Markdown for a comment on a pull request: a summary, then folded details.

Texts from files, names and sentences are escaped, so that they cannot leave their fence or cell.
Where the whole is longer than the limit, names take precedence over contents, and short
differences over long ones.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from html import escape

from preview import words
from preview.change import Verb
from preview.difference import unified
from preview.outline import Fold, Leaf, fitted
from preview.review import (
    CertificateChange,
    FileChange,
    LineChange,
    MachineReview,
    ResourceLine,
    Review,
    StepChange,
)
from preview.visible import flat, visible
from preview.words import SIGN, STATE, number

LIMIT = 65_536
"""The most characters of a comment on GitHub."""
_SPARE = 64
"""1/64 of the limit stays free for lines that a caller adds around the review."""

_ROWS = 24
"""The most rows of a table or list in the summary; further rows are only counted."""
_SOME = 3
"""The most names of alike machines that are written out."""
_WIDE = 800
"""The most characters of a line or sentence that are shown; the page shows all of them."""

_Shown = dict[tuple[object, ...], str]
"""The shown form of a file, or the other lines of a step, mapped to the first machine with it."""

_SUMMARY, _NAMES = 0, 1
"""Ranks of pieces where there is not enough room for all: a lower rank comes first. Contents come
after both, the shortest first."""


def markdown(review: Review, limit: int = LIMIT) -> str:
    """The review in at most ``limit`` characters; tables, fences and folds are never cut."""
    budget = limit - limit // _SPARE
    if words.silent(review):
        whole = Fold("", "", (Leaf(_SUMMARY, (_nothing(review),)),))
    else:
        whole = Fold("", "", (*_summary(review), *_details(review)))
    return fitted(whole, budget, _left_out)


def _left_out(files: int, machines: int, others: int, contents: int) -> str:
    """The line that counts what is left out because of the limit (``preview.outline.LeftOut``)."""
    left = []
    if files:
        left.append(f"{number(files, 'more file')} on {number(machines, 'machine')}")
    if others:
        left.append(number(others, "more line"))
    if contents:
        left.append(f"the contents of {number(contents, 'file')}")
    return f"\n... and {words.listed(left)}; see the page.\n"


# -- the summary ---------------------------------------------------------------------------------


def _nothing(review: Review) -> str:
    stay = f"{number(review.unchanged, 'resource')} {'stays' if review.unchanged == 1 else 'stay'}"
    sentences = [f"{stay} as {'it is' if review.unchanged == 1 else 'they are'}.", *review.notes]
    return f"### {_code(review.cluster)}: nothing changes\n{' '.join(map(_text, sentences))}\n"


def _summary(review: Review) -> Iterator[Leaf | Fold]:
    yield Leaf(_SUMMARY, (f"### {_code(review.cluster)}: what this change does\n\n",))
    yield Leaf(_SUMMARY, (f"{_text(words.headline(review))}\n\n",))
    facts = [f"Kubernetes {_text(words.versions(review))}"]
    if compared := words.compared(review):
        facts.append(f"compared: {_text(compared)}")
    yield Leaf(_SUMMARY, (f"{' · '.join(facts)}\n\n",))
    yield from _dangers(review)
    yield from _machine_table(review)
    yield _list(
        "Restarts, in this order:",
        (
            f"{_some(names)}: {_codes(services)}, {_text(how)}"
            for services, how, names in words.restarts(review)
        ),
    )
    yield _list("About this preview:", map(_text, review.notes))


def _dangers(review: Review) -> Iterator[Fold]:
    yield _list(
        "**Rules that this change breaks:**",
        (
            f"**{_code(finding.rule)}** "
            f"{_code(finding.resource) + ': ' if finding.resource else ''}"
            f"{_text(finding.sentence)}"
            for finding in review.findings
        ),
    )
    yield _list(
        "What it means:",
        (
            f"**{words.SEVERITY[consequence.severity]}:** {_text(consequence.sentence)}"
            for consequence in review.consequences
        ),
    )


def _list(title: str, items: Iterable[str]) -> Fold:
    """A list of at most ``_ROWS`` items under a title."""
    every = list(items)
    rows = [f"- {item}\n" for item in every[:_ROWS]]
    if len(every) > _ROWS:
        rows.append(f"- and {len(every) - _ROWS} more\n")
    return Fold(f"{title}\n\n", "\n", tuple(Leaf(_SUMMARY, (row,)) for row in rows))


def _machine_table(review: Review) -> Iterator[Fold]:
    """A table with a row for each machine that changes.

    Where many machines change, machines with the same changes share a row.
    """
    rows: dict[tuple[str, ...], list[MachineReview]] = {}
    many = len(review.changed) > _ROWS // 2
    for machine in review.changed:
        own = () if many else (machine.name,)
        rows.setdefault(
            (machine.verb, words.roles(machine.roles), _happens(machine), *own), []
        ).append(machine)
    lines = [_machine_row(alike) for alike in rows.values()]
    if len(lines) > _ROWS:
        lines[_ROWS:] = [f"| | and {len(lines) - _ROWS} rows more | | | |\n"]
    same = len(review.machines) - len(review.changed)
    if lines and same:
        lines.append(
            f"| = | {number(same, 'other machine')} | | | {'stays' if same == 1 else 'stay'} |\n"
        )
    head = "| | machine | address | roles | what happens |\n|---|---|---|---|---|\n"
    yield Fold(head, "\n", tuple(Leaf(_SUMMARY, (row,)) for row in lines))


def _machine_row(alike: list[MachineReview]) -> str:
    first = alike[0]
    addresses = ", ".join(_text(machine.address) for machine in alike)
    if len(alike) > _SOME:
        addresses = f"{_text(first.address)} to {_text(alike[-1].address)}"
    what = _happens(first)
    cells = (
        SIGN[first.verb],
        _some(machine.name for machine in alike),
        addresses,
        _text(words.roles(first.roles)),
        STATE[first.verb] + (f": {_text(what)}" if what else ""),
    )
    return f"| {' | '.join(cells)} |\n"


def _happens(machine: MachineReview) -> str:
    """A short count of what changes on a machine, and the services that restart."""
    files = sum(len(step.files) for step in machine.steps)
    counts = [
        number(count, name)
        for count, name in (
            (len(machine.resources), "resource"),
            (len(machine.steps), "step"),
            (files, "file"),
            (len(machine.certificates), "certificate"),
        )
        if count
    ]
    restarts = dict.fromkeys(name for step in machine.steps for name in step.restarts)
    if restarts and machine.verb is Verb.UPDATE:
        counts.append("restarts " + words.listed(restarts))
    return ", ".join(counts)


# -- the details ---------------------------------------------------------------------------------


def _details(review: Review) -> Iterator[Fold]:
    shown: _Shown = {}
    for machine in review.machines:
        inside: tuple[Leaf | Fold, ...] = (
            *_resource_lines(machine.resources),
            *(_step(step, machine.name, shown) for step in machine.steps),
            _certificates(machine.certificates),
        )
        title = f"<b>{_html(machine.name)}</b> {_html(machine.address)}, {STATE[machine.verb]}"
        if what := _happens(machine):
            title += f": {_html(what)}"
        yield _fold(f"{SIGN[machine.verb]} {title}", inside)
    yield _fold(
        "<b>The cluster as a whole</b>",
        (
            *_resource_lines(review.resources),
            *(_step(step, "the cluster", shown) for step in review.steps),
            _certificates(review.certificates),
        ),
    )
    yield _fold(
        f"<b>Programs and images</b>: {len(review.artifacts)}",
        tuple(Leaf(_NAMES, (f"- {_line(artifact)}\n",)) for artifact in review.artifacts),
    )


def _fold(title: str, inside: tuple[Leaf | Fold, ...]) -> Fold:
    return Fold(f"<details><summary>{title}</summary>\n\n", "\n</details>\n\n", inside)


def _resource_lines(resources: Iterable[ResourceLine]) -> Iterator[Leaf]:
    for resource in resources:
        why = f": {_text('; '.join(resource.why.splitlines()))}" if resource.why else ""
        description = f"{_text(resource.kind)} {_code(resource.name)} {STATE[resource.verb]}{why}"
        yield Leaf(_NAMES, (f"{_code(SIGN[resource.verb])} {description}\n\n",))


def _certificates(certificates: Iterable[CertificateChange]) -> Fold:
    head = "| | certificate | of | why |\n|---|---|---|---|\n"
    rows = []
    for certificate in certificates:
        why = STATE[certificate.verb] + (f": {_text(certificate.why)}" if certificate.why else "")
        cells = (SIGN[certificate.verb], _code(certificate.name), _text(certificate.holder), why)
        rows.append(Leaf(_NAMES, (f"| {' | '.join(cells)} |\n",)))
    return _fold(f"Certificates: {len(rows)}", (Fold(head, "\n", tuple(rows)),))


def _step(step: StepChange, machine: str, shown: _Shown) -> Fold:
    bare = not (step.files or step.lines)
    shown_as = _text if bare else _html
    parts = [f"step <b>{shown_as(step.name)}</b>"]
    if step.files:
        parts.append(number(len(step.files), "file"))
    if step.restarts:
        parts.append("restarts " + shown_as(words.listed(step.restarts)))
    if step.why:
        parts.append(shown_as(step.why))
    if step.hidden:
        parts.append("its data contain keys and are not shown")
    title = ", ".join(parts)
    if bare:
        return Fold("", "", (Leaf(_NAMES, (f"{_code(SIGN[step.verb])} {title}\n\n",)),))
    lines = Fold("", "\n", tuple(_lines(step, machine, shown)))
    return _fold(f"{SIGN[step.verb]} {title}", (lines, *_files(step, machine, shown)))


def _lines(step: StepChange, machine: str, shown: _Shown) -> Iterator[Leaf]:
    first = shown.setdefault(step.lines, machine)
    if first != machine and len(step.lines) > 1:
        yield Leaf(_NAMES, (f"- {len(step.lines)} lines as on {_code(first)}\n",))
    else:
        yield from (Leaf(_NAMES, (f"- {_line(line)}\n",)) for line in step.lines)


def _line(line: LineChange) -> str:
    if line.before is None or line.after is None:
        verb = Verb.CREATE if line.before is None else Verb.DELETE
        return f"{_code(SIGN[verb])} {_text(line.what)} {_code(line.after or line.before or '')}"
    return f"{_code('~')} {_text(line.what)} {_code(line.before)} to {_code(line.after)}"


def _files(step: StepChange, machine: str, shown: _Shown) -> Iterator[Leaf]:
    """The files of a step. A difference is shown once; further machines only name its file."""
    again: dict[str, list[str]] = {}
    for file in step.files:
        same = (*_titled(file), tuple(unified(file.before, file.after)))
        if (first := shown.setdefault(same, machine)) != machine:
            again.setdefault(first, []).append(_code(f"{SIGN[file.verb]} {file.path}"))
            continue
        name, modes, difference = same
        title = f"{_code(name)} {modes}"
        plus, minus = (sum(line[0] == sign for line in difference) for sign in "+-")
        short = f"{title}, {plus} lines more, {minus} less: see the page\n\n"
        yield Leaf(_NAMES, (short, f"{title}\n\n{_fence(file, difference)}\n"), 1, machine)
    for first, names in again.items():
        text = f"As on {_code(first)}: {', '.join(names)}\n\n"
        yield Leaf(_NAMES, (text,), len(names), machine)


def _titled(file: FileChange) -> tuple[str, str]:
    """The sign with the path, and a phrase with the modes and the services that restart."""
    modes = [mode for mode in dict.fromkeys((file.before_mode, file.after_mode)) if mode]
    remarks = [" to ".join(map(_text, modes))] if modes else []
    if file.restarts:
        remarks.append(f"restarts {_codes(file.restarts)}")
    return f"{SIGN[file.verb]} {file.path}", ", ".join(remarks)


def _fence(file: FileChange, difference: Iterable[str]) -> str:
    """The difference in a fence that is longer than any run of backticks in its text."""
    lines = [_short(line) for line in visible("\n".join(difference)).split("\n")]
    if lines == [""]:
        return "The content stays as it is.\n" if file.verb is Verb.UPDATE else "It is empty.\n"
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}diff", *lines, fence]) + "\n"


# -- escaping and shortening ---------------------------------------------------------------------


def _short(text: str) -> str:
    more = len(text) - _WIDE
    return text if more <= 0 else f"{text[:_WIDE]}⟨{number(more, 'more character')}⟩"


@lru_cache(maxsize=4096)
def _html(text: str) -> str:
    """The text escaped for a line with HTML tags, where Markdown is not interpreted."""
    escaped = escape(_short(flat(text)), quote=False)
    # An invisible word joiner keeps GitHub from making a mention or a link of the text.
    return re.sub(r"(@|:(?=//)|\bwww(?=\.))", "\\1\u2060", escaped, flags=re.IGNORECASE)


@lru_cache(maxsize=4096)
def _text(text: str) -> str:
    """The text escaped for a sentence or a cell: without Markdown, HTML, links and mentions."""
    escaped = re.sub(r"([\\`*_\[\]~#$])", r"\\\1", _html(text)).replace("|", "&#124;")
    return re.sub(r"^(\d*)([-+.)=]+)(?=\s|$)", r"\1\\\2", escaped)


def _code(text: str) -> str:
    """The text as inline code."""
    plain = flat(text)
    if re.fullmatch(r"[A-Za-z0-9 ./:_@+~=,()'!-]{1,200}", plain):
        return f"`{plain}`"
    return f"<code>{_text(plain)}</code>"


def _some(names: Iterable[str]) -> str:
    """The first few names, and the number of the others."""
    every = list(names)
    if len(every) <= _SOME:
        return _codes(every)
    return f"{', '.join(map(_code, every[:_SOME]))} and {len(every) - _SOME} more"


def _codes(names: Iterable[str]) -> str:
    return words.listed(_code(name) for name in names)
