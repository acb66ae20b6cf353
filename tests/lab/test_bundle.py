"""A bundle brings a whole stack to a machine without a network, or nothing at all."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.artifacts import Store
from lab.bundle import BundleManifest, export, import_bundle
from lab.cache import Cache
from lab.manifest import artifacts
from lab.paths import PROJECT
from lab.problem import Problem
from tests.lab import world
from tests.lab.world import VERSIONS, Notebook, StoreLab

EXPORT = """
import sys
from pathlib import Path
from tests.lab import world
world.install(Path(sys.argv[1]))
import lab.bundle, time, tarfile
real = tarfile.TarFile.addfile
def slow(self, member, stream=None):
    real(self, member, stream)
    self.fileobj.flush()
    if member.name.startswith("sha256/"):
        print("in the middle", flush=True)
        time.sleep(60)
tarfile.TarFile.addfile = slow
notebook = world.Notebook()
store = lab.bundle.Store(lab.bundle.Cache(Path(sys.argv[2])), notebook, Path("/nonexistent"))
lab.bundle.export(Path(sys.argv[3]), store, world.VERSIONS, notebook, "containerd")
"""


@pytest.fixture
def bundle(small_lab: StoreLab, tmp_path: Path) -> Path:
    path = tmp_path / "stack.tar"
    export(path, small_lab.store, VERSIONS, small_lab.notebook, "containerd")
    small_lab.site.files.clear()
    small_lab.site.asked.clear()
    small_lab.notebook.messages.clear()
    return path


@pytest.fixture
def offline(small_lab: StoreLab, tmp_path: Path) -> Store:
    """The store of a machine that has nothing and reaches nobody."""
    return Store(Cache(tmp_path / "offline"), small_lab.notebook, tmp_path / "logs")


def empty(store: Store) -> bool:
    root = store.cache.root
    return not store.cache.receipts() and not list((root / "blobs").glob("*/*"))


def test_a_stack_goes_from_one_machine_to_another_without_a_network(
    bundle: Path, small_lab: StoreLab, offline: Store
) -> None:
    import_bundle(bundle, offline, Notebook(), digest=None)
    there = offline.fetch(VERSIONS)
    here = small_lab.store.fetch(VERSIONS)
    assert [(a.name, a.digest, a.origin, a.source) for a in there] == [
        (a.name, a.digest, a.origin, a.source) for a in here
    ]
    for artifact in there:
        assert hashlib.sha256(artifact.path.read_bytes()).hexdigest() == artifact.digest
        runs = artifact.name not in ("pause", "coredns")
        assert artifact.path.stat().st_mode & 0o777 == (0o555 if runs else 0o444)
    assert small_lab.site.asked == []
    assert small_lab.built == []
    assert offline.verify().findings == ()


def test_a_bundle_is_a_plain_tar_that_others_can_check(bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", bundle, "-C", tmp_path, "sha256"], check=True)
    for file in (tmp_path / "sha256").iterdir():
        done = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True)
        assert done.stdout.split()[0] == file.name


def test_the_same_store_gives_the_same_bundle(
    bundle: Path, small_lab: StoreLab, tmp_path: Path
) -> None:
    export(tmp_path / "again.tar", small_lab.store, VERSIONS, Notebook(), "containerd")
    assert (tmp_path / "again.tar").read_bytes() == bundle.read_bytes()


def test_a_second_import_changes_nothing(bundle: Path, offline: Store) -> None:
    import_bundle(bundle, offline, Notebook(), digest=None)
    before = {p: p.stat().st_ino for p in (offline.cache.root / "blobs").glob("*/*")}
    import_bundle(bundle, offline, Notebook(), digest=None)
    assert {p: p.stat().st_ino for p in (offline.cache.root / "blobs").glob("*/*")} == before


def test_an_import_mends_a_damaged_store(bundle: Path, offline: Store) -> None:
    import_bundle(bundle, offline, Notebook(), digest=None)
    for blob in (offline.cache.root / "blobs").glob("*/*"):
        blob.chmod(0o644)
        os.truncate(blob, 3)
    import_bundle(bundle, offline, Notebook(), digest=None)
    assert offline.verify().findings == ()


def members_of(bundle: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(bundle) as archive:
        return archive.getmembers()


def name_of(bundle: Path, member: tarfile.TarInfo) -> str:
    with tarfile.open(bundle) as archive:
        first = archive.next()
        assert first is not None
        stream = archive.extractfile(first)
        assert stream is not None
        manifest = BundleManifest.model_validate_json(stream.read())
    return manifest.named(member.name.removeprefix("sha256/"))


@pytest.mark.parametrize("which", [1, 7, -1])
def test_a_flipped_bit_is_refused_with_the_name_of_the_artifact(
    which: int, bundle: Path, offline: Store
) -> None:
    member = members_of(bundle)[which]
    content = bytearray(bundle.read_bytes())
    content[member.offset_data + member.size // 2] ^= 4
    bundle.write_bytes(content)
    with pytest.raises(Problem, match=f"damaged at {name_of(bundle, member)} "):
        import_bundle(bundle, offline, Notebook(), digest=None)
    assert empty(offline)


@pytest.mark.parametrize("which", [1, 7, -1])
@pytest.mark.parametrize("where", ["header", "data"])
def test_a_truncated_bundle_is_refused_with_the_name_of_the_first_artifact_that_lacks(
    which: int, where: str, bundle: Path, offline: Store
) -> None:
    member = members_of(bundle)[which]
    os.truncate(bundle, member.offset if where == "header" else member.offset_data + 10)
    name = name_of(bundle, member)
    with pytest.raises(Problem, match=f"damaged at {name} .*cut off.*nothing was imported"):
        import_bundle(bundle, offline, Notebook(), digest=None)
    assert empty(offline)


def test_every_byte_of_a_bundle_counts(bundle: Path, offline: Store) -> None:
    """Whatever single byte is other: refused with nothing imported, or padding without meaning."""
    whole = bundle.read_bytes()
    members = members_of(bundle)
    padding = set(range(members[-1].offset_data + members[-1].size, len(whole)))
    for member in members:
        end = member.offset_data + member.size
        padding.update(range(end, end + -end % 512))
    for position in range(0, len(whole), max(1, len(whole) // 60)):
        content = bytearray(whole)
        content[position] ^= 0x10
        bundle.write_bytes(content)
        try:
            import_bundle(bundle, offline, Notebook(), digest=None)
        except Problem:
            assert empty(offline)
        else:
            assert position in padding
            return_to_empty(offline)


def return_to_empty(store: Store) -> None:
    for file in [*(store.cache.root / "blobs").glob("*/*"), *store.cache.root.glob("receipts/*")]:
        file.unlink()


def rewritten(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write the bundle anew with another manifest, whose digest is right."""
    with tarfile.open(bundle) as archive:
        contents = [(m, archive.extractfile(m).read()) for m in archive]  # type: ignore[union-attr]
    manifest = json.loads(contents[0][1])
    change(manifest)
    content = json.dumps(manifest).encode()
    contents[0][0].name = f"manifest/{hashlib.sha256(content).hexdigest()}.json"
    contents[0] = (contents[0][0], content)
    with tarfile.open(bundle, "w") as archive:
        for member, data in contents:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def other_architecture(manifest: dict[str, Any]) -> None:
    opposite = {"amd64": "arm64", "arm64": "amd64"}
    manifest["architecture"] = opposite[manifest["architecture"]]


