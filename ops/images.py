"""The commands ``images load``, ``list`` and ``remove``: images that no registry serves."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lab.problem import Problem
from ops.display import option_of, progress, stdout
from ops.image_archive import ImageArchive, read
from ops.image_reference import BadReference, full_reference
from ops.node_images import NodeImages, NotDone, Runtimes
from ops.reach import Reached, reach
from ops.stacks import StackOption
from plan import runtime
from probe.machines import Machines
from spec.refusal import listed

MachineOption = Annotated[
    list[str] | None,
    typer.Option("--machine", metavar="NAME", help="Only this node; may be given several times."),
]

images = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.add_typer(images, name="images", rich_help_panel="A cluster")


@images.callback()
def _group() -> None:
    """Load images onto the nodes without a registry, list them, remove them."""


@images.command()
def load(
    archive: Annotated[Path, typer.Argument(metavar="IMAGE.tar", help="The archive.")],
    machine: MachineOption = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The image's name, in place of its own.")
    ] = None,
    stack: StackOption = "dev",
) -> None:
    """Put the images of an OCI or Docker archive on all nodes at once.

    An archive is what `docker save` or `podman save` writes; it may be compressed. Nodes that have
    the images already get nothing. Pods find them with the `imagePullPolicy` IfNotPresent or Never.
    A node that is made later does not have them, and a kubelet whose disk is full removes images
    that no container has: then load them again.

    Examples: `./hardway images load shop.tar`, `./hardway images load shop.tar --machine minion1`
    """
    reached = reach(stack)
    nodes = chosen(reached, machine)
    checked = read(archive, reached.spec.architecture, name)
    for image in checked.images:
        _demand_not_needed(reached, image.name, "give yours another name with --name")
    asyncio.run(_loaded(reached, nodes, checked))


async def _loaded(reached: Reached, nodes: Sequence[str], archive: ImageArchive) -> None:
    async with Machines(reached.access) as machines:
        runtimes = Runtimes(machines, reached.spec)
        before = _all_answered(await runtimes.images(nodes), reached)
        lacking = [
            node for node in nodes if not all(before[node].has(image) for image in archive.images)
        ]
        failed = await _sent(runtimes, lacking, archive) if lacking else {}
        asked = [node for node in nodes if node not in failed]
        after = await runtimes.images(asked)
    failed = {**failed, **dict(_lacking(after, archive))}
    for line in loaded_lines(archive, after, lacking):
        stdout.print(line)
    if failed:
        raise Problem(
            "; ".join(str(failed[node]) for node in nodes if node in failed),
            "mend that and run the same again: it goes on with "
            f"{listed([node for node in nodes if node in failed], 'and')}",
        )


async def _sent(
    runtimes: Runtimes, nodes: Sequence[str], archive: ImageArchive
) -> Mapping[str, NotDone]:
    title = f"load {archive.path.name} ({_mebibytes(archive.size)}) onto {listed(nodes, 'and')}"
    with progress().task(title) as task:

        def sent(count: int) -> None:
            text = f"{_mebibytes(count)} sent"
            task.note(text if count < archive.size else f"{text}, the nodes unpack it")

        return await runtimes.load(nodes, archive.chunks(), archive.size, sent)


def _lacking(
    after: Mapping[str, NodeImages | NotDone], archive: ImageArchive
) -> Iterator[tuple[str, NotDone]]:
    """The nodes that took an archive and do not have its images, with a sentence."""
    for node, here in after.items():
        if isinstance(here, NotDone):
            yield node, here
            continue
        for image in archive.images:
            if image.name not in here.by_reference:
                yield node, NotDone(f"{node} took the archive and has no image {image.name}")


def loaded_lines(
    archive: ImageArchive, after: Mapping[str, NodeImages | NotDone], sent: Sequence[str]
) -> Iterator[str]:
    """A line for each image and each digest that nodes have of it."""
    for image in archive.images:
        nodes_of: dict[str, list[str]] = {}
        for node, here in after.items():
            if not isinstance(here, NotDone) and image.name in here.by_reference:
                digest = here.by_reference[image.name].digest
                had = "" if node in sent else " (had it)"
                nodes_of.setdefault(digest, []).append(f"{node}{had}")
        for digest, nodes in nodes_of.items():
            where = escape(listed(nodes, "and"))
            yield f"[green]loaded[/]  [bold]{escape(image.name)}[/] {digest} on {where}"


@images.command("list")
def list_(
    machine: MachineOption = None,
    stack: StackOption = "dev",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the images of the nodes with their digests.

    With containerd a digest is that of the image's manifest or index, with Docker that of its
    configuration, which Docker calls its ID.

    Examples: `./hardway images list`, for programs `./hardway images list --json`
    """
    reached = reach(stack)
    nodes = chosen(reached, machine)
    present = _all_answered(asyncio.run(_asked(reached, nodes)), reached)
    rows = list(_rows(present))
    if as_json:
        keys = ("name", "digest", "size", "nodes")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=1))
        return
    for line in listed_lines(rows, len(nodes), runtime.image_references(reached.spec)):
        stdout.print(line, soft_wrap=True)


