"""Removes secrets from text for other people: known secrets, and what looks like a secret."""

import json
import re
import string
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from typing import Any

LEFT_OUT = "[secret left out]"

SHORTEST = 8
"""Least characters of a known secret; a shorter text also occurs where it is not a secret."""

KEY = re.compile(
    r"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----"
    r"(.{0,16384}?-----END \1PRIVATE KEY-----|[A-Za-z0-9+/=\s\\]*)",
    re.DOTALL,
)
"""A private key in PEM, with any characters between its lines; also a key without its end."""

END_OF_KEY = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY-----")
IN_KEY = frozenset(string.ascii_letters + string.digits + "+/=\\ \t\r\n")
"""The characters that may stand before the end line of a key whose beginning was cut off."""

ENCODED = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/]+=*")
"""PEM in base64, as in kubeconfigs; the text that was encoded begins with ``-----BEGIN``."""

LOOKS = (
    # A service account's token: a JWT (RFC 7519), which begins with JSON in base64.
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), LEFT_OUT),
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]{8,}"), rf"\1\2{LEFT_OUT}"),
    (
        re.compile(
            r"(?i)(\b(?:client-key-data|token|password|passwd)[\"']?\s*[:=]\s*[\"']?)[^\s\"',]{4,}"
        ),
        rf"\1{LEFT_OUT}",
    ),
)


class Redaction:
    """Removes a set of known secrets from texts, and everything that looks like a key or token."""

    def __init__(self, secrets: Iterable[str]) -> None:
        parts = {part for secret in secrets for part in _parts(secret)}
        # Longest first: a secret of which a part was replaced already would not be recognized.
        self._known = sorted(parts, key=lambda part: (-len(part), part))

    def __call__(self, text: str) -> str:
        """The text with ``LEFT_OUT`` in place of secrets."""
        for part in self._known:
            text = text.replace(part, LEFT_OUT)
        text = KEY.sub(LEFT_OUT, text)
        text = _without_rests(text)
        text = ENCODED.sub(_unless_public, text)
        for look, instead in LOOKS:
            text = look.sub(instead, text)
        return text


def _without_rests(text: str) -> str:
    # Not a regular expression: one that begins with a long run of characters takes quadratic time.
    while end := END_OF_KEY.search(text):
        start = end.start()
        while start > 0 and text[start - 1] in IN_KEY:
            start -= 1
        text = text[:start] + LEFT_OUT + text[end.end() :]
    return text


def _unless_public(match: re.Match[str]) -> str:
    """``LEFT_OUT`` for a private key in base64; other PEM, such as a certificate, stays.

    The decoded beginning tells them apart.
    """
    whole = match[0].rstrip("=")
    decoded = b64decode(whole[: len(whole) - len(whole) % 4])
    return LEFT_OUT if b"PRIVATE KEY-----" in decoded[:60] else match[0]


def _parts(secret: str) -> Iterator[str]:
    """The forms of a secret that a text may contain: plain, in JSON, in base64, and its parts."""
    for text in _leaves(secret):
        stripped = text.strip()
        if len(stripped) < SHORTEST:
            continue
        yield stripped
        yield json.dumps(stripped)[1:-1]
        # Without the last four characters, which depend on following text, such as a newline.
        yield b64encode(stripped.encode()).decode()[:-4]
        for key in KEY.finditer(stripped):
            yield from _lines(key[0])
        for encoded in ENCODED.finditer(stripped):
            if _unless_public(encoded) == LEFT_OUT:
                yield encoded[0]
                yield from _parts(b64decode(encoded[0] + "==").decode(errors="replace"))


def _lines(key: str) -> Iterator[str]:
    """The lines that are specific to a PEM text; a log may prefix each line with more text."""
    for line in re.split(r"\n|\\n", key):
        bare = line.strip()
        if len(bare) >= 2 * SHORTEST and not bare.startswith("-----"):
            yield bare


def _leaves(secret: str) -> Iterator[str]:
    """The strings in a secret that is a JSON object or list, else the secret itself."""
    try:
        value = json.loads(secret)
    except ValueError:
        value = None
    if isinstance(value, dict | list):
        yield from _texts(value)
    else:
        yield secret


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _leaves(value)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