def unknown_source(manifest: dict[str, Any]) -> None:
    manifest["receipts"][0]["key"] = "0" * 64


def key_that_is_a_path(manifest: dict[str, Any]) -> None:
    manifest["receipts"][0]["key"] = "../../outside"


def name_that_is_a_path(manifest: dict[str, Any]) -> None:
    files = manifest["receipts"][0]["files"]
    files["../../outside"] = files.popitem()[1]


def unlisted_file(manifest: dict[str, Any]) -> None:
    manifest["sizes"].pop(next(iter(manifest["receipts"][0]["files"].values())))


def swapped_official(manifest: dict[str, Any]) -> None:
    receipt = next(r for r in manifest["receipts"] if "kubelet" in r["files"])
    receipt["files"]["kubelet"] = receipt["files"]["kubectl"]


def another_format(manifest: dict[str, Any]) -> None:
    manifest["format"] = 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_architecture, "this machine is"),
        (unknown_source, "not in this checkout"),
        (key_that_is_a_path, "does not know"),
        (name_that_is_a_path, "does not know"),
        (unlisted_file, "is listed and not there"),
        (swapped_official, "kubelet .*not the official file"),
        (another_format, "does not know"),
    ],
)
def test_a_bundle_that_was_tampered_with_or_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], None], message: str, bundle: Path, offline: Store
) -> None:
    rewritten(bundle, change)
    with pytest.raises(Problem, match=message):
        import_bundle(bundle, offline, Notebook(), digest=None)
    assert empty(offline)


def test_a_manifest_with_another_word_in_it_is_refused(bundle: Path, offline: Store) -> None:
    content = bundle.read_bytes()
    assert content.count(b"lab/recipes, flannel") == 1
    bundle.write_bytes(content.replace(b"lab/recipes, flannel", b"lab/recipes, Flannel"))
    with pytest.raises(Problem, match="damaged at its manifest"):
        import_bundle(bundle, offline, Notebook(), digest=None)
    assert empty(offline)


def test_a_bundle_with_more_than_it_lists_is_refused(bundle: Path, offline: Store) -> None:
    with tarfile.open(bundle, "a") as archive:
        member = tarfile.TarInfo(f"sha256/{hashlib.sha256(b'more').hexdigest()}")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"more"))
    with pytest.raises(Problem, match="something follows"):
        import_bundle(bundle, offline, Notebook(), digest=None)
    assert empty(offline)


