"""Exit codes of the commands that query a cluster.

This module imports only the standard library, since the script ``hardway`` imports it.
"""

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit code of such a command; ``status`` uses only WELL and WARNED."""

    WELL = 0
    WRONG = 1
    """The cluster is broken, or a machine or an object has drifted."""
    WARNED = 2
    """The cluster can be used, but a condition fails or a certificate ends soon."""
    UNASKED = 3
    """There is no complete answer: the lab does not run, the stack's file has mistakes, the stack
    is not up, or a machine or the API does not answer."""


ASKING = ("validate", "drift", "hosts", "addons")
"""The commands whose exit code WRONG is about the cluster, and not about a failure of theirs."""


def failure(arguments: Sequence[str]) -> int:
    """The exit code of a command line whose command cannot do its work."""
    verb = next((argument for argument in arguments if not argument.startswith("-")), "")
    return int(ExitCode.UNASKED if verb in ASKING else ExitCode.WRONG)
