"""Brings artifacts over SSH to machines that exist and have no mirror that they reach."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.cache import Cache
from lab.problem import Problem
from lab.progress import Progress
from plan.cluster import node_plan
from plan.library import script
from probe.access import Access
from probe.machines import EitherKey, Machines, Unreachable
from spec.cluster import Cluster
from spec.refusal import listed

SCRIPT = script("prelude") + Path(__file__).with_name("receive.sh").read_text()

LOOK = 300
"""Seconds in which a machine reads all files of its store that it has not verified yet."""

SEND = 3600
"""Seconds for a file. A connection that is lost ends it much earlier."""

PART = 1 << 18
"""The number of bytes that are read from a file at once."""

OTHER_BYTES = 3
"""The status of the script where what had arrived before was wrong."""


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A file of the cache that belongs into a machine's store."""

    name: str
    digest: str
    mode: int
    path: Path


class NotDelivered(Exception):
    """A machine does not take an artifact; the text is one sentence without its full stop."""


def parcels(spec: Cluster, node: str, cache: Cache) -> tuple[Parcel, ...]:
    """The artifacts of a machine's plan that the cache has.

    Raises a Problem for one that neither the cache has nor the machine finds by itself.
    """
    had = []
    for artifact in (it for step in node_plan(spec, node).steps for it in step.artifacts):
        if not (digest := artifact.sha256):
            continue
        path = cache.blob(digest)
        if path.is_file():
            had.append(Parcel(name=artifact.name, digest=digest, mode=artifact.mode, path=path))
        elif not artifact.urls:
            key = f"{artifact.name}-{artifact.version}"
            raise Problem(
                f"no file here has the digest that artifacts.digests says of {key}",
                f"take {key} out of it, or write artifacts.mirror, which has that file",
            )
    return tuple(had)


def deliver(access: Access, wanted: Mapping[str, Sequence[Parcel]], progress: Progress) -> None:
    """Bring to each machine those of its parcels that it lacks; to all machines at once.

    What was cut off goes on. Raises a Problem that names each machine that lacks something still.
    """
    names = listed(list(wanted), "and")
    sent = dict.fromkeys(wanted, 0)
    with progress.task(f"bring artifacts to {names}") as task:

        def count(name: str, size: int) -> None:
            sent[name] += size
            task.note(f"{_mebibytes(sum(sent.values()))} sent")

        failed = asyncio.run(_deliver(access, wanted, count))
    if total := sum(sent.values()):
        progress.say(f"artifacts: {_mebibytes(total)} brought to {names}")
    if failed:
        raise Problem(
            "; ".join(map(str, failed)), "mend that and run the same again, which goes on from here"
        )


def _mebibytes(size: int) -> str:
    return f"{size / 1024**2:.0f} MiB"


async def _deliver(
    access: Access,
    wanted: Mapping[str, Sequence[Parcel]],
    count: Callable[[str, int], None],
) -> list[Exception]:
    async with EitherKey.of(access) as keys:

        async def to_machine(name: str) -> Exception | None:
            async def fill(there: Machines) -> None:
                for parcel, had in await _lacking(there, name, wanted[name]):
                    await _send(there, name, parcel, had, count)

            try:
                await keys.on(name, fill)
            except (NotDelivered, Unreachable) as error:
                return error
            return None

        return [error for error in await asyncio.gather(*map(to_machine, wanted)) if error]


async def _lacking(
    there: Machines, name: str, wanted: Sequence[Parcel]
) -> list[tuple[Parcel, int]]:
    """What a machine lacks, and how many bytes it has of each."""
    asked = "".join(f"{parcel.name} {parcel.digest}\n" for parcel in wanted)
    done = await there.run(name, SCRIPT, "lacking", timeout=LOOK, input=asked)
    if done.status != 0:
        raise NotDelivered(f"{name} does not say which artifacts it has ({done.reason})")
    had = dict(line.split() for line in done.stdout.splitlines())
    return [(parcel, int(had[parcel.digest])) for parcel in wanted if parcel.digest in had]


async def _send(
    there: Machines, name: str, parcel: Parcel, had: int, count: Callable[[str, int], None]
) -> None:
    """Send a file from the byte on that follows those that were had; all of it where they differ.

    Raises NotDelivered or Unreachable.
    """
    size = parcel.path.stat().st_size

    async def content() -> AsyncIterator[bytes]:
        with parcel.path.open("rb") as file:
            file.seek(had)
            while part := file.read(PART):
                yield part
                count(name, len(part))

    arguments = (parcel.name, parcel.digest, f"{parcel.mode:04o}", str(size), str(had))
    done = await there.feed(name, SCRIPT, "receive", *arguments, content=content(), timeout=SEND)
    if done.status == OTHER_BYTES and had:
        await _send(there, name, parcel, 0, count)
    elif done.status != 0:
        raise NotDelivered(f"{name}: {done.reason.removeprefix('failed: ')}")
