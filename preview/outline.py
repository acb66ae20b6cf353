"""Fits a text of many parts into a limited length: chooses the parts and counts those left out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Leaf:
    """A piece of text that is shown in one of its forms, or not at all."""

    rank: int
    """Pieces of a lower rank get room first."""
    forms: tuple[str, ...]
    """The forms from the shortest to the full text; each form closes the markup that it opens."""
    files: int = 0
    """The number of files that the piece describes."""
    machine: str = ""


@dataclass(frozen=True, eq=False)
class Fold:
    """Pieces between an opening and a closing text.

    Both are written only where at least one of the pieces is shown.
    """

    opening: str
    closing: str
    inside: "tuple[Leaf | Fold, ...]"


LeftOut = Callable[[int, int, int, int], str]
"""Makes the line about what is left out, from four counts: files that are not shown, their
machines, other pieces that are not shown, and pieces that are shown in a shorter form."""


@dataclass
class _Choice:
    """The pieces chosen so far, and the room in characters that is left."""

    room: int
    form: dict[Leaf, int] = field(default_factory=dict)
    opened: set[Fold] = field(default_factory=set)

    def add(self, leaf: Leaf, above: tuple[Fold, ...]) -> None:
        """Show the shortest form and the folds around it, if there is room for them."""
        new = [fold for fold in above if fold not in self.opened]
        cost = len(leaf.forms[0]) + sum(len(fold.opening) + len(fold.closing) for fold in new)
        if cost <= self.room:
            self.room -= cost
            self.form[leaf] = 0
            self.opened.update(new)

    def lengthen(self, leaf: Leaf) -> None:
        """Show the full form instead of the shortest, if there is room for it."""
        cost = len(leaf.forms[-1]) - len(leaf.forms[0])
        if leaf in self.form and cost <= self.room:
            self.room -= cost
            self.form[leaf] = len(leaf.forms) - 1


def fitted(whole: Fold, limit: int, left_out: LeftOut) -> str:
    """The text in at most ``limit`` characters.

    It ends with a line about the pieces that are left out, if there are any.
    """
    leaves = list(_leaves(whole, ()))
    every = sum(leaf.files for leaf, _ in leaves)
    machines = {leaf.machine for leaf, _ in leaves}
    longest = left_out(every, len(machines), len(leaves), len(leaves))
    everything = _Choice(_length(whole))
    choice = everything if everything.room <= limit else _Choice(limit - len(longest))
    for leaf, above in sorted(leaves, key=lambda pair: pair[0].rank):
        choice.add(leaf, above)
    for leaf in sorted((leaf for leaf, _ in leaves), key=lambda leaf: len(leaf.forms[-1])):
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
        for piece in part.inside:
            yield from _leaves(piece, (*above, part))


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
        for piece in part.inside:
            yield from _written(piece, choice)
        yield part.closing
