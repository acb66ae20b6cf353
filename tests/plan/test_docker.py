"""Debian's Docker and cri-dockerd as a node has them: what the kubelet may take away."""

import asyncio
import hashlib
import io
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from lab.cache import Cache
from lab.debian_root import machine_root
from lab.oci import write_archive
from lab.progress import PlainProgress
from ops.image_archive import read
from ops.node_images import NodeImages, Runtimes
from plan import docker, identity, library, render, runtime
from plan.model import Step
from probe.machines import Done, Machines
from tests.engine.stack import eventually
from tests.machine.lab import at_length
from tests.ops.archives import Documents, archive, changed, named, of_docker
from tests.plan import cri
from tests.plan.container import Container, Memory, quiet
from tests.plan.running import Keys
from tests.plan.shell import cluster
from tests.plan.stored import as_root, stored

pytestmark = [as_root, at_length, pytest.mark.timeout(1800)]

NODE = "master"
KERNEL = ("modprobe", "sysctl", "swapoff")
"""What a container may not change is replaced."""
UNITS = [unit.name for unit in docker.units(cluster(runtime="docker"))]
PAUSE, COREDNS = (str(image.reference) for image in runtime.images(cluster()))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A machine as the base image of a cluster with Docker has it."""
    folder = tmp_path_factory.mktemp("docker")
    with Memory(folder) as memory:
        root = memory.path / "debian"
        root.mkdir()
        packages = docker.PACKAGES
        logs = tmp_path_factory.mktemp("docker-logs")
        machine_root(Cache(), root, PlainProgress(), logs=logs, packages=packages)
        shutil.copytree(library.FOLDER, root / library.PLACE[1:] / library.FOLDER.name)
        with Container(memory, prepare=quiet) as container:
            for program in KERNEL:
                container.write(f"/usr/local/sbin/{program}", "#!/bin/sh\n", 0o755)
            # Images are overlays, and those need something else than an overlay below them.
            for path in ("/var/lib/docker", "/var/lib/containerd"):
                container.call("mkdir", "--parents", path)
                container.call("mount", "-t", "tmpfs", "tmpfs", path)
            keys, spec = Keys(cluster()), cluster()
            pairs = keys.of(NODE)
            step = identity.step(spec, NODE)
            container.run(render.text(step, lambda source: keys.content(source, pairs)))
            yield container


def bring(node: Container, **archives: Path) -> Step:
    """Do the runtime step with these archives in place of the store's."""
    names = [artifact.name for artifact in runtime.step(cluster(runtime="docker"), NODE).artifacts]
    files = {name: stored(name) for name in names} | archives
    digests = {
        f"{artifact.name}-{artifact.version}": hashlib.sha256(
            files[artifact.name].read_bytes()
        ).hexdigest()
        for artifact in runtime.step(cluster(runtime="docker"), NODE).artifacts
    }
    known = dict(cluster().artifacts.digests) | digests
    step = runtime.step(cluster(runtime="docker", artifacts={"digests": known}), NODE)
    for artifact in step.artifacts:
        if not node.path(artifact.store_path).exists():
            node.write(artifact.store_path, files[artifact.name].read_bytes(), 0o755)
    done = node.run(render.text(step))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{step.outcome}\n", "")
    return step


def ask(node: Container, path: str) -> object:
    """What Docker answers."""
    asked = ("curl", "--silent", "--unix-socket", docker.ENGINE_SOCKET, f"http://docker{path}")
    return json.loads(node.call(*asked))


def images(node: Container) -> dict[str, str]:
    """Reference to ID of what Docker has; of an image without a reference its ID."""
    answer = ask(node, "/images/json")
    assert isinstance(answer, list)
    return {(image["RepoTags"] or [image["Id"]])[0]: image["Id"] for image in answer}


def keepers(node: Container) -> dict[str, str]:
    """The containers of Docker, none of which runs, to the image that each has."""
    answer = ask(node, "/containers/json?all=true")
    assert isinstance(answer, list)
    assert {container["State"] for container in answer} <= {"created"}
    return {container["Id"]: container["ImageID"] for container in answer}


def called(node: Container, method: str, argument: str = "") -> str:
    """What a call of cri-dockerd comes to."""
    eventually("cri-dockerd listens", lambda: node.path(docker.SOCKET).is_socket())
    return node.call("bash", "-c", cri.call(docker.SOCKET, method, argument))


def remove(node: Container, image: str) -> str:
    """What cri-dockerd has against the removal of an image; nothing where it is done."""
    return cri.refusal(called(node, "ImageService/RemoveImage", image))


