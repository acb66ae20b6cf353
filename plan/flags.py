"""What the flags of a program say about the machine it runs on."""

from collections.abc import Mapping


def files_named(flags: Mapping[str, str]) -> tuple[str, ...]:
    """The configuration, keys and certificates that flags name, all of them under ``/etc``."""
    return tuple(sorted({value for value in flags.values() if value.startswith("/etc/")}))
