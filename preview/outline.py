"""A text in parts that has less room than it needs: which parts are shown, and what is left out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Leaf:
    """A piece that is shown in one of its forms, or not at all."""

    rank: int
    """Lower ones get their room first."""
    forms: tuple[str, ...]
    """From the shortest to the whole; each closes what it opens."""
    files: int = 0
    """How many files it tells of."""
    machine: str = ""


@dataclass(frozen=True, eq=False)
class Fold:
    """Pieces between an opening and a closing, which are written where some piece is."""

    opening: str
    closing: str
    inside: "tuple[Leaf | Fold, ...]"


LeftOut = Callable[[int, int, int, int], str]
"""Says what is not shown: so many files on so many machines, so many other pieces, and of so many
pieces only a shorter form."""


@dataclass
class _Choice:
    """What is shown so far, and how much room is left for more."""

    room: int
    form: dict[Leaf, int] = field(default_factory=dict)
    opened: set[Fold] = field(default_factory=set)

    def add(self, leaf: Leaf, above: tuple[Fold, ...]) -> None:
        """Show the shortest form where it finds room, with the folds that it is in."""
        new = [fold for fold in above if fold not in self.opened]
        cost = len(leaf.forms[0]) + sum(len(fold.opening) + len(fold.closing) for fold in new)
        if cost <= self.room:
            self.room -= cost
            self.form[leaf] = 0
            self.opened.update(new)

    def lengthen(self, leaf: Leaf) -> None:
        """Show the whole form where it finds room."""
        cost = len(leaf.forms[-1]) - len(leaf.forms[0])
        if leaf in self.form and cost <= self.room:
            self.room -= cost
            self.form[leaf] = len(leaf.forms) - 1


def fitted(whole: Fold, limit: int, left_out: LeftOut) -> str:
    """The text in at most ``limit`` characters; it ends with what is left out, if anything is."""
    leaves = list(_leaves(whole, ()))
    every = sum(leaf.files for leaf, _ in leaves)
    machines = {leaf.machine for leaf, _ in leaves}
    longest = left_out(every, len(machines), len(leaves), len(leaves))
    everything = _Choice(_length(whole))
    choice = everything if everything.room <= limit else _Choice(limit - len(longest))
    for leaf, above in sorted(leaves, key=lambda one: one[0].rank):
        choice.add(leaf, above)
    for leaf in sorted((one for one, _ in leaves), key=lambda one: len(one.forms[-1])):
        choice.lengthen(leaf)
    lost = [leaf for leaf, _ in leaves if leaf not in choice.form]
    short = sum(
        leaf in choice.form and choice.form[leaf] < len(leaf.forms) - 1 for leaf, _ in leaves
    )
    text = "".join(_written(whole, choice))
    if lost or short:
        files = [leaf for leaf in lost if leaf.files]
        text += left_out(
            sum(leaf.files for leaf in files),
            len({leaf.machine for leaf in files}),
            len(lost) - len(files),
            short,
        )
    return text if len(text) <= limit else ""


def _leaves(part: Leaf | Fold, above: tuple[Fold, ...]) -> Iterator[tuple[Leaf, tuple[Fold, ...]]]:
    if isinstance(part, Leaf):
        yield part, above
    else:
        for one in part.inside:
            yield from _leaves(one, (*above, part))


def _length(part: Leaf | Fold) -> int:
    if isinstance(part, Leaf):
        return len(part.forms[-1])
    inside = sum(map(_length, part.inside))
    return inside + len(part.opening) + len(part.closing) if inside else 0


def _written(part: Leaf | Fold, choice: _Choice) -> Iterator[str]:
    if isinstance(part, Leaf):
        if part in choice.form:
            yield part.forms[choice.form[part]]
    elif part in choice.opened:
        yield part.opening
        for one in part.inside:
            yield from _written(one, choice)
        yield part.closing
