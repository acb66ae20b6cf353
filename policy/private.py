"""The rule against private keys and tokens in inputs that are not secret."""

import base64
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from policy.rule import Changes, Violations
from preview.registration import is_secret
from spec.refusal import listed

PRIVATE = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"),
    "a kubeconfig's private key": re.compile(r"\bclient-key-data\b[\"']?\s*:\s*[\"']?\S"),
    "a service account's token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "a bootstrap token": re.compile(r"(?<![\w.-])(?=[a-z.]*\d)[a-z0-9]{6}\.[a-z0-9]{16}(?![\w.-])"),
    "an encryption key": re.compile(r"\bsecret[\"']?\s*:\s*[\"']?[A-Za-z0-9+/]{43}="),
    "a kubeconfig's token": re.compile(r"^\s*[\"']?token[\"']?\s*:\s*[\"']?[\w.~+/-]{16,}", re.M),
    "an access token": re.compile(r"\b(?:pul-[0-9a-f]{40}|gh[pousr]_\w{36}|github_pat_\w{50,})\b"),
}
"""Kinds of private texts, each with the pattern that finds it."""

ENCODED = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")
"""Text that may be base64, from 40 letters on: enough for the first line of a private key."""

DEEPEST = 2
"""How often base64 is decoded: a key in a kubeconfig in an archive's text is base64 in base64."""


def no_private_text(changes: Changes) -> Violations:
    """No input outside of secrets contains a private key or token, in any resource that stays."""
    for change in changes:
        for key, value in (change.after.inputs if change.after else {}).items():
            kinds = {kind for text in plain(value, key) for kind in private_kinds(text)}
            if kinds:
                sentence = (
                    f"{change.name} has {listed(sorted(kinds), 'and')} in its input {key}, where "
                    "every preview and the state show it; make that input secret "
                    "(pulumi.Output.secret)"
                )
                yield change.name, sentence


def private_kinds(text: str) -> frozenset[str]:
    """The kinds of private texts in a text."""
    return frozenset(kind for line in text.splitlines() for kind in _in_line(line))


@lru_cache(maxsize=2**17)  # steps and machines have most of their lines in common
def _in_line(line: str) -> frozenset[str]:
    """The kinds of private texts in a line or in base64 that the line contains."""
    texts = [line]
    for _ in range(DEEPEST):
        candidates = (match[0] for text in texts for match in ENCODED.finditer(text))
        texts = [
            line,
            *(decoded for encoded_text in candidates for decoded in _decoded(encoded_text)),
        ]
    return frozenset(kind for kind, known in PRIVATE.items() if any(map(known.search, texts)))


def plain(value: Any, key: str = "") -> Iterator[str]:
    """Every text in a value from the wire outside of secret envelopes, each after its key."""
    if is_secret(value):
        return
    if isinstance(value, dict):
        for name, item in value.items():
            yield from plain(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from plain(item, key)
    elif isinstance(value, str):
        yield f"{key}: {value}"


def _decoded(encoded: str) -> Iterator[str]:
    """The texts that the base64 may encode, from each of four starts, since it may begin later."""
    letters = encoded.rstrip("=").translate(str.maketrans("-_", "+/"))
    for start in range(4):
        whole = (len(letters) - start) // 4 * 4
        yield base64.b64decode(letters[start : start + whole]).decode("latin-1")
