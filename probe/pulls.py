"""Says in a sentence why a container runtime could not get an image from its registry."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

REASONS = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable")
"""The reasons of a container that waits for its image."""

_IMAGE = re.compile(r'(?:image|reference) \\?"([^"\\]+)')

_ASKED = re.compile(r"(https?://[^\s/@\"]+)/v2/")
"""The server that was asked: the registry, or the first of its mirrors where all have failed."""


@dataclass(frozen=True)
class _PullProblem:
    pattern: re.Pattern[str]
    """What the runtime's message has in it."""
    sentence: str


def _known(pattern: str, sentence: str) -> _PullProblem:
    return _PullProblem(re.compile(pattern), sentence)


PROBLEMS = (
    _known(
        r"x509: .*(unknown authority|self-signed)",
        "the node does not know the authority of its registry's certificate; write the authority "
        "under registries",
    ),
    _known(r"x509: (.+)", "the certificate of its registry is refused: {0}"),
    _known(
        r"server gave HTTP response to HTTPS client|does not look like a TLS handshake",
        "its registry speaks http alone; write it as an insecure mirror of itself under registries",
    ),
    _known(
        r"401 Unauthorized|authorization failed|no basic auth credentials|access denied|denied:"
        r"|403 Forbidden|unauthorized:",
        "its registry refuses the password, or there is none; name a Secret with the right one "
        "under imagePullSecrets, or give the stack one (registries, user)",
    ),
    _known(r"429 Too Many Requests|toomanyrequests", "its registry has been asked too often"),
    _known(
        r"no such host|connection refused|i/o timeout|no route to host|network is unreachable"
        r"|context deadline exceeded|Client\.Timeout",
        "its registry does not answer; look at name_servers, proxy and the mirrors under "
        "registries",
    ),
    _known(r"not found|manifest unknown", "its registry has no such image"),
)
"""The problems of a pull, the most telling one first: where a mirror fails, the message has all."""


def problem(waiting: Mapping[str, Any]) -> str | None:
    """One line about a container that waits, in the form of its status; None for other reasons."""
    message = waiting.get("message")
    return sentence(message) if message and waiting.get("reason") in REASONS else None


def sentence(message: str) -> str:
    """One line about a failed pull; the runtime's own message where the problem is not known."""
    image = _IMAGE.search(message)
    asked = _ASKED.search(message)
    named = f"the image {image[1]}" if image else "its image"
    cannot = f"{named} cannot be pulled" + (f" from {asked[1]}" if asked else "")
    for known in PROBLEMS:
        if seen := known.pattern.search(message):
            return f"{cannot}: {known.sentence.format(*seen.groups(''))}"
    return f"{cannot}: {' '.join(message.split())}"
