"""The words and signs that all reports use for changes."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from preview.change import Verb
from preview.review import Review, Severity

SIGN = {
    Verb.CREATE: "+",
    Verb.UPDATE: "~",
    Verb.REPLACE: "!",
    Verb.DELETE: "-",
    Verb.SAME: "=",
}
"""The sign beside every colour, for readers who do not see colours."""

STATE = {
    Verb.CREATE: "new",
    Verb.UPDATE: "changes",
    Verb.REPLACE: "made anew",
    Verb.DELETE: "removed",
    Verb.SAME: "stays",
}
"""The state of a resource or machine, for a table's cell."""

PASSIVE = {
    Verb.CREATE: "added",
    Verb.UPDATE: "changed",
    Verb.REPLACE: "made anew",
    Verb.DELETE: "removed",
    Verb.SAME: "left alone",
}
"""The participle of each verb, for a sentence."""

ROLE = {"etcd": "etcd", "control-plane": "control plane", "node": "node"}

SEVERITY = {Severity.DANGER: "Danger", Severity.NOTICE: "Notice", Severity.FINE: "Fine"}
"""The most severe first."""


def number(count: int, noun: str, many: str = "") -> str:
    """A count with its noun, such as ``1 machine`` or ``3 machines``."""
    return f"{count} {noun if count == 1 else many or noun + 's'}"


def listed(parts: Iterable[str]) -> str:
    """The parts as a list, such as ``a, b and c``."""
    *most, last = list(parts) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def roles(names: Iterable[str]) -> str:
    """The names of roles as a list, such as ``etcd, control plane, node``."""
    return ", ".join(ROLE.get(name, name) for name in names)


def mebibytes(count: int) -> str:
    """An amount of memory, such as ``2 GiB`` or ``512 MiB``."""
    return f"{count / 1024:g} GiB" if count >= 1024 and count % 256 == 0 else f"{count} MiB"


def silent(review: Review) -> bool:
    """Whether a review has no change and no finding."""
    return review.empty and not review.changed and not review.findings


def headline(review: Review) -> str:
    """One sentence that sums the review up."""
    if silent(review):
        return "Nothing changes."
    counts = f" (resources: {resources(review)})" if resources(review) else ""
    return f"{machines(review)}{counts}."


def machines(review: Review) -> str:
    """The numbers of changed machines, as a sentence without its full stop."""
    count = Counter(machine.verb for machine in review.changed)
    if not count:
        return "No machine is touched"
    first, *others = (verb for verb in Verb if count[verb])
    verbs = [f"{number(count[first], 'machine')} {_is(count[first])} {PASSIVE[first]}"]
    verbs += [f"{count[verb]} {_is(count[verb])} {PASSIVE[verb]}" for verb in others]
    return listed(verbs)


def resources(review: Review) -> str:
    """The number of resources by verb, such as ``3 changed, 39 left alone``."""
    counts = {**review.counts, Verb.SAME: review.unchanged}
    return ", ".join(f"{counts[verb]} {PASSIVE[verb]}" for verb in Verb if counts.get(verb))


def versions(review: Review) -> str:
    """The version of Kubernetes, or both versions where it changes."""
    before, after = review.kubernetes
    return f"{before} to {after}" if before and before != after else after


def restarts(review: Review) -> Iterator[tuple[tuple[str, ...], str, list[str]]]:
    """The restarts in order: the services, the manner, and the machines with this restart."""
    for (services, how), alike in groupby(
        review.disturbances, key=lambda disturbance: (disturbance.services, disturbance.how)
    ):
        yield services, how, [disturbance.machine for disturbance in alike]


def compared(review: Review) -> str:
    """The names of the two compared states, or an empty text where they are unknown."""
    if review.before and review.after:
        return f"{review.before} to {review.after}"
    return review.before or review.after


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