def listed_lines(
    rows: Sequence[tuple[str, str, int | None, list[str]]], count: int, needed: Sequence[str]
) -> Iterator[str]:
    """A line for each image, with its whole name; ``count`` is the number of nodes."""
    width = max((len(name) for name, *_ in rows), default=0)
    for name, digest, size, has in rows:
        where = "all nodes" if len(has) == count > 1 else ", ".join(has)
        note = "; the cluster needs it" if name in needed else ""
        shown = "?" if size is None else _mebibytes(size)
        short = digest.removeprefix("sha256:")[:12]
        yield f"[bold]{escape(name.ljust(width))}[/]  {short}  {shown:>10}  {escape(where)}{note}"


async def _asked(reached: Reached, nodes: Sequence[str]) -> dict[str, NodeImages | NotDone]:
    async with Machines(reached.access) as machines:
        return await Runtimes(machines, reached.spec).images(nodes)


def _rows(
    present: Mapping[str, NodeImages],
) -> Iterator[tuple[str, str, int | None, list[str]]]:
    """Name, digest, size and nodes of each image, sorted by name."""
    images = sorted(
        {(name, image.digest) for here in present.values() for name, image in here.named.items()}
    )
    for name, digest in images:
        has = {
            node: image
            for node, here in present.items()
            if (image := here.named.get(name)) is not None and image.digest == digest
        }
        yield name, digest, next(iter(has.values())).size, list(has)


@images.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The image's name.")],
    machine: MachineOption = None,
    stack: StackOption = "dev",
) -> None:
    """Remove an image from the nodes.

    Refused where a container has it, and for images that the cluster itself needs.

    Examples: `./hardway images remove shop:1`, `./hardway images remove shop:1 --machine minion1`
    """
    reached = reach(stack)
    option = option_of(reached.stack.name)
    nodes = chosen(reached, machine)
    try:
        full = full_reference(name)
    except BadReference as error:
        raise Problem(str(error), f"./hardway images list{option} shows those there are") from error
    _demand_not_needed(reached, full, "remove another")
    asyncio.run(_removed(reached, nodes, full))


async def _removed(reached: Reached, nodes: Sequence[str], name: str) -> None:
    option = option_of(reached.stack.name)
    async with Machines(reached.access) as machines:
        runtimes = Runtimes(machines, reached.spec)
        present = _all_answered(await runtimes.images(nodes), reached)
        having = {node: here for node, here in present.items() if name in here.by_reference}
        if not having:
            raise Problem(
                f"no image {name} is on {listed(nodes)}",
                f"./hardway images list{option} shows those there are",
            )
        if using := [node for node, here in having.items() if here.is_used(name)]:
            raise Problem(
                f"a container on {listed(using, 'and')} has the image {name}",
                "delete its pods first, or wait until the kubelet has removed what is left of them",
            )
        references = {node: runtimes.with_aliases(name, here) for node, here in having.items()}
        failed = await runtimes.remove(references)
    if done := [node for node in having if node not in failed]:
        stdout.print(f"removed [bold]{escape(name)}[/] from {escape(listed(done, 'and'))}")
    if failed:
        raise Problem("; ".join(map(str, failed.values())), "mend that and run the same again")


# -- what is refused -------------------------------------------------------------------------------


def chosen(reached: Reached, machines: Iterable[str] | None) -> tuple[str, ...]:
    """The nodes that are meant; all of them where none is named.

    Raises a Problem for a machine that is not there or runs no containers.
    """
    spec = reached.spec
    up = tuple(node for node in spec.nodes if node in reached.access.machines)
    names = tuple(dict.fromkeys(machines or ()))
    for name in names:
        if name not in reached.access.machines:
            raise Problem(
                f"the stack '{reached.stack.name}' has no machine '{name}'",
                f"name one of {listed(up)}",
            )
        if name not in up:
            raise Problem(
                f"the machine '{name}' is no node and has no container runtime",
                f"name one of {listed(up)}",
            )
    return names or up


def _demand_not_needed(reached: Reached, name: str, remedy: str) -> None:
    if name in runtime.image_references(reached.spec):
        raise Problem(f"the cluster itself needs its image {name}", remedy)


def _all_answered(
    answers: Mapping[str, NodeImages | NotDone], reached: Reached
) -> dict[str, NodeImages]:
    """The images of all nodes. Raises a Problem where a node did not answer."""
    failures = [str(answer) for answer in answers.values() if isinstance(answer, NotDone)]
    if failures:
        option = option_of(reached.stack.name)
        raise Problem(
            "; ".join(failures),
            f"./hardway status{option} shows what runs; --machine names the nodes to go on with",
        )
    return {node: answer for node, answer in answers.items() if not isinstance(answer, NotDone)}


def _mebibytes(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB"
