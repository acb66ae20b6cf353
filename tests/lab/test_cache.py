"""The cache keeps only what is whole, whoever dies and whoever comes at the same time."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lab.cache import Cache, Receipt, locked, sha256_of, write_atomically
from lab.paths import PROJECT
from lab.problem import Problem


def put(cache: Cache, content: bytes, *, executable: bool = False) -> str:
    with cache.work() as scratch:
        file = scratch / "file"
        file.write_bytes(content)
        return cache.add(file, executable=executable)


def script(text: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )


def test_a_blob_has_the_name_that_sha256sum_gives_it(empty_cache: Cache) -> None:
    digest = put(empty_cache, b"hello\n")
    done = subprocess.run(
        ["sha256sum", empty_cache.blob(digest)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == digest == empty_cache.blob(digest).name


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda p: p.write_bytes(b"Hello\n"), "a flipped byte"),
        (lambda p: os.truncate(p, 3), "a truncated file"),
        (lambda p: p.unlink(), "a missing file"),
    ],
)
def test_damage_is_named_and_the_receipt_is_forgotten(empty_cache: Cache, damage, what) -> None:  # type: ignore[no-untyped-def]
    good, bad = put(empty_cache, b"good"), put(empty_cache, b"hello\n")
    receipt = Receipt(key="k", files={"a": good, "b": bad}, origin="built", source="test")
    empty_cache.record(receipt)
    assert empty_cache.damaged(receipt) == []
    empty_cache.blob(bad).chmod(0o644)
    damage(empty_cache.blob(bad))
    assert empty_cache.damaged(receipt) == ["b"], what
    empty_cache.discard(receipt)
    assert empty_cache.receipt("k") is None
    assert not empty_cache.blob(bad).exists()
    assert empty_cache.intact(good), "what is whole may serve another receipt"


def test_what_was_read_is_read_again_only_when_its_inode_changed(
    empty_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def reading(path: Path) -> str:
        read.append(path)
        return sha256_of(path)

    monkeypatch.setattr("lab.cache.sha256_of", reading)
    digest = put(empty_cache, b"hello\n")
    blob = empty_cache.blob(digest)
    read.clear()
    assert empty_cache.intact(digest)
    assert empty_cache.intact(digest)
    assert read == [blob, blob], "a file that was just changed may be changed again unseen"
    time.sleep(1.1)
    for _ in range(3):
        assert empty_cache.intact(digest)
    assert read == [blob] * 3
    seen = blob.stat()
    blob.chmod(0o644)
    blob.write_bytes(b"Hello\n")
    os.utime(blob, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert not empty_cache.intact(digest), "as many bytes, and the time set back"


def test_an_unreadable_receipt_counts_as_none(empty_cache: Cache) -> None:
    for text in ("", "{", "[]", '{"key": "k"}'):
        write_atomically(empty_cache.root / "receipts" / "k.json", text.encode())
        assert empty_cache.receipt("k") is None


def test_a_tree_holds_links_to_blobs_and_is_made_anew_when_a_blob_was_replaced(
    empty_cache: Cache,
) -> None:
    digest = put(empty_cache, b"#!/bin/sh\necho ran\n", executable=True)
    tree = empty_cache.tree({"bin/tool": digest})
    done = subprocess.run([tree / "bin/tool"], capture_output=True, text=True, check=True)
    assert done.stdout == "ran\n"
    empty_cache.blob(digest).chmod(0o755)
    empty_cache.blob(digest).write_text("#!/bin/sh\necho evil\n")
    receipt = Receipt(key="k", files={"tool": digest}, origin="built", source="test")
    empty_cache.discard(receipt)
    put(empty_cache, b"#!/bin/sh\necho ran\n", executable=True)
    again = empty_cache.tree({"bin/tool": digest})
    assert sha256_of(again / "bin/tool") == digest


def test_a_killed_writer_leaves_nothing_in_use_and_its_scratch_is_swept(
    empty_cache: Cache,
) -> None:
    child = script(
        """
        import sys, time
        from pathlib import Path
        from lab.cache import Cache
        with Cache(Path(sys.argv[1])).work() as scratch:
            (scratch / "half").write_bytes(b"x" * 1000)
            print(scratch, flush=True)
            time.sleep(60)
        """,
        empty_cache.root,
    )
    assert child.stdout is not None
    scratch = Path(child.stdout.readline().strip())
    with empty_cache.work():
        assert (scratch / "half").exists(), "a living owner keeps its scratch directory"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert scratch.exists()
    os.utime(scratch, (time.time() - 3600, time.time() - 3600))
    with empty_cache.work():
        assert not scratch.exists()
    assert not list((empty_cache.root).glob("blobs/*/*"))


def test_a_lock_dies_with_its_holder_and_a_waiting_run_is_told(tmp_path: Path) -> None:
    child = script(
        """
        import sys, time
        from pathlib import Path
        from lab.cache import locked
        with locked(Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(60)
        """,
        tmp_path / "lock",
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    waited: list[bool] = []

    def kill_the_holder() -> None:
        waited.append(True)
        child.send_signal(signal.SIGKILL)

    with locked(tmp_path / "lock", kill_the_holder):
        assert waited == [True]
    child.wait()


def test_a_write_that_is_cut_off_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old", mode=0o600)
    child = script(
        """
        import os, sys
        from pathlib import Path
        from lab import cache
        real = os.fsync
        cache.os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
        cache.write_atomically(Path(sys.argv[1]), b"new")
        """,
        target,
    )
    assert child.wait() == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_disk_without_room_is_refused_before_anything_is_made(empty_cache: Cache) -> None:
    with pytest.raises(Problem, match=r"building x needs 999999999999 MiB .* XDG_CACHE_HOME"):
        empty_cache.room(999999999999, "building x")
