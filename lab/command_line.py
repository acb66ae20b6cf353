"""Parses a command line of ``pulumi`` as pulumi's own parser (cobra and pflag) does."""

from collections.abc import Sequence
from dataclasses import dataclass

GLOBAL_SWITCHES = frozenset(
    {
        "disable-integrity-checking",
        "emoji",
        "fully-qualify-stack-names",
        "help",
        "logflow",
        "logtostderr",
        "non-interactive",
        "version",
    }
)
"""The options without a value that ``pulumi`` accepts before a verb (``pulumi --help``, 3.259)."""

WITH_VALUE = frozenset(
    {
        "color",
        "config",
        "config-file",
        "copy-config-from",
        "cwd",
        "exclude",
        "file",
        "import-file",
        "import-pending-creates",
        "memprofilerate",
        "message",
        "otel-traces",
        "override-env",
        "parallel",
        "parent",
        "policy-pack",
        "policy-pack-config",
        "profiling",
        "properties",
        "provider",
        "replace",
        "save-plan",
        "secrets-provider",
        "stack",
        "target",
        "target-replace",
        "tracing",
        "type",
        "verbose",
    }
)
"""The options of the stack commands whose value may be the next word."""

LONG = {
    "C": "cwd",
    "Q": "fully-qualify-stack-names",
    "c": "config",
    "e": "emoji",
    "h": "help",
    "m": "message",
    "p": "parallel",
    "s": "stack",
    "t": "target",
    "v": "verbose",
    "x": "exclude",
}
"""Letter to long name of the short options that mean the same in all stack commands."""


@dataclass(frozen=True)
class CommandLine:
    """A parsed command line of ``pulumi``."""

    verbs: tuple[str, ...]
    """The words that are not options: the verb, then its subcommand or arguments."""
    options: tuple[tuple[str, str], ...]
    """Long name and value of each option in order; the value of a switch is empty."""
    at: int | None
    """The index of the verb among the words; None where there is no verb."""

    @property
    def verb(self) -> str:
        """The first verb; empty where there is none."""
        return self.verbs[0] if self.verbs else ""

    @property
    def stack(self) -> str | None:
        """The stack of the last ``--stack``, without its organization and project, or None."""
        named = self.values("stack")
        return named[-1].rpartition("/")[2] if named else None

    def has(self, name: str) -> bool:
        """Whether an option is given."""
        return any(option == name for option, _ in self.options)

    def values(self, name: str) -> list[str]:
        """The values of an option, in order."""
        return [value for option, value in self.options if option == name]


def read(arguments: Sequence[str]) -> CommandLine:
    """Parse a command line. Never raises an error: ``pulumi`` itself rejects wrong words.

    Before the verb, an option that is not a global switch takes the next word as its value. cobra
    does the same, since it looks for the verb before it knows the verb's own options.
    """
    verbs: list[str] = []
    options: list[tuple[str, str]] = []
    first: int | None = None
    position = 0
    while position < len(arguments):
        argument, at = arguments[position], position
        position += 1
        if argument == "--":
            verbs += arguments[position:]
            break
        if argument == "-" or not argument.startswith("-"):
            first = at if first is None else first
            verbs.append(argument)
            continue
        parsed = _long(argument) if argument.startswith("--") else _short(argument)
        name, value = parsed[-1]
        if value is None and _takes_next(name, before=first is None) and position < len(arguments):
            value = arguments[position]
            position += 1
        options += [(option, given or "") for option, given in (*parsed[:-1], (name, value))]
    return CommandLine(tuple(verbs), tuple(options), first)


def _takes_next(name: str, *, before: bool) -> bool:
    return name not in GLOBAL_SWITCHES if before else name in WITH_VALUE


def _long(word: str) -> list[tuple[str, str | None]]:
    name, equals, value = word[2:].partition("=")
    return [(name, value if equals else None)]


def _short(argument: str) -> list[tuple[str, str | None]]:
    """Parse a word like ``-ys``, ``-yslab2`` or ``-s=lab2``: switches, then at most one with value.

    The value is None where it is not part of the word.
    """
    options: list[tuple[str, str | None]] = []
    for at, letter in enumerate(argument[1:], 1):
        name, rest = LONG.get(letter, letter), argument[at + 1 :]
        if rest and (rest.startswith("=") or name in WITH_VALUE):
            return [*options, (name, rest.removeprefix("="))]
        options.append((name, None))
    return options