def test_the_kubelet_cannot_have_an_image_removed_that_nothing_would_bring_back(
    node: Container, tmp_path: Path
) -> None:
    bring(node)
    had, kept = images(node), keepers(node)
    assert had.keys() == {PAUSE, COREDNS}
    assert sorted(kept.values()) == sorted(had.values())
    for image in had.values():
        assert "container" in remove(node, image)
    assert images(node) == had

    # Done again, it is as it was: the same containers, and nothing was started again.
    started = node.settled(*UNITS)
    bring(node)
    assert (node.settled(*UNITS), images(node), keepers(node)) == (started, had, kept)

    # Another archive of the same reference: the image of before may go, and the new one not.
    another = tmp_path / "other"
    write_archive(
        stored("runc"),
        another,
        name="coredns",
        reference=COREDNS,
        architecture=cluster().architecture,
        user="65535:65535",
    )
    bring(node, coredns=another)
    new, before = images(node)[COREDNS], had[COREDNS]
    assert new != before
    assert sorted(keepers(node).values()) == sorted([new, had[PAUSE]])
    assert remove(node, before) == ""
    assert "container" in remove(node, new)
    assert images(node) == {PAUSE: had[PAUSE], COREDNS: new}


def test_an_image_that_is_gone_all_the_same_comes_back_with_the_step(node: Container) -> None:
    bring(node)
    had = images(node)
    for container in keepers(node):
        options = (
            "--silent",
            "--fail",
            "--unix-socket",
            docker.ENGINE_SOCKET,
            "--request",
            "DELETE",
        )
        node.call("curl", *options, f"http://docker/containers/{container}")
    assert remove(node, had[COREDNS]) == ""
    assert COREDNS not in images(node)
    bring(node)
    assert images(node) == had
    assert sorted(keepers(node).values()) == sorted([had[PAUSE], had[COREDNS]])


def test_the_kubelet_does_not_see_what_keeps_the_images(node: Container) -> None:
    """Else it would take it for a container of a pod that is gone, and remove it."""
    bring(node)
    assert keepers(node)
    answer = cri.outcome(called(node, "RuntimeService/ListContainers"))
    assert (answer["grpc-status"], answer["answer"]) == ("0", str(cri.NOTHING))


# -- ./hardway images ------------------------------------------------------------------------------


class Inside:
    """The machine as ``Machines`` has it, without SSH."""

    def __init__(self, node: Container) -> None:
        self._node = node

    async def run(self, node: str, script: str, *arguments: str, timeout: float) -> Done:
        return await self.feed(node, script, *arguments, content=_chunks(()), timeout=timeout)

    async def feed(
        self, node: str, script: str, *arguments: str, content: AsyncIterator[bytes], timeout: float
    ) -> Done:
        del node, timeout
        child = self._node.start("bash", "-euo", "pipefail", "-c", script, "probe", *arguments)
        assert isinstance(child.stdin, io.TextIOWrapper)
        with suppress(BrokenPipeError):
            async for chunk in content:
                child.stdin.buffer.write(chunk)
        output, errors = await asyncio.to_thread(child.communicate)
        return Done(status=child.returncode, stdout=output, stderr=errors)


async def _chunks(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("change", [lambda _: None, of_docker, named({})])
def test_an_archive_of_any_kind_is_loaded_and_removed(
    node: Container, tmp_path: Path, change: Callable[[Documents], None]
) -> None:
    bring(node)
    had = images(node)
    sent = read(changed(archive(tmp_path / "image.tar"), change), "amd64", "a/shop:1")
    (image,) = sent.images
    runtimes = Runtimes(cast(Machines, Inside(node)), cluster(runtime="docker"))

    async def here() -> NodeImages:
        listed = (await runtimes.images([NODE]))[NODE]
        assert isinstance(listed, NodeImages), listed
        return listed

    async def story() -> None:
        assert not (await here()).has(image)
        for _ in range(2):
            refusals = await runtimes.load([NODE], sent.chunks(), sent.size, lambda _: None)
            assert refusals == {}
            assert (await here()).has(image)
        assert images(node) == {**had, "a/shop:1": image.identifier}

        create = ("--data", '{"Image": "a/shop:1", "Cmd": ["x"]}')
        kept = node.call(
            *("curl", "--silent", "--fail", "--unix-socket", docker.ENGINE_SOCKET, *create),
            *("--header", "Content-Type: application/json", "http://docker/containers/create"),
        )
        assert (await here()).is_used(image.name)
        assert NODE in await runtimes.remove({NODE: [image.name]})
        deletes = (
            "--silent",
            "--fail",
            "--unix-socket",
            docker.ENGINE_SOCKET,
            "--request",
            "DELETE",
        )
        node.call("curl", *deletes, f"http://docker/containers/{json.loads(kept)['Id']}")

        now = await here()
        assert not now.is_used(image.name)
        assert now.is_used(COREDNS)
        aliases = runtimes.with_aliases(image.name, now)
        assert await runtimes.remove({NODE: aliases}) == {}

    asyncio.run(story())
    assert images(node) == had


def test_docker_refuses_an_archive_with_other_bytes(node: Container, tmp_path: Path) -> None:
    bring(node)

    def change(documents: Documents) -> None:
        largest = max(documents, key=lambda name: len(documents[name]))
        documents[largest] = documents[largest].replace(b"program", b"another", 1)

    sent = read(changed(archive(tmp_path / "image.tar"), change), "amd64")
    runtimes = Runtimes(cast(Machines, Inside(node)), cluster(runtime="docker"))
    refusals = asyncio.run(runtimes.load([NODE], sent.chunks(), sent.size, lambda _: None))
    assert f"{NODE} refuses it" in str(refusals[NODE])
