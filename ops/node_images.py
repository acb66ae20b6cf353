"""The images that the nodes' container runtimes have: asked for, loaded and removed over SSH."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.image_archive import ArchivedImage
from ops.image_reference import BadReference, full_reference
from plan import containerd, docker
from probe.machines import Machines, Unreachable
from spec.cluster import Cluster

ENGINES = {"containerd": containerd.SOCKET, "docker": docker.ENGINE_SOCKET}
"""Container runtime to the socket on which its own API answers."""

ASK = 120
"""Time limit in seconds of a question; a busy emulated machine needs many to start ctr."""

WORK = 600
"""Time limit in seconds for the runtime's own work with an archive or an image."""

SLOWEST = 200_000
"""Bytes in a second that a machine takes at least; an emulated one takes some millions."""

AHEAD = 8
"""Chunks that a machine may be behind the fastest."""

UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


class NotDone(Exception):
    """A machine did not do what it should; the text is a sentence without its full stop."""


@dataclass(frozen=True, kw_only=True)
class NodeImage:
    """An image that a node has."""

    digest: str
    """Of its manifest or index with containerd, of its configuration with Docker."""
    size: int | None
    """Bytes: compressed with containerd, on the disk with Docker; None where it is unknown."""


@dataclass(frozen=True, kw_only=True)
class NodeImages:
    """The images of a node."""

    by_reference: Mapping[str, NodeImage]
    """By all references, also by digests and by identifiers."""
    used: Mapping[str, frozenset[str]]
    """Digest to the references by which containers have the image."""

    @property
    def named(self) -> dict[str, NodeImage]:
        """Those that have a name and not only a digest or an identifier."""
        return {name: image for name, image in self.by_reference.items() if _is_name(name)}

    def has(self, image: ArchivedImage) -> bool:
        """Whether this very image has its name here."""
        here = self.by_reference.get(image.name)
        if here is None:
            return False
        # Kubernetes' part of containerd also knows each image by its identifier.
        same = self.by_reference.get(image.identifier)
        return here.digest in (image.digest, image.identifier) or here == same

    def other_names(self, name: str) -> list[str]:
        """The other names of the same image."""
        digest = self.by_reference[name].digest
        return [
            alias for alias, image in self.named.items() if alias != name and image.digest == digest
        ]

    def is_used(self, name: str) -> bool:
        """Whether a container has the image, and by this name if there are others."""
        references = self.used.get(self.by_reference[name].digest, frozenset())
        return name in references or bool(references and not self.other_names(name))


def _is_name(reference: str) -> bool:
    return "@" not in reference and not reference.startswith("sha256:")


def script(name: str) -> str:
    """The text of a file in ``ops/scripts``."""
    return (Path(__file__).with_name("scripts") / f"{name}.sh").read_text()


