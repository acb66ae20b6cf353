"""How a condition says that it does not hold."""

from collections.abc import Iterable

MOST = 3
"""So many of the same kind are told one by one."""


class Unmet(Exception):
    """A condition does not hold; the text is one sentence without its full stop."""

    def __init__(self, sentence: str, *, wholly: bool = False) -> None:
        super().__init__(sentence)
        self.wholly = wholly
        """Whether nothing of what it asks for is there."""


def demand(failures: Iterable[str], *, wholly: bool = False) -> None:
    """Raises Unmet with the failures, if there is one."""
    if found := list(failures):
        more = [f"and {len(found) - MOST} more"] if len(found) > MOST else []
        raise Unmet("; ".join(found[:MOST] + more), wholly=wholly)
