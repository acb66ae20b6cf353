"""``./hardway images``: archives of all kinds, onto real containerds over a real OpenSSH server."""

import asyncio
import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from lab.problem import Problem
from ops import images
from ops.image_archive import read
from ops.image_reference import BadReference, full_reference
from ops.node_images import Runtimes
from ops.reach import Reached
from plan import containerd, runtime
from probe.access import Access, MachineAccess
from probe.machines import Machines
from tests.engine.sshd import privilege_separation_directory
from tests.engine.stack import eventually
from tests.ops.archives import NAME, archive, changed, named, of_docker, with_platforms, without
from tests.plan.real_containerd import real_containerd
from tests.plan.shell import cluster
from tests.plan.stored import as_root, stored
from tests.probe.machine import access, answering, one_key

__all__ = ["privilege_separation_directory"]

# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.29", "docker.io/library/nginx:1.29"),
        ("someone/shop", "docker.io/someone/shop:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("localhost/shop", "localhost/shop:latest"),
        ("localhost:5000/shop", "localhost:5000/shop:latest"),
        ("example.com/a/b__c:V1.x", "example.com/a/b__c:V1.x"),
        (f"a@sha256:{'0' * 64}", f"docker.io/library/a@sha256:{'0' * 64}"),
    ],
)
def test_a_name_becomes_what_a_runtime_calls_the_image(given: str, full: str) -> None:
    assert full_reference(given) == full
    assert full_reference(full) == full


@pytest.mark.parametrize("given", ["", "Shop", "a b", "a:", "/a", "a/", "a:b:c", "-a", "a" * 300])
def test_what_is_no_name_is_refused(given: str) -> None:
    with pytest.raises(BadReference, match="is no name of an image"):
        full_reference(given)


# -- archives --------------------------------------------------------------------------------------


def refusal(path: Path, name: str | None = None) -> str:
    with pytest.raises(Problem) as caught:
        read(path, "amd64", name)
    return str(caught.value)


def test_a_file_that_is_no_whole_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    assert "there is no file" in refusal(path)
    for content in (b"", b"no archive", bytes(10240), gzip.compress(b"no archive")):
        path.write_bytes(content)
        assert "is no image archive" in refusal(path)
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("etc/passwd"))
    assert "neither index.json nor manifest.json" in refusal(path)
    whole = archive(path).read_bytes()
    for cut in (whole[:-15_000], gzip.compress(whole)[:-20]):
        path.write_bytes(cut)
        assert "is no image archive" in refusal(path)
    path.write_bytes(b"\x28\xb5\x2f\xfd....")
    assert "unzstd" in refusal(path)


def test_an_archive_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    whole = archive(tmp_path / "image.tar")
    with tarfile.open(whole) as tar:
        blobs = [member.name for member in tar if member.name.startswith("blobs/")]
    assert len(blobs) == 3
    for blob in blobs:
        assert f"it lacks {blob}" in refusal(changed(archive(whole), without(blob)))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"manifests": [{}]}', b'"x"'])
def test_a_broken_table_of_contents_is_refused(tmp_path: Path, content: bytes) -> None:
    path = archive(tmp_path / "image.tar")
    assert "is no image archive" in refusal(
        changed(path, lambda documents: documents.update({"index.json": content}))
    )


def test_an_image_for_other_processors_is_refused(tmp_path: Path) -> None:
    for change in (lambda _: None, of_docker):
        path = changed(archive(tmp_path / "image.tar", architecture="arm64"), change)
        assert "are for linux/arm64, and the machines are linux/amd64" in refusal(path)


def test_an_image_without_a_name_must_be_given_one(tmp_path: Path) -> None:
    tag = {"org.opencontainers.image.ref.name": "latest"}
    for annotations in ({}, tag):
        path = changed(archive(tmp_path / "image.tar"), named(annotations))
        assert "has no name" in refusal(path)
        assert [image.name for image in read(path, "amd64", "shop").images] == [
            "docker.io/library/shop:latest"
        ]
        assert "'Shop' is no name" in refusal(path, "Shop")


