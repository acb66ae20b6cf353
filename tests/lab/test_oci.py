"""Image archives are valid by the OCI specification and to containerd, and always the same."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.artifacts import Store
from lab.cache import Cache
from lab.manifest import artifacts
from lab.oci import FORMAT, add_file, tar_file, write_archive
from lab.progress import Silence
from spec.versions import versions_for

PROGRAM = b"\x7fELF" + bytes(range(256)) * 3000


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make(tmp_path)


def make(directory: Path, **changed: Any) -> Path:
    directory.mkdir(exist_ok=True)
    program, target = directory / "program", directory / "image.tar"
    program.write_bytes(PROGRAM)
    settings: dict[str, Any] = {
        "name": "coredns",
        "reference": "hardway.local/coredns:1.14.7",
        "architecture": "arm64",
        "user": "65532:65532",
    }
    write_archive(program, target, **{**settings, **changed})
    assert sorted(p.name for p in directory.iterdir()) == ["image.tar", "program"]
    return target


def members(archive: Path) -> dict[str, bytes]:
    done = subprocess.run(
        ["tar", "--list", "--file", archive], capture_output=True, text=True, check=True
    )
    return {
        name: subprocess.run(
            ["tar", "--extract", "--to-stdout", "--file", archive, name],
            capture_output=True,
            check=True,
        ).stdout
        for name in done.stdout.split()
    }


def follow(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    """The blob of a descriptor, checked as OCI image-spec, descriptor.md, asks."""
    algorithm, _, digest = descriptor["digest"].partition(":")
    content = files[f"blobs/{algorithm}/{digest}"]
    assert hashlib.new(algorithm, content).hexdigest() == digest
    assert len(content) == descriptor["size"]
    return content


def test_the_layout_is_whole_from_the_index_to_the_program(archive: Path) -> None:
    files = members(archive)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files["index.json"])
    assert index["schemaVersion"] == 2
    (entry,) = index["manifests"]
    assert entry["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert entry["platform"] == {"architecture": "arm64", "os": "linux"}
    assert entry["annotations"] == {
        "io.containerd.image.name": "hardway.local/coredns:1.14.7",
        "org.opencontainers.image.ref.name": "1.14.7",
    }
    manifest = json.loads(follow(files, entry))
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == entry["mediaType"]
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    config = json.loads(follow(files, manifest["config"]))
    assert (config["architecture"], config["os"]) == ("arm64", "linux")
    assert config["config"]["Entrypoint"] == ["/coredns"]
    assert config["config"]["User"] == "65532:65532"
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
    content = follow(files, layer)
    assert config["rootfs"] == {
        "type": "layers",
        "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"],
    }
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        (program,) = tar.getmembers()
        assert (program.name, program.mode, program.uid, program.gid) == ("coredns", 0o755, 0, 0)
        stream = tar.extractfile(program)
        assert stream is not None
        assert stream.read() == PROGRAM


def configuration(archive: Path) -> dict[str, Any]:
    files = members(archive)
    (image,) = json.loads(files["manifest.json"])
    settings: dict[str, Any] = json.loads(files[image["Config"]])["config"]
    return settings


def test_a_runtime_is_told_the_signal_that_ends_the_program(tmp_path: Path) -> None:
    assert "StopSignal" not in configuration(make(tmp_path / "usual"))
    ended = make(tmp_path / "another", stop_signal="SIGINT")
    assert configuration(ended)["StopSignal"] == "SIGINT"


def test_a_docker_without_layouts_finds_the_same_image(archive: Path) -> None:
    files = members(archive)
    (image,) = json.loads(files["manifest.json"])
    assert image["RepoTags"] == ["hardway.local/coredns:1.14.7"]
    config = json.loads(files[image["Config"]])
    digests = [f"sha256:{hashlib.sha256(files[path]).hexdigest()}" for path in image["Layers"]]
    assert digests == config["rootfs"]["diff_ids"]


def test_the_same_program_gives_the_same_bytes_anywhere_and_at_any_time(tmp_path: Path) -> None:
    first = make(tmp_path / "a")
    previous = os.umask(0o077)
    try:
        time.sleep(1.1)  # longer than the resolution of a time in a tar
        second = make(tmp_path / "b")
    finally:
        os.umask(previous)
    assert first.read_bytes() == second.read_bytes()


def test_layers_lie_beneath_the_program_which_may_have_a_folder(tmp_path: Path) -> None:
    beneath = tmp_path / "tools"
    with tar_file(beneath) as tools:
        add_file(tools, "usr/sbin/nft", io.BytesIO(b"nft"), 3, mode=0o755)
    archive = make(tmp_path / "image", folder="/usr/local/bin/", beneath=(beneath,))
    files = members(archive)
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(follow(files, entry))
    config = json.loads(follow(files, manifest["config"]))
    assert config["config"]["Entrypoint"] == ["/usr/local/bin/coredns"]
    layers = [follow(files, layer) for layer in manifest["layers"]]
    assert layers[0] == beneath.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(layers[1])) as tar:
        assert tar.getnames() == ["usr/local/bin/coredns"]
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    assert config["rootfs"]["diff_ids"] == digests
    assert len(config["history"]) == 2
    (image,) = json.loads(files["manifest.json"])
    assert [files[path] for path in image["Layers"]] == layers


def test_the_bytes_of_an_image_stay_what_they_are_in_living_clusters(archive: Path) -> None:
    """Other bytes come with another ``oci.FORMAT``, or what is in a store counts as made so."""
    assert FORMAT == 1
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert digest == "60e56d192b58743e4cb1cf7801c1d43bdc6181c2e38d7c17defac6c96771eacb"


@pytest.mark.parametrize(
    "change",
    [{"name": "pause"}, {"reference": "x/y:2"}, {"architecture": "amd64"}, {"user": "0:0"}],
)
def test_every_property_of_an_image_is_in_its_bytes(change: dict[str, str], tmp_path: Path) -> None:
    assert make(tmp_path / "a").read_bytes() != make(tmp_path / "b", **change).read_bytes()


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[list[str]]:
    """The words of a ``ctr`` that talks to a real containerd, where the store has one."""
    store = Store(Cache(), Silence(), tmp_path)
    every = artifacts(versions_for(), store.architecture)
    programs = {a.name: store.find(a) for a in every if a.family == "containerd"}
    daemon, client = programs["containerd"], programs["ctr"]
    if daemon is None or client is None:
        pytest.skip("no containerd in the store yet: ./hardway artifacts fetch")
    configuration = tmp_path / "config.toml"
    configuration.write_text(
        f"version = 3\nroot = '{tmp_path}/root'\nstate = '{tmp_path}/state'\n"
        "disabled_plugins = ['io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime',\n"
        "  'io.containerd.grpc.v1.cri']\n"
        f"[grpc]\naddress = '{tmp_path}/c.sock'\n[ttrpc]\naddress = '{tmp_path}/t.sock'\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([daemon.path, "-c", configuration], stdout=log, stderr=log)
        try:
            while not (tmp_path / "c.sock").exists():
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
            yield [str(client.path), "--address", f"{tmp_path}/c.sock", "--namespace", "k8s.io"]
        finally:
            process.terminate()
            process.wait()


@pytest.mark.machine
def test_containerd_imports_the_archive_under_its_name(
    containerd: list[str], tmp_path: Path
) -> None:
    architecture = Store(Cache(), Silence(), tmp_path).architecture
    archive = make(tmp_path / "image", architecture=architecture)
    platform = f"linux/{architecture}"
    subprocess.run([*containerd, "images", "import", "--platform", platform, archive], check=True)
    done = subprocess.run(
        [*containerd, "images", "check"], check=True, capture_output=True, text=True
    )
    line = next(line for line in done.stdout.splitlines() if "hardway.local/coredns:1.14.7" in line)
    assert "complete (2/2)" in line
    assert line.split()[-1] == "true"


def test_a_whole_root_is_the_image_and_runs_nothing_by_itself(tmp_path: Path) -> None:
    root = tmp_path / "root.tar"
    with tar_file(root) as files:
        add_file(files, "opt/hub/main", io.BytesIO(b"program"), 7, mode=0o755)
    target = tmp_path / "image.tar"
    settings: dict[str, Any] = {
        "name": "hub",
        "reference": "hardway.local/hub:1.0.0",
        "user": "1000:1000",
    }
    environment = {"PATH": "/opt/hub", "LANG": "C.UTF-8"}
    write_archive(root, target, architecture="amd64", environment=environment, **settings)
    files_of = members(target)
    (entry,) = json.loads(files_of["manifest.json"])
    config = json.loads(files_of[entry["Config"]])["config"]
    assert config["Env"] == ["LANG=C.UTF-8", "PATH=/opt/hub"]
    assert "Entrypoint" not in config
    assert [files_of[layer] for layer in entry["Layers"]] == [root.read_bytes()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar", "root.tar"]