class Runtimes:
    """The container runtimes of a cluster's nodes."""

    def __init__(self, machines: Machines, spec: Cluster) -> None:
        self._machines = machines
        self._runtime = spec.runtime
        self._arguments = (spec.runtime, ENGINES[spec.runtime])
        self._platform = f"linux/{spec.architecture}"

    async def images(self, nodes: Iterable[str]) -> dict[str, NodeImages | NotDone]:
        """What each node has."""
        nodes = tuple(nodes)
        return dict(zip(nodes, await asyncio.gather(*map(self._images, nodes)), strict=True))

    async def _images(self, node: str) -> NodeImages | NotDone:
        try:
            done = await self._machines.run(
                node, script("list-images"), *self._arguments, timeout=ASK
            )
        except Unreachable as error:
            return NotDone(str(error))
        if done.status != 0:
            return NotDone(f"the container runtime of {node} does not answer ({done.reason})")
        images, _, containers = done.stdout.partition("\n\n")
        reading = _of_containerd if self._runtime == "containerd" else _of_docker
        try:
            return reading(images, containers)
        except (ValueError, KeyError, IndexError) as error:
            return NotDone(f"{node} does not list its images as expected ({error})")

    async def load(
        self, nodes: Iterable[str], chunks: Iterable[bytes], size: int, sent: Callable[[int], None]
    ) -> dict[str, NotDone]:
        """Send an archive to all nodes at once, read once; ``sent`` gets the bytes sent so far.

        The result has the nodes that did not take it.
        """
        queues = {node: _Queue(AHEAD) for node in nodes}

        async def load_onto(node: str) -> NotDone | None:
            queue = queues[node]
            try:
                done = await self._machines.feed(
                    node,
                    script("load-images"),
                    *self._arguments,
                    self._platform,
                    content=_of_queue(queue),
                    timeout=WORK + size / SLOWEST,
                )
            except Unreachable as error:
                return NotDone(str(error))
            finally:
                queue.shut()
            return None if done.status == 0 else NotDone(f"{node} refuses it ({done.reason})")

        tasks = {node: asyncio.create_task(load_onto(node)) for node in queues}
        total = 0
        try:
            for chunk in chunks:
                await asyncio.gather(*(queue.put(chunk) for queue in queues.values()))
                total += len(chunk)
                sent(total)
            for queue in queues.values():
                await queue.put(None)
            results = dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))
        finally:  # after an interruption the runtimes get an end that is none, and keep nothing
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return {node: result for node, result in results.items() if result is not None}

    async def remove(self, references: Mapping[str, Iterable[str]]) -> dict[str, NotDone]:
        """Remove references of images from nodes; the result has the nodes that did not."""

        async def remove_from(node: str, names: Iterable[str]) -> NotDone | None:
            try:
                done = await self._machines.run(
                    node, script("remove-images"), *self._arguments, *names, timeout=WORK
                )
            except Unreachable as error:
                return NotDone(str(error))
            return None if done.status == 0 else NotDone(f"{node} refuses it ({done.reason})")

        results = await asyncio.gather(
            *(remove_from(node, names) for node, names in references.items())
        )
        every = zip(references, results, strict=True)
        return {node: result for node, result in every if result is not None}

    def with_aliases(self, name: str, here: NodeImages) -> list[str]:
        """All references to remove, so that the image goes with its last name."""
        if self._runtime == "docker" or here.other_names(name):
            return [name]
        digest = here.by_reference[name].digest
        return [
            reference for reference, image in here.by_reference.items() if image.digest == digest
        ]


# -- what is sent ----------------------------------------------------------------------------------


class _Queue:
    """Chunks for one machine; whoever puts in waits for room, until the machine takes no more."""

    def __init__(self, size: int) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(size)
        self._open = True

    async def put(self, chunk: bytes | None) -> None:
        if self._open:
            await self._chunks.put(chunk)

    async def get(self) -> bytes | None:
        return await self._chunks.get()

    def shut(self) -> None:
        """Take no more; who waits for room goes on."""
        self._open = False
        while not self._chunks.empty():
            self._chunks.get_nowait()


async def _of_queue(queue: _Queue) -> AsyncIterator[bytes]:
    while (chunk := await queue.get()) is not None:
        yield chunk


# -- what runtimes list ----------------------------------------------------------------------------


def _of_containerd(images: str, containers: str) -> NodeImages:
    """From the tables of ``ctr images list`` and ``ctr containers list``."""
    by_reference = {}
    for line in images.splitlines()[1:]:
        reference, _, digest, number, unit, *_ = line.split()
        size = round(float(number) * UNITS[unit]) if unit in UNITS else None
        by_reference[reference] = NodeImage(digest=digest, size=size)
    used: dict[str, set[str]] = {}
    for line in containers.splitlines()[1:]:
        reference = line.split()[1]
        if reference in by_reference:
            used.setdefault(by_reference[reference].digest, set()).add(reference)
    return NodeImages(
        by_reference=by_reference, used={digest: frozenset(names) for digest, names in used.items()}
    )


def _of_docker(images: str, containers: str) -> NodeImages:
    """From Docker's answers to images/json and containers/json."""
    used: dict[str, set[str]] = {}
    for container in json.loads(containers):
        names = used.setdefault(container["ImageID"], set())
        names.update(_names([container["Image"]]))
    by_reference = {
        name: NodeImage(digest=image["Id"], size=image["Size"])
        for image in json.loads(images)
        for name in _names(image["RepoTags"])
    }
    return NodeImages(
        by_reference=by_reference, used={digest: frozenset(names) for digest, names in used.items()}
    )


def _names(tags: Any) -> Iterator[str]:
    for tag in tags or ():
        with suppress(BadReference):
            if _is_name(tag):
                yield full_reference(tag)
