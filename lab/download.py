"""Downloads a file over HTTP: resumes after an interruption and checks the digest."""

import hashlib
import os
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import tenacity

from lab.problem import Problem, full_disk_told
from lab.progress import Task

if TYPE_CHECKING:  # imported where it is used: most commands need no download and start faster
    import httpx

CONNECT, ANSWER = 5, 30
"""Time limits in seconds for the connection and for each answer of a source."""

BACK_OFF = tenacity.wait_random_exponential(multiplier=0.5, max=10)
MEBIBYTE = 2**20

_unreachable: dict[str, str] = {}
"""Host that did not answer to its error message; a process does not try such a host again."""


class SourceUnreachable(Problem):
    """The source does not have the file or does not answer; the caller may try the next source."""


class Damaged(Problem):
    """The source answers, but not with the whole expected file."""


class _Cut(Exception):
    """A transfer failed and another attempt may succeed."""


def part_of(target: Path) -> Path:
    """The path of the file with the bytes of an unfinished download."""
    return target.with_name(f"{target.name}.part")


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    sha512: str | None = None,
    task: Task | None = None,
    attempts: int = 4,
) -> None:
    """Download ``url`` to ``target``, which appears only once it is complete and verified.

    The bytes go to ``<target>.part`` first. A later call resumes from there if it has a digest to
    check the result against. Callers must hold a lock, so that no two calls have the same target at
    the same time. Proxies and certificates come from the environment (``HTTPS_PROXY``,
    ``SSL_CERT_FILE``). A redirection from https to an unencrypted URL is refused.
    Raises SourceUnreachable, Damaged (wrong digest, or interrupted at each of ``attempts``), or
    Problem where the disk is full.
    """
    host = urlsplit(url).netloc
    if host in _unreachable:
        raise _not_reached(url, _unreachable[host])
    part = part_of(target)
    expected = {"sha256": sha256, "sha512": sha512}
    pinned = {name: digest for name, digest in expected.items() if digest}
    with full_disk_told(target.parent):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for attempt in tenacity.Retrying(
                stop=tenacity.stop_after_attempt(attempts),
                wait=BACK_OFF,
                retry=tenacity.retry_if_exception_type(_Cut),
                reraise=True,
            ):
                with attempt:
                    _transfer(url, part, pinned, task, attempt.retry_state.attempt_number)
            part.rename(target)
        except _Cut as cut:
            raise Damaged(
                f"the download of {url} failed {attempts} times ({cut})",
                "run it again to go on from there, or try another network",
            ) from cut
        except OSError:
            part.unlink(missing_ok=True)
            raise


def _transfer(
    url: str, part: Path, pinned: dict[str, str], task: Task | None, attempt: int
) -> None:
    """Download the rest of ``part`` in one request and check the digests."""
    import httpx

    if not pinned:  # without a digest, parts of two different files could be joined unnoticed
        part.unlink(missing_ok=True)
    begun = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    try:
        with (
            httpx.Client(
                timeout=httpx.Timeout(ANSWER, connect=CONNECT),
                follow_redirects=True,
                verify=_authorities(),
            ) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            kept = _receive(response, url, part, begun, task)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        if attempt > 1:  # the host did answer the first attempt
            raise _Cut(_said(error)) from error
        _unreachable[urlsplit(url).netloc] = _said(error)
        raise _not_reached(url, _said(error)) from error
    except (httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
        raise _not_reached(url, _said(error)) from error
    except httpx.HTTPError as error:
        raise _Cut(_said(error)) from error
    _check(url, part, pinned, resumed=kept > 0)


def _receive(
    response: "httpx.Response", url: str, part: Path, begun: int, task: Task | None
) -> int:
    """Write the body to ``part``; return the number of bytes kept from an earlier transfer."""
    if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return begun  # the server has no more bytes: the digest shows whether the part is right
    if response.status_code in (408, 425, 429) or response.is_server_error:
        raise _Cut(f"HTTP {response.status_code}")
    if not response.is_success:
        raise _not_reached(url, f"HTTP {response.status_code}")
    hops = [hop.url for hop in (*response.history, response)]
    if url.startswith("https:") and (plain := [hop for hop in hops if hop.scheme != "https"]):
        raise _not_reached(url, f"it leads to {plain[0]}, which is not encrypted")
    if not response.headers.get("Content-Range", "").startswith(f"bytes {begun}-"):
        begun = 0
    done = begun
    length = response.headers.get("Content-Length", "")
    total = f" of {(begun + int(length)) // MEBIBYTE}" if length.isdecimal() else ""
    with part.open("ab" if begun else "wb") as stream:
        for block in response.iter_raw():  # with a block size, a cut would lose the last block
            stream.write(block)
            done += len(block)
            if task:
                task.note(f"{done // MEBIBYTE}{total} MiB")
        stream.flush()
        os.fsync(stream.fileno())
    return begun


def _check(url: str, part: Path, pinned: dict[str, str], *, resumed: bool) -> None:
    """Compare the file with its digests; remove the file and raise an error if one differs."""
    for name, digest in pinned.items():
        with part.open("rb") as stream:
            actual = hashlib.file_digest(stream, name).hexdigest()
        if actual == digest.lower():
            continue
        part.unlink()
        if resumed:
            raise _Cut("its beginning, from an earlier run, did not fit its end")
        raise Damaged(
            f"{url} has the {name} {actual}, not {digest}",
            "what was downloaded is removed; if it happens again, something between here and there "
            "changes downloads, or the pinned digest is wrong",
        )


def _authorities() -> ssl.SSLContext:
    """A new TLS context that trusts httpx's default authorities and the system's, as of a company.

    Threads do not share a context: httpx sets its protocols (ALPN) before each connection, which
    can garble the ClientHello of another thread at that moment (httpcore 1.0.9, Python 3.11).
    """
    import httpx

    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _not_reached(url: str, reason: str) -> SourceUnreachable:
    return SourceUnreachable(f"{url} cannot be had ({reason})", "check the network and its proxy")
