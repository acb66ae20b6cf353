"""The exception of a condition that does not hold."""

from collections.abc import Iterable

MOST = 3
"""The largest number of failures that a message lists one by one."""


class Unmet(Exception):
    """A condition does not hold; the text is one sentence without its full stop."""

    def __init__(self, sentence: str, *, wholly: bool = False) -> None:
        super().__init__(sentence)
        self.wholly = wholly
        """Whether nothing that the condition requires is there."""


def demand(failures: Iterable[str], *, wholly: bool = False) -> None:
    """Raises Unmet with the failures, if there are any."""
    if sentences := list(failures):
        more = [f"and {len(sentences) - MOST} more"] if len(sentences) > MOST else []
        raise Unmet("; ".join(sentences[:MOST] + more), wholly=wholly)
