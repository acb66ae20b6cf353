"""A review as lines for a terminal: machines with every changed line, then a summary."""

from collections.abc import Iterable, Iterator

from rich.markup import escape

from preview import words
from preview.change import Verb
from preview.difference import unified
from preview.review import (
    CertificateChange,
    FileChange,
    LineChange,
    MachineReview,
    ResourceLine,
    Review,
    Severity,
    StepChange,
)
from preview.visible import flat, visible

COLOUR = {
    Verb.CREATE: "green",
    Verb.UPDATE: "yellow",
    Verb.REPLACE: "bold red",
    Verb.DELETE: "red",
    Verb.SAME: "dim",
}
LOUD = {Severity.DANGER: "bold red", Severity.NOTICE: "yellow", Severity.FINE: "green"}


def shown(review: Review) -> Iterator[str]:
    """The lines of the review, in rich's markup."""
    if words.silent(review):
        kept = words.number(review.unchanged, "resource")
        yield f"[green]Nothing changes[/]: {kept} as before."
        return
    for machine in review.changed:
        yield from _machine(machine)
    for step in review.steps:
        yield from _step(step)
    for line in review.resources:
        yield from _resource(line)
    yield from _certificates(review.certificates)
    yield ""
    yield f"[bold]{escape(flat(words.headline(review)))}[/]"
    for disturbance in review.disturbances:
        services = ", ".join(disturbance.services)
        yield f"  restarts on {escape(disturbance.machine)}: {escape(services)} ({disturbance.how})"
    for consequence in review.consequences:
        colour = LOUD[consequence.severity]
        yield f"  [{colour}]{consequence.severity}[/]: {escape(flat(consequence.sentence))}"
    for finding in review.findings:
        where = f" ({escape(finding.resource)})" if finding.resource else ""
        yield f"  [bold red]{escape(finding.rule)}[/]{where}: {escape(flat(finding.sentence))}"
    for note in review.notes:
        yield f"  [dim]{escape(flat(note))}[/]"


def _signed(verb: Verb, text: str, indent: int = 0) -> str:
    return f"{' ' * indent}[{COLOUR[verb]}]{words.SIGN[verb]}[/] {text}"


def _machine(machine: MachineReview) -> Iterator[str]:
    what = f"[bold]{escape(machine.name)}[/] {machine.address} ({words.roles(machine.roles)})"
    yield _signed(machine.verb, f"{what} {words.STATE[machine.verb]}")
    for line in machine.resources:
        yield from _resource(line, 2)
    yield from _certificates(machine.certificates, 2)
    for step in machine.steps:
        yield from _step(step, 2)


def _resource(line: ResourceLine, indent: int = 0) -> Iterator[str]:
    yield _signed(line.verb, f"{escape(line.kind)} {escape(line.name)}", indent)
    for why in line.why.splitlines():
        yield f"{' ' * indent}    {_coloured(why)}"


def _certificates(certificates: Iterable[CertificateChange], indent: int = 0) -> Iterator[str]:
    for certificate in certificates:
        name, holder, why = certificate.name, certificate.holder, flat(certificate.why)
        sentence = f"certificate {escape(name)} of {escape(holder)}: {escape(why)}"
        yield _signed(certificate.verb, sentence, indent)


def _step(step: StepChange, indent: int = 0) -> Iterator[str]:
    restarts = f", restarts {', '.join(step.restarts)}" if step.restarts else ""
    if step.verb in (Verb.CREATE, Verb.REPLACE):
        restarts = f", starts {', '.join(step.restarts)}" if step.restarts else ""
    why = f": {flat(step.why)}" if step.why else ""
    yield _signed(step.verb, escape(f"step {step.resource}{restarts}{why}"), indent)
    for file in step.files:
        yield from _file(file, indent + 2)
    if step.verb is Verb.UPDATE:
        for line in step.lines:
            yield from _line(line, indent + 2)


def _file(file: FileChange, indent: int) -> Iterator[str]:
    mode = ""
    if file.verb is Verb.UPDATE and file.before_mode != file.after_mode:
        mode = f" ({file.before_mode} -> {file.after_mode})"
    yield _signed(file.verb, escape(flat(file.path) + mode), indent)
    if file.verb is Verb.UPDATE:
        for line in unified(file.before, file.after):
            yield f"{' ' * indent}    {_coloured(line)}"


def _line(line: LineChange, indent: int) -> Iterator[str]:
    for sign, text in (("-", line.before), ("+", line.after)):
        if text is not None:
            yield f"{' ' * indent}{_coloured(f'{sign} {line.what} {text}')}"


def _coloured(line: str) -> str:
    colour = {"-": "red", "+": "green", "@": "dim"}.get(line[:1])
    text = escape(visible(line))
    return f"[{colour}]{text}[/]" if colour else text