def test_a_rewritten_bundle_that_is_right_is_taken(bundle: Path, offline: Store) -> None:
    rewritten(bundle, lambda _: None)
    import_bundle(bundle, offline, Notebook(), digest=None)
    assert not empty(offline)


def test_a_bundle_is_the_one_whose_digest_the_export_gave(
    bundle: Path, small_lab: StoreLab, offline: Store, tmp_path: Path
) -> None:
    exported = export(tmp_path / "again.tar", small_lab.store, VERSIONS, Notebook(), "containerd")
    assert import_bundle(bundle, offline, Notebook(), digest=exported.digest) == exported


def other_program(manifest: dict[str, Any]) -> None:
    """Whoever has the file for a while puts another source's name into it."""
    built = next(receipt for receipt in manifest["receipts"] if receipt["origin"] == "built")
    built["source"] = "somebody else's"


def test_a_bundle_that_agrees_with_itself_is_refused_where_it_is_another(
    bundle: Path, small_lab: StoreLab, offline: Store, tmp_path: Path
) -> None:
    exported = export(tmp_path / "again.tar", small_lab.store, VERSIONS, Notebook(), "containerd")
    rewritten(bundle, other_program)
    with pytest.raises(Problem, match="is another bundle than the one with the digest"):
        import_bundle(bundle, offline, Notebook(), digest=exported.digest)
    assert empty(offline)
    import_bundle(bundle, offline, Notebook(), digest=None)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, world.archive_of({"a": b"b"})])
def test_a_file_that_is_no_bundle_is_told(content: bytes, offline: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Problem, match="is no bundle"):
        import_bundle(tmp_path / "file", offline, Notebook(), digest=None)
    with pytest.raises(Problem, match="cannot be read"):
        import_bundle(tmp_path / "absent", offline, Notebook(), digest=None)


def test_an_export_that_is_killed_leaves_the_old_file_and_the_next_one_is_whole(
    small_lab: StoreLab, offline: Store, tmp_path: Path
) -> None:
    path = tmp_path / "stack.tar"
    path.write_bytes(b"the bundle of yesterday")
    small_lab.store.fetch(VERSIONS)
    child = subprocess.Popen(
        [sys.executable, "-c", EXPORT, small_lab.data, small_lab.cache.root, path],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "in the middle\n"
    child.kill()
    child.wait()
    assert path.read_bytes() == b"the bundle of yesterday"
    export(path, small_lab.store, VERSIONS, Notebook(), "containerd")
    import_bundle(path, offline, Notebook(), digest=None)
    assert sorted(p.name for p in tmp_path.glob(".*")) == []


IMPORT = """
import sys, time
from pathlib import Path
from tests.lab import world
world.install(Path(sys.argv[1]))
import lab.bundle
real = lab.bundle.Cache.add
def slow(self, *words, **named):
    real(self, *words, **named)
    print("in the middle", flush=True)
    time.sleep(60)
lab.bundle.Cache.add = slow
notebook = world.Notebook()
store = lab.bundle.Store(lab.bundle.Cache(Path(sys.argv[2])), notebook, Path("/nonexistent"))
lab.bundle.import_bundle(Path(sys.argv[3]), store, notebook, digest=None)
"""


def test_an_import_that_is_killed_records_nothing_and_can_be_done_again(
    bundle: Path, small_lab: StoreLab, offline: Store
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", IMPORT, small_lab.data, offline.cache.root, bundle],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "in the middle\n"
    child.kill()
    child.wait()
    assert offline.cache.receipts() == []
    assert all(offline.find(a) is None for a in artifacts(VERSIONS, offline.architecture))
    import_bundle(bundle, offline, Notebook(), digest=None)
    assert offline.verify().findings == ()
    assert len(offline.fetch(VERSIONS)) == 20


def test_a_disk_that_is_full_at_the_export_is_told_and_leaves_nothing(
    small_lab: StoreLab, tmp_path: Path
) -> None:
    (tmp_path / ".stack.tar.part").symlink_to("/dev/full")
    with pytest.raises(Problem, match="is full"):
        export(tmp_path / "stack.tar", small_lab.store, VERSIONS, Notebook(), "containerd")
    assert list(tmp_path.glob("*stack.tar*")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_bundle_of_another_user_becomes_the_importer_s_own(bundle: Path, offline: Store) -> None:
    os.chown(bundle, 54321, 54321)
    assert {(member.uid, member.gid) for member in members_of(bundle)} == {(0, 0)}
    import_bundle(bundle, offline, Notebook(), digest=None)
    owners = {artifact.path.stat().st_uid for artifact in offline.fetch(VERSIONS)}
    assert owners == {os.geteuid()}
