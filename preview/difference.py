"""The lines that differ between two texts. Only a line feed ends a line."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

CONTEXT = 3
"""The number of equal lines that are shown before and after a difference."""

NO_NEWLINE = "\\ No newline at end of file"


class Hunk(NamedTuple):
    """The lines of ``before`` that lines of ``after`` replace.

    A range counts from 0 and excludes its end.
    """

    before_start: int
    before_end: int
    after_start: int
    after_end: int


def lines(text: str | None) -> list[str]:
    """The lines of a text without their line feeds.

    A last line without a line feed gets one. No other item can contain a line feed, so that line
    differs from the same line that ends with a line feed.
    """
    if not text:
        return []
    *whole, rest = text.split("\n")
    return [*whole, rest + "\n"] if rest else whole


def hunks(before: Sequence[object], after: Sequence[object]) -> list[Hunk]:
    """The hunks that differ, in order."""
    # With ``autojunk`` the matcher would ignore frequent lines of a long file, and the hunks would
    # be too large.
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    return [Hunk(*span) for tag, *span in matcher.get_opcodes() if tag != "equal"]


def unified(before: str | None, after: str | None) -> Iterator[str]:
    """The lines of a unified diff without its file header; each line begins with its sign."""
    for group in _groups(old := lines(before), new := lines(after)):
        first, last = group[0], group[-1]
        yield f"@@ -{_span(first[1], last[2])} +{_span(first[3], last[4])} @@"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from _signed(" ", old[i1:i2])
            else:
                yield from _signed("-", old[i1:i2])
                yield from _signed("+", new[j1:j2])


def _groups(old: list[str], new: list[str]) -> Iterable[list[tuple[str, int, int, int, int]]]:
    if old and new:
        return SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT)
    return [[("replace", 0, len(old), 0, len(new))]] if old or new else []


def _span(start: int, end: int) -> str:
    """A range as ``diff -u`` writes it: counted from 1, and without a length of one."""
    count = end - start
    begin = start + 1 if count else start
    return str(begin) if count == 1 else f"{begin},{count}"


def _signed(sign: str, texts: Iterable[str]) -> Iterator[str]:
    for line in texts:
        yield sign + line.removesuffix("\n")
        if line.endswith("\n"):
            yield NO_NEWLINE
