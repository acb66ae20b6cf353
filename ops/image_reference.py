"""The full names of images, as container runtimes write them.

The grammar and the defaults are those of the CNCF project distribution (its package ``reference``):
``nginx`` means ``docker.io/library/nginx:latest``.
"""

import re

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REFERENCE = re.compile(
    rf"(?P<path>(?:{_HOST}(?::[0-9]+)?/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?P<digest>@sha256:[0-9a-f]{64})?"
)
_LONGEST = 255
"""Characters of a name without tag and digest."""


class BadReference(ValueError):
    """A text that is no image's name; the message is a sentence without its full stop."""


def full_reference(text: str) -> str:
    """The reference with registry and tag. Raises BadReference where the text is none."""
    match = _REFERENCE.fullmatch(text)
    if match is None or len(match["path"]) > _LONGEST:
        raise BadReference(f"'{text[:80]}' is no name of an image")
    host, slash, rest = match["path"].partition("/")
    if not slash or not (set(".:") & set(host) or host == "localhost" or host != host.lower()):
        host, rest = "docker.io", match["path"]
    if host == "index.docker.io":
        host = "docker.io"
    if host == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    tag = match["tag"] or ("" if match["digest"] else "latest")
    return f"{host}/{rest}{':' if tag else ''}{tag}{match['digest'] or ''}"
