"""The words and signs with which every report says what happens."""

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
"""Beside every colour, for whoever does not see it."""

STATE = {
    Verb.CREATE: "new",
    Verb.UPDATE: "changes",
    Verb.REPLACE: "made anew",
    Verb.DELETE: "removed",
    Verb.SAME: "stays",
}
"""What is with a thing, in a table's cell."""

PASSIVE = {
    Verb.CREATE: "added",
    Verb.UPDATE: "changed",
    Verb.REPLACE: "made anew",
    Verb.DELETE: "removed",
    Verb.SAME: "left alone",
}
"""What is done with things, in a sentence."""

ROLE = {"etcd": "etcd", "control-plane": "control plane", "node": "node"}

SEVERITY = {Severity.DANGER: "Danger", Severity.NOTICE: "Notice", Severity.FINE: "Fine"}
"""The worst first."""


def number(count: int, one: str, many: str = "") -> str:
    """Such as ``1 machine`` or ``3 machines``."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def listed(parts: Iterable[str]) -> str:
    """Such as ``a, b and c``."""
    *most, last = list(parts) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def roles(names: Iterable[str]) -> str:
    """Such as ``etcd, control plane, node``."""
    return ", ".join(ROLE.get(name, name) for name in names)


def mebibytes(count: int) -> str:
    """Such as ``2 GiB`` or ``512 MiB``."""
    return f"{count / 1024:g} GiB" if count >= 1024 and count % 256 == 0 else f"{count} MiB"


def silent(review: Review) -> bool:
    """Whether there is nothing to tell but that nothing happens."""
    return review.empty and not review.changed and not review.findings


def headline(review: Review) -> str:
    """What happens, in one sentence."""
    if silent(review):
        return "Nothing changes."
    counts = f" (resources: {resources(review)})" if resources(review) else ""
    return f"{machines(review)}{counts}."


def machines(review: Review) -> str:
    """What happens to machines: a sentence without its full stop."""
    count = Counter(one.verb for one in review.changed)
    if not count:
        return "No machine is touched"
    first, *others = (verb for verb in Verb if count[verb])
    verbs = [f"{number(count[first], 'machine')} {_is(count[first])} {PASSIVE[first]}"]
    verbs += [f"{count[verb]} {_is(count[verb])} {PASSIVE[verb]}" for verb in others]
    return listed(verbs)


def resources(review: Review) -> str:
    """How many resources by what is done with them, such as ``3 changed, 39 left alone``."""
    counts = {**review.counts, Verb.SAME: review.unchanged}
    return ", ".join(f"{counts[verb]} {PASSIVE[verb]}" for verb in Verb if counts.get(verb))


def versions(review: Review) -> str:
    """Kubernetes' version, or both where it changes."""
    before, after = review.kubernetes
    return f"{before} to {after}" if before and before != after else after


def restarts(review: Review) -> Iterator[tuple[tuple[str, ...], str, list[str]]]:
    """Services, how they are restarted, and the machines on which that comes next."""
    for (services, how), alike in groupby(
        review.disturbances, key=lambda one: (one.services, one.how)
    ):
        yield services, how, [one.machine for one in alike]


def compared(review: Review) -> str:
    """Which two states, or nothing where nobody says."""
    if review.before and review.after:
        return f"{review.before} to {review.after}"
    return review.before or review.after


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
