"""The mirror gives whole files by digest and nothing else, and is found and ended exactly."""

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lab import mirror
from lab.cache import Cache, Receipt
from lab.download import fetch
from lab.mirror import Mirror, MirrorServer
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from tests.ports import free_port

CONTENT = bytes(range(256)) * 8000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """The shared cache of a person who has one artifact."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    cache = Cache()
    with cache.work() as scratch:
        (scratch / "kubelet").write_bytes(CONTENT)
        cache.add(scratch / "kubelet", executable=True)
    facts = {"family": "kubernetes", "version": "1.37.1"}
    cache.record(Receipt("k" * 64, {"kubelet": DIGEST}, "built", "a recipe", 1.0, facts))
    (cache.root / "secret").write_text("not for machines")
    return cache


@pytest.fixture
def url(cache: Cache) -> Iterator[str]:
    with MirrorServer("127.0.0.1", 0, cache) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def lab(tmp_path: Path, cache: Cache) -> Iterator[LabPaths]:
    del cache
    paths = LabPaths(name="mirror", state=tmp_path / "state", run=tmp_path / "run")
    yield paths
    mirror.stop(paths)


# -- what is answered --------------------------------------------------------------------------


def test_a_file_comes_by_its_digest(url: str, tmp_path: Path) -> None:
    fetch(f"{url}/sha256/{DIGEST}", tmp_path / "kubelet", sha256=DIGEST)
    assert (tmp_path / "kubelet").read_bytes() == CONTENT


def test_the_answer_can_be_kept_for_ever(url: str) -> None:
    answer = httpx.get(f"{url}/sha256/{DIGEST}")
    assert answer.headers["ETag"] == f'"{DIGEST}"'
    assert "immutable" in answer.headers["Cache-Control"]
    again = httpx.get(f"{url}/sha256/{DIGEST}", headers={"If-None-Match": f'"{DIGEST}"'})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", [f"/sha256/{DIGEST}", "/index.json"])
def test_head_tells_the_length_and_sends_nothing(path: str, url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    length = len(httpx.get(url + path).content)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        with connection.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"Content-Length: {length}".encode() in head
    assert body == b""


def test_a_connection_serves_several_requests(url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    for _ in range(3):
        connection.request("GET", f"/sha256/{DIGEST}")
        first = connection.sock
        assert connection.getresponse().read() == CONTENT
        assert connection.sock is first
    connection.close()


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=5000-", 5000, len(CONTENT) - 1),
        ("bytes=-7", len(CONTENT) - 7, len(CONTENT) - 1),
        ("bytes=10-99999999", 10, len(CONTENT) - 1),
        ("bytes=-99999999", 0, len(CONTENT) - 1),
    ],
)
def test_a_range_gives_just_these_bytes(wanted: str, first: int, last: int, url: str) -> None:
    answer = httpx.get(f"{url}/sha256/{DIGEST}", headers={"Range": wanted})
    assert answer.status_code == 206
    assert answer.content == CONTENT[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"


@pytest.mark.parametrize("wanted", [f"bytes={len(CONTENT)}-", "bytes=99999999-", "bytes=-0"])
def test_a_range_outside_the_file_is_refused(wanted: str, url: str) -> None:
    answer = httpx.get(f"{url}/sha256/{DIGEST}", headers={"Range": wanted})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("wanted", ["bytes=9-3", "bytes=-", "bytes=0-1,4-5", "lines=1-2", "x"])
def test_a_range_that_is_not_understood_gives_the_whole_file(wanted: str, url: str) -> None:
    answer = httpx.get(f"{url}/sha256/{DIGEST}", headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_a_range_of_another_version_gives_the_whole_file(url: str) -> None:
    headers = {"Range": "bytes=100-199", "If-Range": '"other"'}
    assert httpx.get(f"{url}/sha256/{DIGEST}", headers=headers).content == CONTENT


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/sha256",
        "/sha256/",
        f"/sha256/{DIGEST[:2]}",
        f"/sha256/{DIGEST}/",
        f"/sha256/{DIGEST.upper()}",
        f"/sha256/{DIGEST}?a=b",
        f"/sha256/{'0' * 64}",
        "/sha256/../secret",
        "/sha256/..%2f..%2fsecret",
        "/../secret",
        "//secret",
        "/secret",
        "/blobs",
        f"/blobs/{DIGEST[:2]}/{DIGEST}",
        "/receipts",
        "/index.json/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_else_is_there(path: str, method: str, url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request(method, path)  # as it is: httpx would normalise it
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (404, b"")
    connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(method: str, url: str, cache: Cache) -> None:
    assert httpx.request(method, f"{url}/sha256/{DIGEST}").status_code == 501
    assert cache.intact(DIGEST)


def test_the_index_tells_names_versions_and_digests(url: str) -> None:
    answer = httpx.get(f"{url}/index.json")
    assert answer.json() == [
        {
            "name": "kubelet",
            "version": "1.37.1",
            "sha256": DIGEST,
            "size": len(CONTENT),
            "origin": "built",
            "source": "a recipe",
        }
    ]


def test_many_machines_are_served_at_once_also_while_one_reads_nothing(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as idle:
        idle.sendall(f"GET /sha256/{DIGEST} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        results: list[bytes] = []
        threads = [
            threading.Thread(
                target=lambda: results.append(httpx.get(f"{url}/sha256/{DIGEST}").content)
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [CONTENT] * 8


# -- the process -------------------------------------------------------------------------------


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_it_is_started_found_used_and_stopped(lab: LabPaths) -> None:
    assert mirror.find(lab) is None
    running = mirror.start(lab, "127.0.0.1", free_port())
    assert mirror.find(lab) == running
    assert httpx.get(f"{running.url}/sha256/{DIGEST}").content == CONTENT
    mirror.stop(lab)
    assert not is_alive(running.pid)
    assert mirror.find(lab) is None
    assert not (lab.run / "mirror.json").exists()
    mirror.stop(lab)


def test_a_second_start_finds_the_first(lab: LabPaths) -> None:
    port = free_port()
    running = mirror.start(lab, "127.0.0.1", port)
    assert mirror.start(lab, "127.0.0.1", port) == running


def test_a_start_at_another_address_replaces_it(lab: LabPaths) -> None:
    first = mirror.start(lab, "127.0.0.1", free_port())
    second = mirror.start(lab, "127.0.0.2", free_port())
    assert not is_alive(first.pid)
    assert httpx.get(f"{second.url}/index.json").status_code == 200


def test_it_outlives_the_run_that_started_it(lab: LabPaths) -> None:
    program = (
        "import sys; from pathlib import Path; from lab import mirror\n"
        "from lab.paths import LabPaths\n"
        "p = LabPaths('mirror', Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(mirror.start(p, '127.0.0.1', int(sys.argv[3])).pid)"
    )
    command = [sys.executable, "-c", program, str(lab.state), str(lab.run), str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    running = mirror.find(lab)
    assert running is not None
    assert running.pid == int(done.stdout)
    assert httpx.get(f"{running.url}/index.json").status_code == 200


def test_one_that_was_killed_is_started_anew(lab: LabPaths) -> None:
    port = free_port()
    running = mirror.start(lab, "127.0.0.1", port)
    os.kill(running.pid, signal.SIGKILL)
    while is_alive(running.pid):
        time.sleep(0.01)
    assert mirror.find(lab) is None
    again = mirror.start(lab, "127.0.0.1", port)
    assert again.pid != running.pid
    assert httpx.get(f"{again.url}/index.json").status_code == 200


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": 1}', '{"pid": "x"}'])
def test_a_damaged_record_is_none(content: str, lab: LabPaths) -> None:
    lab.run.mkdir()
    (lab.run / "mirror.json").write_text(content)
    assert mirror.find(lab) is None
    mirror.stop(lab)
    assert not (lab.run / "mirror.json").exists()


def test_a_stale_record_never_ends_another_process(lab: LabPaths) -> None:
    """After a reboot the recorded number belongs to somebody else."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        lab.run.mkdir()
        record = {"pid": stranger.pid, "started": "1", "address": "127.0.0.1", "port": 1}
        (lab.run / "mirror.json").write_text(json.dumps(record))
        assert mirror.find(lab) is None
        mirror.stop(lab)
        assert stranger.poll() is None
        stranger.kill()


