"""Exit codes of the verbs that ask a cluster. Standard library only: the door imports it."""

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What such a verb says to programs; ``status`` says WELL or WARNED."""

    WELL = 0
    WRONG = 1
    """The cluster is broken, or a machine has drifted."""
    WARNED = 2
    """Usable, but not all is well: a condition fails, or a certificate ends soon."""
    UNASKED = 3
    """The question has no whole answer: the lab does not run, the stack's file has mistakes, the
    stack is not up, or a machine does not answer."""


ASKING = ("validate", "drift")
"""The verbs of which WRONG says something about the cluster, and not about this command."""


def failure(words: Sequence[str]) -> int:
    """The exit code where the verb of a command line cannot do its work."""
    verb = next((word for word in words if not word.startswith("-")), "")
    return int(ExitCode.UNASKED if verb in ASKING else ExitCode.WRONG)
