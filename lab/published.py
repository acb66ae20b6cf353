"""Official downloads whose digests the publisher states, and the pins of those digests.

The project has no digest of such a download beforehand. The first use takes the digest that the
publisher serves over TLS and writes it to ``pins.yaml`` in the checkout. Every later use, by
everybody who has that file, demands the same digest.
"""

import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from lab.cache import Cache, write_atomically
from lab.download import Damaged, SourceUnreachable, fetch
from lab.paths import PROJECT
from lab.problem import Problem
from lab.progress import Progress
from spec.document import load_yaml
from spec.downloads import Architecture, Download

PUBLISHED = Path(__file__).with_name("published.yaml")

PINS = PROJECT / "pins.yaml"

FACT = "downloads"
"""The key of a receipt's fact that holds the digests of its downloads, in their order."""

HEADER = """\
# The sha256 of official downloads of lab/published.yaml, as their publishers said it at first.
# Written by ./hardway, and to be committed: another file than the one noted here is never taken.
"""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Plain HTTP on loopback is for tests: no other host can answer there.
Encrypted = Annotated[
    str, StringConstraints(pattern=r"^(https://[^/\s]+|http://127\.0\.0\.1(:\d+)?)/\S+$")
]


class Published(BaseModel):
    """One file of an official release whose publisher states its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str
    version: str
    arch: Architecture
    url: Encrypted
    checksums: Encrypted
    """The URL where the publisher states the digest."""
    members: Mapping[str, str] = {}

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of the programs in the file."""
        return tuple(self.members) or (self.name,)

    def pinned(self, sha256: str) -> Download:
        """The same file as a download with this digest."""
        return Download(**self.model_dump(exclude={"checksums"}), sha256=sha256)


class Silent(SourceUnreachable):
    """The digest of a publisher cannot be had or noted; the caller can try the next source."""


@cache
def published() -> tuple[Published, ...]:
    """Every row of lab/published.yaml."""
    rows = load_yaml(PUBLISHED.read_text(), PUBLISHED.name)
    return TypeAdapter(tuple[Published, ...]).validate_python(rows)


def published_of(family: str, version: str, architecture: str) -> tuple[Published, ...]:
    """The downloads that together hold a family of programs."""
    return tuple(
        row
        for row in published()
        if (row.family, row.version, row.arch) == (family, version, architecture)
    )


# -- pins ----------------------------------------------------------------------------------------


def pins() -> dict[str, str]:
    """URL to sha256, from pins.yaml. Raises a Problem where the file has a mistake."""
    try:
        pinned = yaml.safe_load(PINS.read_text()) or {}
        return TypeAdapter(dict[str, Sha256]).validate_python(pinned)
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, ValidationError) as error:
        raise Problem(
            f"{PINS} is not what ./hardway writes there ({' '.join(str(error).split())[:200]})",
            "take the mistake out, or bring the file back from your repository",
        ) from error


def noted_downloads(family: str, version: str, architecture: str) -> tuple[Download, ...]:
    """A family's downloads if pins.yaml has the digest of each; else an empty tuple."""
    noted = pins()
    rows = published_of(family, version, architecture)
    return _pinned(rows, noted) if all(row.url in noted for row in rows) else ()


def note(rows: Iterable[Download], cache: Cache, progress: Progress) -> None:
    """Write the digests of downloads to pins.yaml.

    Raises a Problem where the file has another digest for a URL or cannot be written.
    """
    with cache.lock("pins"):
        noted = pins()
        new = {
            row.url: row.sha256 for row in rows if row.sha256 and noted.get(row.url) != row.sha256
        }
        for url, sha256 in new.items():
            if url in noted:
                raise _changed("what is to be noted", url, sha256, noted[url])
        if not new:
            return
        content = HEADER + yaml.safe_dump({**noted, **new}, width=1000)
        try:
            write_atomically(PINS, content.encode())
        except OSError as error:
            raise Problem(
                f"{PINS} cannot be written ({error.strerror})",
                "make the checkout writable, since it notes which downloads were taken",
            ) from error
    for url, sha256 in new.items():
        progress.say(f"noted in {PINS.name}: {url} has the sha256 {sha256}")


