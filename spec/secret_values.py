"""Secrets that a stack's configuration has beside the cluster, in a mapping of names to values."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from spec.refusal import Refusal, dotted


def not_secret(
    key: str, values: Any, no_mapping: Refusal, change: str, command: Callable[[str], str]
) -> Iterator[Refusal]:
    """The mistakes in a mapping as a stack's file has it: each value must be a secret.

    ``key`` is the mapping's key. Where it is none, ``no_mapping`` says so. Of a value that is in
    plain text, ``change`` says how another one is had, and ``command`` how that is written.
    """
    if values is None:
        return
    if not isinstance(values, Mapping) or _is_secret(values):
        yield no_mapping
        return
    for name, value in values.items():
        if not _is_secret(value):
            yield Refusal(
                dotted((key, name)),
                "is no secret",
                "everybody who sees the stack's file would have it",
                f"leave it out, {change}, and run {command(name)}",
            )


def _is_secret(value: Any) -> bool:
    """Whether ``pulumi config set --secret`` has written the value."""
    return isinstance(value, Mapping) and value.keys() == {"secure"}
