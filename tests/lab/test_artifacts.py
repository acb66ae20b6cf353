"""The store hands out only whole artifacts, from the first source that has them."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import yaml

from lab import oci
from lab.architecture import architecture
from lab.artifacts import Store, obtain
from lab.cache import Cache
from lab.download import Damaged
from lab.manifest import ManifestArtifact, artifacts
from lab.paths import PROJECT
from lab.problem import Problem
from spec.artifacts import needed
from tests.lab import world
from tests.lab.world import VERSIONS, StoreLab, program

ARCH = architecture()


def named(name: str, lab: StoreLab) -> ManifestArtifact:
    every = artifacts(VERSIONS, lab.store.architecture)
    return next(artifact for artifact in every if artifact.name == name)


def sha256sum(path: Path) -> str:
    done = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
    return done.stdout.split()[0].lstrip("\\")


def flip(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 1)


DAMAGE = pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])


def test_everything_a_stack_needs_is_fetched_or_built_and_is_what_its_digest_says(
    small_lab: StoreLab,
) -> None:
    stored = small_lab.store.fetch(VERSIONS)
    assert tuple(artifact.name for artifact in stored) == needed()
    for artifact in stored:
        assert sha256sum(artifact.path) == artifact.digest
        origin = "built" if artifact.origin == "built" else f"official {ARCH}"
        if artifact.name not in ("pause", "coredns"):
            assert artifact.path.read_bytes() == program(artifact.name, origin)
            assert os.access(artifact.path, os.X_OK)
        else:
            assert program(artifact.name, origin) in artifact.path.read_bytes()
    origins = {artifact.name: artifact.origin for artifact in stored}
    assert {name for name, origin in origins.items() if origin == "official"} == {
        *("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
        *("kubectl", "etcd", "etcdctl", "etcdutl", "coredns"),
    }


def test_only_what_a_runtime_needs_is_made(small_lab: StoreLab) -> None:
    small_lab.store.fetch(VERSIONS, "docker")
    assert set(small_lab.built) == {"cri-dockerd", "cni-plugins", "flannel", "pause"}


def test_a_second_fetch_asks_no_source(small_lab: StoreLab) -> None:
    first = small_lab.store.fetch(VERSIONS)
    small_lab.site.asked.clear()
    small_lab.notebook.messages.clear()
    assert small_lab.store.fetch(VERSIONS) == first
    assert small_lab.site.asked == []
    assert small_lab.notebook.messages == []


def test_an_unreachable_download_is_built(small_lab: StoreLab) -> None:
    rows = yaml.safe_load((small_lab.data / "official.yaml").read_text())
    for row in rows:
        row["url"] = row["url"].replace(small_lab.site.url, "http://127.0.0.1:1")
    (small_lab.data / "official.yaml").write_text(yaml.safe_dump(rows))
    world.forget()
    stored = small_lab.store.fetch(VERSIONS)
    assert {artifact.origin for artifact in stored} == {"built"}
    assert "taking the next source" in small_lab.notebook.text


def replace_download(lab: StoreLab, path: str, content: bytes, *, pinned: bool) -> None:
    """Serve other bytes; ``pinned`` gives them a right digest in the data, as a wrong row would."""
    lab.site.files[path] = content
    rows = yaml.safe_load((lab.data / "official.yaml").read_text())
    for row in rows:
        if pinned and row["url"].endswith(path):
            row["sha256"] = hashlib.sha256(content).hexdigest()
    (lab.data / "official.yaml").write_text(yaml.safe_dump(rows))
    world.forget()


def symlink_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("etcd", "etcdctl", "etcdutl"):
            member = tarfile.TarInfo(f"release/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "pinned"),
    [
        (b"other bytes", False),
        (b"no archive", True),
        (world.archive_of({"etcd": b"x"})[:-20], True),
        (world.archive_of({"etcd": b"without its companions"}), True),
        (symlink_archive(), True),
    ],
    ids=["digest", "no-archive", "cut-archive", "member", "links"],
)
def test_a_download_that_is_not_what_its_row_says_is_named_and_never_stored(
    content: bytes, pinned: bool, small_lab: StoreLab
) -> None:
    path = f"/{ARCH}/etcd.tar.gz"
    replace_download(small_lab, path, content, pinned=pinned)
    with pytest.raises(Damaged, match=path):
        small_lab.store.resolve(named("etcd", small_lab))
    assert small_lab.store.find(named("etcd", small_lab)) is None
    assert small_lab.built == []


def test_a_download_that_is_gone_is_built_instead(small_lab: StoreLab) -> None:
    path = f"/{ARCH}/etcd.tar.gz"
    del small_lab.site.files[path]
    stored = small_lab.store.resolve(named("etcd", small_lab))
    assert stored.origin == "built"
    assert stored.path.read_bytes() == program("etcd", "built")
    assert path in small_lab.notebook.text


def test_without_any_source_the_remedy_is_told(small_lab: StoreLab) -> None:
    store = small_lab.store
    with pytest.raises(Problem, match=r"no source is known for etcd 9\.9\.9"):
        obtain("etcd", "9.9.9", small_lab.cache, small_lab.notebook, store.cache.root)
    recipes = yaml.safe_load((small_lab.data / "recipes/recipes.yaml").read_text())
    kept = [row for row in recipes if row["family"] != "etcd"]
    (small_lab.data / "recipes/recipes.yaml").write_text(yaml.safe_dump(kept))
    small_lab.site.files.clear()
    world.forget()
    with pytest.raises(Problem, match="artifacts import"):
        store.resolve(named("etcd", small_lab))


@DAMAGE
@pytest.mark.parametrize("name", ["kubelet", "flanneld", "coredns"])
def test_damage_is_found_by_verify_and_named_and_replaced_by_fetch(  # type: ignore[no-untyped-def]
    name: str, damage, small_lab: StoreLab
) -> None:
    before = {artifact.name: artifact for artifact in small_lab.store.fetch(VERSIONS)}
    assert small_lab.store.verify().findings == ()
    damage(before[name].path)
    findings = small_lab.store.verify().findings
    assert [finding.name for finding in findings] == [name]
    assert findings[0].fault == ("missing" if damage is Path.unlink else "damaged")
    small_lab.notebook.messages.clear()
    after = {artifact.name: artifact for artifact in small_lab.store.fetch(VERSIONS)}
    assert after == before
    assert any(name in text and "replacing it" in text for text in small_lab.notebook.messages)
    assert sha256sum(after[name].path) == after[name].digest
    assert small_lab.store.verify().findings == ()


def test_only_the_damaged_one_of_several_downloads_is_fetched_again(small_lab: StoreLab) -> None:
    stored = {artifact.name: artifact for artifact in small_lab.store.fetch(VERSIONS)}
    small_lab.site.asked.clear()
    flip(stored["kubelet"].path)
    small_lab.store.fetch(VERSIONS)
    assert small_lab.site.asked == [f"/{ARCH}/kubelet"]


def test_verify_reads_every_byte_also_of_files_without_a_record(small_lab: StoreLab) -> None:
    small_lab.store.fetch(VERSIONS)
    blobs = list((small_lab.cache.root / "blobs").glob("??/*"))
    verification = small_lab.store.verify()
    assert verification.files == len(blobs)
    assert verification.size == sum(blob.stat().st_size for blob in blobs)
    for receipt in small_lab.cache.receipts():
        (small_lab.cache.root / "receipts" / f"{receipt.key}.json").unlink()
    for blob in blobs:
        flip(blob)
    assert {f.name for f in small_lab.store.verify().findings} == {blob.name for blob in blobs}


def test_an_unreadable_record_is_found_and_made_anew(small_lab: StoreLab) -> None:
    small_lab.store.fetch(VERSIONS)
    for record in (small_lab.cache.root / "receipts").iterdir():
        record.write_text("{")
    faults = {finding.fault for finding in small_lab.store.verify().findings}
    assert faults == {"unreadable"}
    small_lab.store.fetch(VERSIONS)
    assert small_lab.store.verify().findings == ()


def test_a_changed_recipe_is_built_anew(small_lab: StoreLab) -> None:
    first = small_lab.store.resolve(named("flanneld", small_lab))
    (small_lab.data / "recipes/flannel/go.mod").write_text("module flannel // changed\n")
    assert small_lab.store.find(named("flanneld", small_lab)) is None
    small_lab.notebook.messages.clear()
    assert small_lab.store.resolve(named("flanneld", small_lab)).digest == first.digest
    assert small_lab.built == ["flannel"]


def test_find_reads_no_source(small_lab: StoreLab) -> None:
    assert small_lab.store.find(named("kubelet", small_lab)) is None
    assert small_lab.site.asked == []
    stored = small_lab.store.resolve(named("kubelet", small_lab))
    assert small_lab.store.find(named("kubelet", small_lab)) == stored


def run_to_be_killed(lab: StoreLab, stops_at: str = "-") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.lab.world", lab.data, lab.cache.root, stops_at],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )


def is_whole(store: Store) -> bool:
    stored = store.fetch(VERSIONS)
    return all(sha256sum(artifact.path) == artifact.digest for artifact in stored)


@pytest.mark.parametrize("name", ["kubelet", "etcd.tar.gz"])
def test_a_run_killed_in_a_download_leaves_nothing_that_is_used(
    name: str, small_lab: StoreLab
) -> None:
    path = f"/{ARCH}/{name}"
    small_lab.site.stalls_at[path] = len(small_lab.site.files[path]) // 2
    child = run_to_be_killed(small_lab)
    while path not in small_lab.site.asked:
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    small_lab.site.stalls_at.clear()
    assert is_whole(small_lab.store)
    assert small_lab.store.verify().findings == ()


@pytest.mark.parametrize("family", ["cni-plugins", "pause"])
def test_a_run_killed_in_a_build_leaves_nothing_that_is_used(
    family: str, small_lab: StoreLab
) -> None:
    child = run_to_be_killed(small_lab, family)
    assert child.stdout is not None
    assert child.stdout.readline() == "in the middle\n"
    child.kill()
    child.wait()
    assert is_whole(small_lab.store)
    assert family in small_lab.built
    assert small_lab.store.verify().findings == ()


def test_two_runs_at_once_give_one_whole_store(small_lab: StoreLab) -> None:
    children = [run_to_be_killed(small_lab) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert sorted(set(small_lab.site.asked)) == sorted(small_lab.site.asked), "each once"
    small_lab.site.asked.clear()
    assert is_whole(small_lab.store)
    assert small_lab.site.asked == []


def test_a_full_disk_is_one_sentence(small_lab: StoreLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(program: Path, target: Path, **_: object) -> None:
        del program, target
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(oci, "write_archive", full)
    with pytest.raises(Problem, match="is full: free some space"):
        small_lab.store.resolve(named("pause", small_lab))
    assert small_lab.store.find(named("pause", small_lab)) is None


def test_what_belongs_to_another_cache_is_not_seen(small_lab: StoreLab, tmp_path: Path) -> None:
    small_lab.store.fetch(VERSIONS)
    another = Store(Cache(tmp_path / "other"), small_lab.notebook, tmp_path)
    assert all(another.find(a) is None for a in artifacts(VERSIONS, another.architecture))
