"""A review as one self-contained HTML page: it needs no server, no network and no second file.

The page contains the text of each file once, as ranges of a table of lines, however many machines
have the file. All texts are data: the script reads them as JSON and inserts them as text. A policy
in the page's head blocks every script, style, picture and request that is not part of the page.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from html import escape
from importlib.resources import files
from itertools import groupby
from string import Template
from typing import Any

from preview import palette, words
from preview.change import Verb
from preview.difference import hunks, lines
from preview.picture import RULES, drawing
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

_PARTS = files("preview") / "page"


def page(review: Review) -> str:
    """The text of the HTML file."""
    style = palette.variables() + _part("page.css") + _scoped(RULES)
    script = _part("page.js")
    return Template(_part("page.html")).substitute(
        policy=_policy(style, script),
        title=_text(f"{review.cluster}: {words.headline(review)}"),
        cluster=_text(review.cluster),
        headline=_text("Nothing changes" if words.silent(review) else words.machines(review)),
        facts=" · ".join(_facts(review)),
        said=_statements(review),
        picture=drawing(review),
        data=_embedded(data(review)),
        style=style,
        script=script,
    )


def _part(name: str) -> str:
    return (_PARTS / name).read_text()


def _policy(style: str, script: str) -> str:
    """The content security policy: only the page's own style and script, named by their digests."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types"
    )


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _scoped(rules: str) -> str:
    """The CSS rules of the picture, limited to the picture."""
    return f".picture svg {{\n{rules}}}\n"


def _embedded(value: Any) -> str:
    """The value as JSON that cannot end the script element around it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _text(text: str) -> str:
    return escape(flat(text))


# -- parts that need no script -------------------------------------------------------------------


def _facts(review: Review) -> Iterator[str]:
    yield f"Kubernetes {_text(words.versions(review))}"
    if compared := words.compared(review):
        yield f"compared: {_text(compared)}"
    if counts := words.resources(review):
        yield f"resources: {counts}"


def _statements(review: Review) -> str:
    """A list of findings, consequences, restarts and notes, the most severe first."""
    rows = [
        ("danger", finding.rule, _finding(finding.resource, finding.sentence))
        for finding in review.findings
    ]
    rows += [
        (consequence.severity, words.SEVERITY[consequence.severity], consequence.sentence)
        for consequence in review.consequences
    ]
    for services, how, names in words.restarts(review):
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        where = ", ".join(names[:8]) + more
        rows.append(("note", "Restarts", f"{words.listed(services)} on {where}, {how}"))
    rows += [("note", "Note", note) for note in review.notes]
    items = (
        f'<li class="{kind}"><b>{_text(title)}</b><span>{_text(sentence)}</span></li>'
        for kind, title, sentence in rows
    )
    return f'<ul class="said">{"".join(items)}</ul>' if rows else ""


def _finding(resource: str, sentence: str) -> str:
    return f"{resource}: {sentence}" if resource else sentence


# -- data for the script -------------------------------------------------------------------------


def data(review: Review) -> dict[str, Any]:
    """The review as plain values for ``page.js``; each text, file and step occurs once."""
    interned = _Interned()
    whole = MachineReview(
        name="The cluster as a whole",
        address="",
        roles=(),
        verb=Verb.UPDATE,
        memory=0,
        cpus=0,
        disk=0,
        resources=review.resources,
        steps=review.steps,
        certificates=review.certificates,
    )
    return {
        "machines": [interned.machine(machine) for machine in review.machines],
        "cluster": interned.machine(whole),
        "artifacts": [_line(artifact) for artifact in review.artifacts],
        "steps": interned.steps.values,
        "files": interned.files.values,
        "diffs": interned.diffs.values,
        "texts": interned.texts.values,
        "lines": list(interned.lines),
        "silent": words.silent(review),
    }


@dataclass
class _Table:
    """A list without duplicates; other values refer to an item by its index."""

    values: list[Any] = field(default_factory=list)
    _places: dict[Hashable, int] = field(default_factory=dict)

    def index(self, key: Hashable, make: Callable[[], Any]) -> int:
        if key not in self._places:
            value = make()
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


@dataclass
class _Interned:
    """The tables of lines, texts, differences, files and steps that machines share."""

    lines: dict[str, int] = field(default_factory=dict)
    texts: _Table = field(default_factory=_Table)
    """Texts as ranges of lines: first, count, first, count."""
    diffs: _Table = field(default_factory=_Table)
    """Differences as hunks of four line numbers each."""
    files: _Table = field(default_factory=_Table)
    steps: _Table = field(default_factory=_Table)

    def machine(self, review: MachineReview) -> dict[str, Any]:
        size = f"{review.cpus} CPU, {words.mebibytes(review.memory)}, {review.disk} GiB disk"
        return {
            "name": flat(review.name),
            "address": flat(review.address),
            "roles": flat(words.roles(review.roles)),
            "verb": review.verb,
            "size": size if review.cpus else "",
            "steps": [self.step(change) for change in review.steps],
            "resources": [_resource(line) for line in review.resources],
            "certificates": [_certificate(row) for row in review.certificates],
        }

    def step(self, step: StepChange) -> int:
        # The resource's name contains the machine's name. Without the resource's name, equal steps
        # of different machines share one entry.
        return self.steps.index(
            replace(step, resource=""),
            lambda: {
                "name": flat(step.name),
                "verb": step.verb,
                "files": [self.file(change) for change in step.files],
                "lines": [_line(line) for line in step.lines],
                "hidden": step.hidden,
                "restarts": _names(step.restarts),
                "why": flat(step.why),
            },
        )

    def file(self, file: FileChange) -> int:
        return self.files.index(
            file,
            lambda: {
                "path": flat(file.path),
                "verb": file.verb,
                "before": self.text(file.before),
                "after": self.text(file.after),
                "modes": [flat(file.before_mode), flat(file.after_mode)],
                "restarts": _names(file.restarts),
                "diff": self.diff(file.before, file.after),
            },
        )

    def text(self, text: str | None) -> int | None:
        if text is None:
            return None
        return self.texts.index(
            text,
            lambda: list(
                _ranges([self.lines.setdefault(line, len(self.lines)) for line in _shown(text)])
            ),
        )

    def diff(self, before: str | None, after: str | None) -> int:
        return self.diffs.index(
            (before, after),
            lambda: [number for hunk in hunks(_shown(before), _shown(after)) for number in hunk],
        )


def _shown(text: str | None) -> list[str]:
    return lines(visible(text)) if text else []


def _ranges(numbers: Iterable[int]) -> Iterator[int]:
    """Runs of consecutive numbers, each as its first number and its length."""
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        numbers_of_run = [number for _, number in run]
        yield numbers_of_run[0]
        yield len(numbers_of_run)


def _line(change: LineChange) -> list[str | None]:
    return [
        flat(change.what),
        *(None if text is None else flat(text) for text in (change.before, change.after)),
    ]


def _resource(resource: ResourceLine) -> list[str]:
    return [resource.verb, flat(resource.name), flat(resource.kind), visible(resource.why)]


def _certificate(certificate: CertificateChange) -> list[str]:
    return [
        certificate.verb,
        flat(certificate.name),
        flat(certificate.holder),
        flat(certificate.why),
    ]


def _names(names: Iterable[str]) -> str:
    return flat(words.listed(names))
