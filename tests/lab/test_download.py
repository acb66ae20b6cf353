"""Downloads, against a real HTTP server on loopback that misbehaves on demand."""

import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tenacity

from lab import download
from lab.download import Damaged, SourceUnreachable, fetch
from lab.paths import PROJECT
from lab.problem import Problem
from tests.ports import free_port

BODY = bytes(range(256)) * 12_000  # 3 MB that is different at every offset within a block
SHA256 = hashlib.sha256(BODY).hexdigest()


class ScriptedSite:
    """What the server does with the next requests, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.body = BODY
        self.ranges = True
        self.cuts: list[int] = []
        """How many bytes of each of the next answers arrive; the answers after that are whole."""
        self.statuses: list[int] = []
        self.pause = 0.0
        self.asked: list[str | None] = []
        """The Range header of each request."""


@contextmanager
def serving(site: ScriptedSite) -> Iterator[ScriptedSite]:
    class DownloadHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.asked.append(wanted)
            if site.statuses:
                self.send_response(site.statuses.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(wanted.split("=")[1].rstrip("-")) if wanted and site.ranges else 0
            if start and start >= len(site.body):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            rest = site.body[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(site.body) - 1}/x")
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            arrives = rest[: site.cuts.pop(0)] if site.cuts else rest
            for offset in range(0, len(arrives), 2**20):
                self.wfile.write(arrives[offset : offset + 2**20])
                time.sleep(site.pause)
            self.close_connection = len(arrives) < len(rest)

        def log_message(self, *_: object) -> None:
            pass

    class QuietServer(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    with QuietServer(("127.0.0.1", 0), DownloadHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        site.url = f"http://127.0.0.1:{server.server_port}/kubelet"
        yield site
        server.shutdown()


@pytest.fixture
def site() -> Iterator[ScriptedSite]:
    with serving(ScriptedSite()) as running:
        yield running


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACK_OFF", tenacity.wait_none())
    monkeypatch.setattr(download, "_unreachable", {})
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)


class DownloadNotes:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_a_download_is_whole_and_tells_how_far_it_is(site: ScriptedSite, tmp_path: Path) -> None:
    notes = DownloadNotes()
    target = tmp_path / "new" / "kubelet"
    fetch(site.url, target, sha256=SHA256, sha512=hashlib.sha512(BODY).hexdigest(), task=notes)
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["kubelet"]
    assert notes.texts[-1] == f"{len(BODY) // 2**20} of {len(BODY) // 2**20} MiB"


def test_a_cut_download_goes_on_where_it_broke(site: ScriptedSite, tmp_path: Path) -> None:
    site.cuts = [1_000_000, 500_000]
    fetch(site.url, tmp_path / "kubelet", sha256=SHA256)
    assert (tmp_path / "kubelet").read_bytes() == BODY
    assert site.asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_server_without_ranges_starts_over(site: ScriptedSite, tmp_path: Path) -> None:
    site.ranges, site.cuts = False, [1_000_000]
    fetch(site.url, tmp_path / "kubelet", sha256=SHA256)
    assert (tmp_path / "kubelet").read_bytes() == BODY
    assert site.asked == [None, "bytes=1000000-"]


def test_without_a_digest_two_halves_are_never_joined(site: ScriptedSite, tmp_path: Path) -> None:
    (tmp_path / "kubelet.part").write_bytes(b"of another day")
    site.cuts = [1_000_000]
    fetch(site.url, tmp_path / "kubelet")
    assert (tmp_path / "kubelet").read_bytes() == BODY
    assert site.asked == [None, None]


@pytest.mark.parametrize(
    "left", [b"other bytes", BODY[:-1] + b"x", BODY + b"more"], ids=["short", "equal", "long"]
)
def test_a_spoilt_beginning_of_an_earlier_run_is_dropped(
    left: bytes, site: ScriptedSite, tmp_path: Path
) -> None:
    (tmp_path / "kubelet.part").write_bytes(left)
    fetch(site.url, tmp_path / "kubelet", sha256=SHA256)
    assert (tmp_path / "kubelet").read_bytes() == BODY
    assert site.asked == [f"bytes={len(left)}-", None]


def test_a_part_that_was_complete_is_taken_as_it_is(site: ScriptedSite, tmp_path: Path) -> None:
    (tmp_path / "kubelet.part").write_bytes(BODY)
    fetch(site.url, tmp_path / "kubelet", sha256=SHA256)
    assert (tmp_path / "kubelet").read_bytes() == BODY


@pytest.mark.parametrize("name", ["sha256", "sha512"])
def test_a_wrong_digest_is_refused_and_nothing_stays(
    name: str, site: ScriptedSite, tmp_path: Path
) -> None:
    site.body = BODY[:-1] + b"!"
    pinned = hashlib.new(name, BODY).hexdigest()
    with pytest.raises(Damaged) as caught:
        fetch(site.url, tmp_path / "kubelet", **{name: pinned})  # type: ignore[arg-type]
    actual = hashlib.new(name, site.body).hexdigest()
    assert all(text in str(caught.value) for text in (site.url, pinned, actual))
    assert list(tmp_path.iterdir()) == []
    assert site.asked == [None]


def test_a_download_that_always_breaks_ends_and_keeps_what_came(
    site: ScriptedSite, tmp_path: Path
) -> None:
    site.cuts = [100_000] * 3
    with pytest.raises(Damaged, match="failed 3 times"):
        fetch(site.url, tmp_path / "kubelet", sha256=SHA256, attempts=3)
    assert [path.name for path in tmp_path.iterdir()] == ["kubelet.part"]
    fetch(site.url, tmp_path / "kubelet", sha256=SHA256)
    assert (tmp_path / "kubelet").read_bytes() == BODY
    assert site.asked[-1] == "bytes=300000-"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status: int, site: ScriptedSite, tmp_path: Path) -> None:
    site.statuses = [status, status]
    fetch(site.url, tmp_path / "kubelet", sha256=SHA256)
    assert (tmp_path / "kubelet").read_bytes() == BODY


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_is_not_there_is_unreachable_at_once(
    status: int, site: ScriptedSite, tmp_path: Path
) -> None:
    site.statuses = [status]
    with pytest.raises(SourceUnreachable, match=str(status)):
        fetch(site.url, tmp_path / "kubelet", sha256=SHA256)
    assert list(tmp_path.iterdir()) == []
    fetch(site.url, tmp_path / "kubelet", sha256=SHA256)  # the host is not held guilty of it


def test_a_host_that_refuses_is_tried_once_in_a_process(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/kubelet"
    with pytest.raises(SourceUnreachable):
        fetch(url, tmp_path / "kubelet", sha256=SHA256)
    with socket.create_server(("127.0.0.1", port)) as late:
        late.settimeout(0.2)
        with pytest.raises(SourceUnreachable):
            fetch(url.replace("kubelet", "kubectl"), tmp_path / "kubectl", sha256=SHA256)
        with pytest.raises(TimeoutError):
            late.accept()


def test_a_name_that_does_not_resolve_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreachable, match=r"nowhere\.invalid"):
        fetch("https://nowhere.invalid/kubelet", tmp_path / "kubelet", sha256=SHA256)


def test_a_server_that_does_not_speak_tls_is_unreachable(
    site: ScriptedSite, tmp_path: Path
) -> None:
    with pytest.raises(SourceUnreachable):
        fetch(site.url.replace("http:", "https:"), tmp_path / "kubelet", sha256=SHA256)


def test_a_slow_server_is_waited_for_and_a_stalled_one_is_not(
    site: ScriptedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ANSWER", 1.0)
    site.pause = 0.4  # longer in all than the time-out, never longer in one go
    fetch(site.url, tmp_path / "slow", sha256=SHA256)
    assert (tmp_path / "slow").read_bytes() == BODY
    site.pause = 3
    with pytest.raises(Damaged, match="timed out"):
        fetch(site.url, tmp_path / "stalled", sha256=SHA256, attempts=1)


def test_a_proxy_of_the_environment_is_used(
    site: ScriptedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", site.url.removesuffix("/kubelet"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    fetch("http://nowhere.invalid/kubelet", tmp_path / "kubelet", sha256=SHA256)
    assert (tmp_path / "kubelet").read_bytes() == BODY


def test_a_full_disk_is_a_problem_and_leaves_nothing(site: ScriptedSite, tmp_path: Path) -> None:
    (tmp_path / "kubelet.part").symlink_to("/dev/full")
    with pytest.raises(Problem, match="is full") as caught:
        fetch(site.url, tmp_path / "kubelet", sha256=SHA256)
    assert not isinstance(caught.value, SourceUnreachable | Damaged)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_download_leaves_no_target_and_is_resumed(
    site: ScriptedSite, tmp_path: Path
) -> None:
    site.pause = 30
    target = tmp_path / "kubelet"
    program = (
        "import sys; from pathlib import Path; from lab.download import fetch\n"
        "fetch(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3])"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, site.url, str(target), SHA256], cwd=PROJECT
    )
    part = tmp_path / "kubelet.part"
    while not part.exists() or part.stat().st_size == 0:
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert not target.exists()
    kept = part.stat().st_size
    site.pause = 0
    fetch(site.url, target, sha256=SHA256)
    assert target.read_bytes() == BODY
    assert site.asked[-1] == f"bytes={kept}-"