def test_a_taken_port_is_told_with_the_program_that_has_it(lab: LabPaths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Problem, match=rf"port {port},.* taken by process {os.getpid()} \("):
            mirror.start(lab, "127.0.0.1", port)
    assert mirror.find(lab) is None


def test_a_start_that_fails_points_to_the_log(lab: LabPaths) -> None:
    with pytest.raises(Problem, match=r"mirror\.log"):
        mirror.start(lab, "127.0.0.1", free_port(), ["false"])
    with pytest.raises(Problem, match="does not start"):
        mirror.start(lab, "127.0.0.1", free_port(), ["/nonexistent/nsenter"])


def test_its_address_need_not_exist_yet(lab: LabPaths) -> None:
    running = mirror.start(lab, "203.0.113.1", free_port())  # RFC 5737: nobody has it
    assert mirror.find(lab) == running


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"hw-mirror-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.machine
def test_in_the_lab_s_namespace_it_serves_there_and_nowhere_else(
    lab: LabPaths, namespace: str
) -> None:
    enter = ["nsenter", f"--net=/run/netns/{namespace}"]
    address, port = "192.168.1.1", free_port()
    running: Mirror = mirror.start(lab, address, port, enter)
    assert (
        Path(f"/proc/{running.pid}/ns/net").stat().st_ino != Path("/proc/self/ns/net").stat().st_ino
    )
    for arguments in (
        ["ip", "link", "add", "bridge0", "type", "bridge"],
        ["ip", "address", "add", f"{address}/24", "dev", "bridge0"],
        ["ip", "link", "set", "bridge0", "up"],
        ["ip", "link", "set", "lo", "up"],
    ):
        subprocess.run([*enter, *arguments], check=True)
    program = (
        "import hashlib, sys, urllib.request\n"
        "answer = urllib.request.urlopen(sys.argv[1], timeout=600)\n"
        "print(hashlib.sha256(answer.read()).hexdigest())"
    )
    command = [*enter, sys.executable, "-c", program, f"{running.url}/sha256/{DIGEST}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == DIGEST
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True)
    assert f":{port} " not in listening.stdout
    inside = subprocess.run([*enter, "ss", "-Hltn"], capture_output=True, text=True, check=True)
    assert f"{address}:{port} " in inside.stdout