def fact_of(rows: Iterable[Download]) -> dict[str, str]:
    """The fact of a receipt with the digests of its downloads.

    A bundle brings these digests to another checkout.
    """
    return {FACT: " ".join(row.sha256 or row.sha512 or "" for row in rows)}


def downloads_in(facts: Mapping[str, str], architecture: str) -> tuple[Download, ...]:
    """The downloads of published.yaml from which a receipt was made; empty for other receipts."""
    rows = published_of(facts.get("family", ""), facts.get("version", ""), architecture)
    digests = facts.get(FACT, "").split()
    if len(rows) != len(digests) or not all(
        re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests
    ):
        return ()
    return tuple(row.pinned(digest) for row, digest in zip(rows, digests, strict=True))


# -- digests of the publishers -------------------------------------------------------------------


def said_downloads(
    rows: tuple[Published, ...], cache: Cache, progress: Progress
) -> tuple[Download, ...]:
    """A family's downloads with the digests that the publisher states now.

    Where the publisher cannot be reached, the digest in pins.yaml is used instead.

    Raises SourceUnreachable where there is no digest from either, or where pins.yaml lacks a digest
    and cannot be written. Raises a Problem where the publisher states another digest than
    pins.yaml.
    """
    noted = pins()
    if any(row.url not in noted for row in rows) and not os.access(PINS.parent, os.W_OK):
        raise Silent(
            f"{PINS} cannot be written to note the digest of its download",
            "make the checkout writable",
        )
    return _pinned(rows, dict(_said(rows, noted, cache, progress)))


def _said(
    rows: Iterable[Published], noted: Mapping[str, str], cache: Cache, progress: Progress
) -> Iterator[tuple[str, str]]:
    for row in rows:
        known = noted.get(row.url)
        try:
            sha256 = _ask(row, cache)
        except SourceUnreachable as problem:
            if known is None:
                raise
            progress.say(f"{problem.what}; {PINS.name} has the digest of {row.url}")
            sha256 = known
        if known and known != sha256:
            raise _changed(row.checksums, row.url, sha256, known)
        yield row.url, sha256


def _ask(row: Published, cache: Cache) -> str:
    """Fetch the sha256 of a file from its publisher. Raises SourceUnreachable."""
    with cache.work() as scratch:
        try:
            fetch(row.checksums, scratch / "checksums")
        except Damaged as problem:
            raise Silent(problem.what, problem.remedy) from problem
        content = (scratch / "checksums").read_bytes()
    sha256 = digest_in(content.decode(errors="replace"), posixpath.basename(row.url))
    if sha256 is None:
        raise Silent(
            f"{row.checksums} says no sha256 of {posixpath.basename(row.url)}",
            "correct its row in lab/published.yaml",
        )
    return sha256


def digest_in(text: str, name: str) -> str | None:
    """The sha256 of the file ``name`` in a publisher's text, or None.

    The text is a list of digests and names, a single digest, or the JSON of a GitHub release.
    """
    if text.lstrip().startswith("{"):
        return _in_release(text, name)
    digests = {
        posixpath.basename(match[2] or name): match[1].lower()
        for line in text.splitlines()
        if (match := re.fullmatch(r"\s*([0-9A-Fa-f]{64})(?:\s+\*?(\S+))?\s*", line))
    }
    return digests.get(name)


def _in_release(text: str, name: str) -> str | None:
    try:
        release: Any = json.loads(text)
        digests = {asset["name"]: asset.get("digest") or "" for asset in release["assets"]}
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    match = re.fullmatch(r"sha256:([0-9a-f]{64})", str(digests.get(name, "")))
    return match[1] if match else None


def _pinned(rows: Iterable[Published], digests: Mapping[str, str]) -> tuple[Download, ...]:
    return tuple(row.pinned(digests[row.url]) for row in rows)


def _changed(source: str, url: str, sha256: str, noted: str) -> Problem:
    return Problem(
        f"{source} says the sha256 {sha256} of {url}, and {PINS} has {noted} from its first use",
        "ask the publisher why the file changed; only where that is right, take its line out of "
        f"{PINS.name}",
    )
