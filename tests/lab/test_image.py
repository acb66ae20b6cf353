"""The base image: built once, whole or not at all, and what is in it."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lab import libvirt, storage_pool
from lab.cache import Cache, Receipt, linked, sha256_of
from lab.debian_root import debian_root, root_key
from lab.image import DiskImage, NodeArtifact, base_image
from lab.libvirt import LibvirtConnection
from lab.official_image import official_image
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from lab.progress import PlainProgress
from lab.stamped import record
from lab.storage_pool import provide
from tests.lab.world import Notebook

# -- official images -----------------------------------------------------------------------------


@pytest.fixture
def official(tmp_path: Path) -> Path:
    file = tmp_path / "official.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, "64M"], check=True)
    return file


def test_an_official_image_is_used_as_it_is(empty_cache: Cache, official: Path) -> None:
    text = official.read_bytes()
    image = official_image(
        empty_cache, str(official), Notebook(), sha512=hashlib.sha512(text).hexdigest()
    )
    assert image.disk.read_bytes() == text
    assert (image.digest, image.format) == (hashlib.sha256(text).hexdigest(), "qcow2")
    assert (image.kernel, image.initrd) == (None, None)
    official.unlink()
    again = official_image(
        empty_cache, str(official), Notebook(), sha512=hashlib.sha512(text).hexdigest()
    )
    assert again == image


def test_an_official_image_with_other_bytes_is_refused(empty_cache: Cache, official: Path) -> None:
    with pytest.raises(Problem, match="sha256"):
        official_image(empty_cache, str(official), Notebook(), sha256="0" * 64)
    with pytest.raises(Problem, match="no digest"):
        official_image(empty_cache, str(official), Notebook())
    assert [
        path for path in empty_cache.root.rglob("*") if path.is_file() and path.stat().st_size
    ] == []


def test_a_path_means_the_same_wherever_the_command_is_run(
    empty_cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    readme = PROJECT / "README.md"
    digest = hashlib.sha256(readme.read_bytes()).hexdigest()
    monkeypatch.chdir(tmp_path)
    image = official_image(empty_cache, "README.md", Notebook(), sha256=digest)
    assert image.disk.read_bytes() == readme.read_bytes()
    with pytest.raises(Problem, match=f"there is no image {PROJECT}/nowhere.img"):
        official_image(empty_cache, "nowhere.img", Notebook(), sha256="1" * 64)
    with pytest.raises(Problem, match="docs is a directory"):
        official_image(empty_cache, "docs", Notebook(), sha256="1" * 64)


def test_a_damaged_official_image_is_noticed_and_taken_again(
    empty_cache: Cache, official: Path
) -> None:
    digest = sha256_of(official)
    image = official_image(empty_cache, str(official), Notebook(), sha256=digest)
    image.disk.chmod(0o644)
    image.disk.write_bytes(b"spoilt")
    notebook = Notebook()
    again = official_image(empty_cache, str(official), notebook, sha256=digest)
    assert sha256_of(again.disk) == digest
    assert "damaged (disk)" in notebook.text


# -- in a pool -----------------------------------------------------------------------------------


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LibvirtConnection:
    """A pool directory; the libvirt behind it is told nothing."""
    monkeypatch.setattr(storage_pool, "virsh", lambda *_: "")
    (tmp_path / "lab" / "disks").mkdir(parents=True)
    return LibvirtConnection(
        "test:///", True, None, "qemu", "", "hardway-t", tmp_path / "lab" / "disks"
    )


def _image(tmp_path: Path, name: str) -> DiskImage:
    files = {}
    for kind in ("disk", "kernel", "initrd"):
        files[kind] = tmp_path / f"{name}-{kind}"
        files[kind].write_bytes(f"{name} {kind}".encode())
    digest = sha256_of(files["disk"])
    return DiskImage(digest, files["disk"], "qcow2", files["kernel"], files["initrd"])


def _names(pool: LibvirtConnection) -> list[str]:
    return sorted(path.name for path in pool.disks.iterdir())


def test_a_placed_image_is_the_caches_own_bytes_and_is_placed_once(
    pool: LibvirtConnection, tmp_path: Path
) -> None:
    base = _image(tmp_path, "a")
    placed = provide(pool, base)
    assert placed.kernel is not None
    assert (pool.disks / placed.volume).samefile(base.disk)
    assert placed.kernel.read_text() == "a kernel"
    before = [path.lstat() for path in pool.disks.iterdir()]
    assert provide(pool, base) == placed
    assert [path.lstat() for path in pool.disks.iterdir()] == before
    assert sorted(p.name for p in pool.disks.parent.iterdir()) == ["disks"]


def test_the_systems_libvirt_gets_copies_since_it_changes_their_owner(
    pool: LibvirtConnection, tmp_path: Path
) -> None:
    base = _image(tmp_path, "a")
    system = LibvirtConnection("test:///", False, None, "qemu", "", pool.pool, pool.disks)
    placed = provide(system, base)
    copy = pool.disks / placed.volume
    assert not copy.samefile(base.disk)
    assert copy.read_bytes() == base.disk.read_bytes()
    inode = copy.stat().st_ino
    provide(system, base)
    assert copy.stat().st_ino == inode


def test_a_damaged_placed_image_is_replaced(pool: LibvirtConnection, tmp_path: Path) -> None:
    base = _image(tmp_path, "a")
    system = LibvirtConnection("test:///", False, None, "qemu", "", pool.pool, pool.disks)
    copy = pool.disks / provide(system, base).volume
    copy.chmod(0o644)
    copy.write_bytes(b"spoilt")
    provide(system, base)
    assert copy.read_bytes() == base.disk.read_bytes()


# -- built images --------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache with a Debian root that holds only what a build looks at: it takes a second."""
    fresh, tree, archive = Cache(tmp_path / "cache"), tmp_path / "tree", tmp_path / "cache/tar"
    programs = [f"usr/lib/klibc/bin/{name}" for name in ("sh", "insmod", "mount", "run-init")]
    for name in (
        *("etc/ssh/ssh_host_rsa_key", "etc/update-motd.d/10-uname", "etc/hostname"),
        *("etc/machine-id", "etc/cloud/cloud.cfg", "etc/systemd/system/x", "var/x"),
        *("boot/vmlinuz-6", "usr/lib/modules/6/kernel/drivers/block/virtio_blk.ko"),
        *("usr/lib/klibc-x.so", "usr/lib/klibc/bin/sleep", *programs),
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("root\n")
    fresh.root.mkdir()
    subprocess.run(["tar", "--create", "--file", archive, "--directory", tree, "."], check=True)
    record(fresh, Receipt(root_key(), {"root.tar": fresh.add(archive)}, "built", "tests"))
    return fresh


@pytest.fixture
def debian(tmp_path: Path, paths: LabPaths) -> Cache:
    """A cache that holds the real Debian root of the shared one and nothing else."""
    shared, fresh = Cache(), Cache(tmp_path / "cache-with-debian")
    debian_root(shared, PlainProgress(), paths.logs)
    receipt = shared.receipt(root_key())
    assert receipt is not None
    for digest in receipt.files.values():
        target = fresh.blob(digest)
        target.parent.mkdir(parents=True)
        if not linked(shared.blob(digest), target):
            shutil.copyfile(shared.blob(digest), target)
    record(fresh, receipt)
    return fresh


@pytest.fixture
def artifacts(cache: Cache, tmp_path: Path) -> tuple[NodeArtifact, ...]:
    made = []
    for name, executable in (("kubelet", True), ("pause", False)):
        file = cache.root / name
        file.write_bytes(name.encode() * 1000)
        digest = cache.add(file, executable=executable)
        made.append(NodeArtifact(name, "1.2.3", digest, cache.blob(digest), executable))
    return tuple(made)


def _whole(cache: Cache) -> bool:
    """Whether every blob has the bytes that its name says."""
    return all(sha256_of(blob) == blob.name for blob in (cache.root / "blobs").glob("*/*"))


BUILD = """
import sys
from pathlib import Path
from lab.cache import Cache
from lab.image import base_image
from lab.progress import PlainProgress
base_image(Cache(Path(sys.argv[1])), (), PlainProgress(), logs=Path(sys.argv[2]))
"""


@pytest.mark.machine
def test_killed_builds_leave_nothing_in_use_and_the_next_one_succeeds(
    debian: Cache, paths: LabPaths
) -> None:
    command = [sys.executable, "-c", BUILD, str(debian.root), str(paths.logs)]
    blobs = sorted((debian.root / "blobs").glob("*/*"))
    work = debian.root / "work"
    for at in ("root/etc", "raw", "disk"):
        shutil.rmtree(work, ignore_errors=True)
        with subprocess.Popen(command, cwd=PROJECT, start_new_session=True) as build:
            while not list(work.glob(f"*/{at}")):
                assert build.poll() is None, "the build ended before it could be killed"
                time.sleep(0.01)
            os.kill(build.pid, signal.SIGKILL)
        assert sorted((debian.root / "blobs").glob("*/*")) == blobs
    image = base_image(debian, (), PlainProgress(), logs=paths.logs)
    assert sha256_of(image.disk) == image.digest
    assert _whole(debian)


@pytest.fixture
def built(cache: Cache, artifacts: tuple[NodeArtifact, ...], paths: LabPaths) -> DiskImage:
    return base_image(cache, artifacts, PlainProgress(), logs=paths.logs)


@pytest.mark.machine
def test_a_second_call_builds_nothing_and_a_damaged_image_is_made_anew(
    built: DiskImage, cache: Cache, artifacts: tuple[NodeArtifact, ...], paths: LabPaths
) -> None:
    notebook = Notebook()
    assert base_image(cache, artifacts, notebook, logs=paths.logs) == built
    assert notebook.messages == []
    built.disk.chmod(0o644)
    with built.disk.open("r+b") as stream:
        stream.seek(2**20)
        stream.write(b"spoilt")
    again = base_image(cache, artifacts, notebook, logs=paths.logs)
    assert "damaged (disk)" in notebook.text
    assert sha256_of(again.disk) == again.digest
    assert _whole(cache)


@pytest.mark.machine
def test_two_builds_at_once_make_one_image(cache: Cache, paths: LabPaths) -> None:
    notebooks = [Notebook(), Notebook()]
    images: list[DiskImage] = []
    threads = [
        threading.Thread(
            target=lambda book=book: images.append(base_image(cache, (), book, logs=paths.logs))
        )
        for book in notebooks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert images[0] == images[1]
    assert sum("building the base image" in book.text for book in notebooks) == 1


@pytest.mark.machine
def test_a_damaged_artifact_does_not_get_into_an_image(
    cache: Cache, artifacts: tuple[NodeArtifact, ...], paths: LabPaths
) -> None:
    artifacts[0].path.chmod(0o644)
    artifacts[0].path.write_bytes(b"spoilt")
    with pytest.raises(Problem, match=r"kubelet 1\.2\.3 is damaged"):
        base_image(cache, artifacts, Notebook(), logs=paths.logs)


@pytest.mark.machine
def test_the_disk_holds_what_a_node_expects_and_no_identity(
    debian: Cache, artifacts: tuple[NodeArtifact, ...], paths: LabPaths, tmp_path: Path
) -> None:
    built = base_image(debian, artifacts, PlainProgress(), logs=paths.logs)
    raw = tmp_path / "raw"
    command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(built.disk), str(raw)]
    subprocess.run(command, check=True)

    def look(command: str) -> str:
        return subprocess.run(
            ["debugfs", "-R", command, raw], capture_output=True, text=True, check=True
        ).stdout

    for item, mode in zip(artifacts, ("0555", "0444"), strict=True):
        stat = look(f"stat /var/lib/hardway/store/sha256/{item.digest}")
        assert re.search(rf"Mode:\s+{mode}\b", stat)
        assert re.search(r"User:\s+0\s+Group:\s+0\b", stat)
        assert look(f"cat /var/lib/hardway/store/sha256/{item.digest}") == item.path.read_text()
        size, when = look(f"cat /var/lib/hardway/store/verified/{item.digest}").split()
        second, fraction = when.split(".")
        assert re.search(rf"mtime: 0x{int(second):08x}:00000000\b", stat), "it is read again"
        assert fraction == "0" * 9
        assert re.search(rf"Size: {size}\b", stat)
    index = json.loads(look("cat /var/lib/hardway/store/index.json"))
    assert index == [
        {"name": item.name, "version": item.version, "digest": item.digest} for item in artifacts
    ]
    assert look("cat /etc/machine-id") == ""
    assert "ssh_host" not in look("ls /etc/ssh")
    assert "root" not in look("cat /etc/hostname")
    checked = subprocess.run(["e2fsck", "-f", "-n", raw], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.machine
def test_an_image_is_a_volume_of_the_labs_pool(paths: LabPaths, tmp_path: Path) -> None:
    host = libvirt.start(paths, Notebook())
    try:
        file = tmp_path / "official.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, "64M"], check=True)
        base = official_image(
            Cache(tmp_path / "cache"), str(file), Notebook(), sha256=sha256_of(file)
        )
        placed = provide(host, base)
        assert placed.volume in libvirt.virsh(host, "vol-list", host.pool)
    finally:
        libvirt.stop(paths, Notebook())