def test_of_an_image_for_several_platforms_the_machines_own_is_taken(tmp_path: Path) -> None:
    foreign = archive(tmp_path / "other.tar", architecture="arm64")
    own = archive(tmp_path / "image.tar")
    (wanted,) = read(own, "amd64").images
    (image,) = read(changed(own, with_platforms(foreign)), "amd64").images
    assert (image.name, image.identifier) == ("docker.io/library/shop:2", wanted.identifier)


def test_all_that_is_sent_is_there_whatever_the_compression(tmp_path: Path) -> None:
    path = archive(tmp_path / "image.tar")
    expected = _files(path.read_bytes())
    packed = tmp_path / "image.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for file in (path, packed):
        image_archive = read(file, "amd64")
        sent = b"".join(image_archive.chunks())
        assert len(sent) == image_archive.size
        files = _files(sent)
        assert files.keys() == expected.keys()
        for name, content in files.items():
            if name not in ("index.json", "manifest.json"):
                assert content == expected[name]


def _files(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


# -- onto real containerds -------------------------------------------------------------------------

CTR = """\
#!/bin/bash
shift 2
[ ! -e {refuses} ] || [ "$3 $4" != "images import" ] || {{ echo "no room" >&2; exit 1; }}
exec {ctr} --address {address} "$@"
"""


@dataclass
class ContainerdNodes:
    """Two nodes with a containerd each, and a machine that is no node."""

    access: Access
    folder: Path

    def ctr(self, node: str, *arguments: str) -> str:
        socket = self.folder / node / "containerd" / "socket"
        return subprocess.run(
            [stored("ctr"), "--address", socket, "--namespace", "k8s.io", *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def digest(self, node: str, name: str) -> str:
        rows = [line.split() for line in self.ctr(node, "images", "list").splitlines()]
        return next((row[2] for row in rows if row[0] == name), "")

    def reached(self) -> Reached:
        """What the commands get of the stack."""
        machines = {
            "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
            "minion": {"address": "192.168.1.11"},
            "store": {"address": "192.168.1.12", "roles": ["etcd"]},
        }
        away = MachineAccess(address="127.0.0.1", host_key="", port=1)
        opened = Access(
            machines={**self.access.machines, "store": away}, ssh_key=self.access.ssh_key
        )
        stack = SimpleNamespace(name="dev")
        return Reached(spec=cluster(machines=machines), access=opened, stack=stack)  # type: ignore[arg-type]

    def hardway(self, *arguments: str) -> str:
        """What a command prints. Raises the Problem that it ends with."""
        app = typer.Typer()
        images.register(app)
        done = CliRunner().invoke(app, ["images", *arguments])
        if done.exception:
            raise done.exception
        return done.stdout


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, privilege_separation_directory: None
) -> Iterator[ContainerdNodes]:
    folder = tmp_path_factory.mktemp("nodes")
    files = runtime.step(cluster(), "minion").files
    config = next(file.content for file in files if file.path == containerd.CONFIG)
    with ExitStack() as stack:
        servers = {}
        for name in ("master", "minion"):
            root, programs = folder / name / "root", folder / name / "bin"
            (root / "etc").mkdir(parents=True)
            programs.mkdir()
            socket = stack.enter_context(real_containerd(folder / name / "containerd", config))
            ctr = programs / "ctr"
            ctr.write_text(
                CTR.format(ctr=stored("ctr"), address=socket, refuses=folder / f"{name}-refuses")
            )
            ctr.chmod(0o755)
            servers[name] = stack.enter_context(answering(folder / name / "sshd", root, programs))
            one_key(servers)
        yield ContainerdNodes(access(None, **servers), folder)


@pytest.fixture
def nodes(shared: ContainerdNodes, monkeypatch: pytest.MonkeyPatch) -> ContainerdNodes:
    monkeypatch.setattr(images, "reach", lambda _: shared.reached())
    return shared


BOTH = ("master", "minion")


@as_root
@pytest.mark.engine
def test_an_image_is_loaded_once_listed_and_removed(nodes: ContainerdNodes, tmp_path: Path) -> None:
    path = archive(tmp_path / "image.tar", size=3_000_000)
    (image,) = read(path, "amd64").images
    output = " ".join(nodes.hardway("load", str(path)).split())
    assert f"{NAME} {image.digest} on master and minion" in output
    assert {nodes.digest(node, NAME) for node in BOTH} == {image.digest}
    assert "master (had it) and minion (had it)" in " ".join(
        nodes.hardway("load", str(path)).split()
    )
    (row,) = [row for row in json.loads(nodes.hardway("list", "--json")) if row["name"] == NAME]
    assert (row["digest"], row["nodes"]) == (image.digest, [*BOTH])

    (line,) = [line for line in nodes.hardway("list").splitlines() if NAME in line]
    assert line.split()[:2] == [NAME, str(image.digest).partition(":")[2][:12]]
    assert line.endswith("all nodes")

    # What has no name is gone as well: nothing of it is on a disk.
    assert "from minion" in nodes.hardway("remove", "shop:1", "--machine", "minion")
    assert image.digest
    assert image.digest not in nodes.ctr("minion", "images", "list")
    assert image.identifier not in nodes.ctr("minion", "content", "list")
    assert nodes.digest("master", NAME) == image.digest
    assert "from master" in nodes.hardway("remove", NAME)
    with pytest.raises(Problem, match=f"no image {NAME} is on master or minion"):
        nodes.hardway("remove", "shop:1")


@as_root
@pytest.mark.engine
@pytest.mark.parametrize("kind", ["docker", "packed", "unnamed", "platforms"])
def test_an_archive_of_any_kind_is_loaded(
    nodes: ContainerdNodes, tmp_path: Path, kind: str
) -> None:
    name = "docker.io/library/shop:1"
    path = archive(tmp_path / "image.tar")
    more: tuple[str, ...] = ()
    match kind:
        case "docker":
            changed(path, of_docker)
        case "packed":
            path.write_bytes(gzip.compress(path.read_bytes()))
        case "unnamed":
            changed(path, named({}))
            more, name = ("--name", "example.com/other"), "example.com/other:latest"
        case "platforms":
            foreign = archive(tmp_path / "other.tar", architecture="arm64")
            changed(path, with_platforms(foreign))
            name = "docker.io/library/shop:2"
    command = ("load", str(path), "--machine", "minion")
    assert name in nodes.hardway(*command, *more)
    assert nodes.digest("minion", name)
    nodes.hardway("remove", name, "--machine", "minion")


@as_root
@pytest.mark.engine
def test_where_a_node_refuses_it_the_others_have_it_and_the_next_run_goes_on(
    nodes: ContainerdNodes, tmp_path: Path
) -> None:
    path = archive(tmp_path / "image.tar", name="a/b:1", size=20_000_000)
    refuses = nodes.folder / "master-refuses"
    refuses.touch()
    with pytest.raises(Problem, match=r"master refuses it \(no room\).*goes on with master"):
        nodes.hardway("load", str(path))
    assert nodes.digest("minion", "docker.io/a/b:1")
    refuses.unlink()
    output = " ".join(nodes.hardway("load", str(path)).split())
    assert "on master and minion (had it)" in output
    nodes.hardway("remove", "a/b:1")


class Cut(BaseException):
    """As a signal ends the command."""


@as_root
@pytest.mark.engine
def test_what_was_cut_off_leaves_no_image_and_can_be_done_again(
    nodes: ContainerdNodes, tmp_path: Path
) -> None:
    path = archive(tmp_path / "image.tar", name="a/e:1", size=20_000_000)
    image_archive = read(path, "amd64")

    def half() -> Iterator[bytes]:
        sent = 0
        for chunk in image_archive.chunks():
            sent += len(chunk)
            if sent > image_archive.size / 2:
                raise Cut
            yield chunk

    async def cut_off() -> None:
        reached = nodes.reached()
        async with Machines(reached.access) as machines:
            runtimes = Runtimes(machines, reached.spec)
            await runtimes.load(BOTH, half(), image_archive.size, lambda _: None)

    with pytest.raises(Cut):
        asyncio.run(cut_off())
    eventually(
        "no import is under way",
        lambda: (
            not [
                command
                for command in _commands()
                if str(nodes.folder) in command and "import" in command.split("\0")
            ]
        ),
    )
    assert not any(nodes.digest(node, "docker.io/a/e:1") for node in BOTH)
    assert "on master and minion" in " ".join(nodes.hardway("load", str(path)).split())
    nodes.hardway("remove", "a/e:1")


def _commands() -> Iterator[str]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield file.read_text(errors="replace")


@as_root
@pytest.mark.engine
def test_an_archive_with_other_bytes_than_it_says_is_refused_by_the_runtime(
    nodes: ContainerdNodes, tmp_path: Path
) -> None:
    path = archive(tmp_path / "image.tar", name="a/c:1")

    def change(documents: dict[str, bytes]) -> None:
        largest = max(documents, key=lambda name: len(documents[name]))
        documents[largest] = documents[largest].replace(b"program", b"another", 1)

    with pytest.raises(Problem, match=r"master refuses it .*; minion refuses it"):
        nodes.hardway("load", str(changed(path, change)))
    assert not nodes.digest("master", "docker.io/a/c:1")


@as_root
@pytest.mark.engine
def test_an_image_that_a_container_has_is_not_removed(
    nodes: ContainerdNodes, tmp_path: Path
) -> None:
    path = archive(tmp_path / "image.tar", name="a/d:1")
    name = "docker.io/a/d:1"
    nodes.hardway("load", str(path))
    nodes.ctr("minion", "containers", "create", "--snapshotter", "native", name, "it")
    try:
        with pytest.raises(Problem, match=f"a container on minion has the image {name}"):
            nodes.hardway("remove", name)
        assert all(nodes.digest(node, name) for node in BOTH)
    finally:
        nodes.ctr("minion", "containers", "delete", "it")
    nodes.hardway("remove", name)
    assert not any(nodes.digest(node, name) for node in BOTH)


@as_root
@pytest.mark.engine
def test_what_cannot_be_meant_is_refused_before_anything_happens(
    nodes: ContainerdNodes, tmp_path: Path
) -> None:
    path = archive(tmp_path / "image.tar")
    needed, *_ = runtime.image_references(cluster())
    load = ("load", str(path))
    for arguments, sentence in (
        ((*load, "--machine", "nosuch"), "has no machine 'nosuch': name one of master or minion"),
        ((*load, "--machine", "store"), "'store' is no node"),
        ((*load, "--name", needed), f"the cluster itself needs its image {needed}"),
        ((*load, "--name", "Shop"), "'Shop' is no name"),
        (("load", str(tmp_path / "nosuch")), "there is no file"),
        (("remove", needed), f"the cluster itself needs its image {needed}"),
        (("remove", "Shop"), "'Shop' is no name"),
        (("list", "--machine", "nosuch"), "has no machine 'nosuch'"),
    ):
        with pytest.raises(Problem, match=sentence):
            nodes.hardway(*arguments)
    assert not any(nodes.digest(node, NAME) for node in BOTH)


@as_root
@pytest.mark.engine
def test_where_a_machine_does_not_answer_nothing_is_sent(
    nodes: ContainerdNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = MachineAccess(
        address="127.0.0.1", host_key=nodes.access.machines["minion"].host_key, port=1
    )
    reached = nodes.reached()
    opened = Access(
        machines={**reached.access.machines, "minion": away}, ssh_key=reached.access.ssh_key
    )
    monkeypatch.setattr(
        images, "reach", lambda _: Reached(spec=reached.spec, access=opened, stack=reached.stack)
    )
    with pytest.raises(Problem, match=r"minion .* cannot be reached over SSH"):
        nodes.hardway("load", str(archive(tmp_path / "image.tar")))
    assert not nodes.digest("master", NAME)
