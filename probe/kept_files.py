"""Asks machines which of a cluster's keys they have, in one login each, and changes nothing.

Only digests leave the machines. ``python -m probe.kept_files`` is for a caller outside the network
of the machines: it reads a ``Question`` as JSON from standard input, so that no key is on a command
line, and writes an answer.
"""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from probe.access import Access, MachineAccess
from probe.machines import Machines, NotLetIn, Unreachable

LIMIT = 60
"""Seconds for a machine's answer."""

PATIENCE = 4.0
"""Multiplies all time limits: a machine that is taken for a dead one may lose what it has."""

SCRIPT = """
for file; do
    if [ -f "$file" ]; then
        digest=$(sha256sum <"$file")
        printf '%s\\t%s\\n' "${digest%% *}" "$file"
    fi
done
"""


@dataclass(frozen=True, kw_only=True)
class KeptFiles:
    """Which of some files a machine has."""

    digests: Mapping[str, str]
    """Path to sha256, of those that are there."""
    fault: str | None = None
    """Why the machine was not asked, as one sentence without its full stop."""
    refused: bool = False
    """Whether the machine answers and does not let the key in."""


async def kept_files(
    access: Access, paths: Mapping[str, Sequence[str]], by_person: Sequence[str] = ()
) -> dict[str, KeptFiles]:
    """Machine to what it has of the files at these paths, of all machines at the same time.

    Those in ``by_person`` are asked with the person's own keys where they, or their jump hosts, do
    not let the stack's key in: such a machine may have been installed anew.
    """
    own = replace(access, ssh_key="")
    async with (
        Machines(access, factor=PATIENCE) as machines,
        Machines(own, factor=PATIENCE) as persons,
    ):
        every = {node: (machines, persons)[: 2 if node in by_person else 1] for node in paths}
        answers = await asyncio.gather(*(_asked(every[node], node, paths[node]) for node in paths))
    return dict(zip(paths, answers, strict=True))


async def _asked(ways: Sequence[Machines], node: str, paths: Sequence[str]) -> KeptFiles:
    first, *others = ways
    try:
        done = await first.run(node, SCRIPT, *paths, timeout=LIMIT)
    except Unreachable as error:
        if others and (further := await _asked(others, node, paths)).fault is None:
            return further
        return KeptFiles(digests={}, fault=str(error), refused=isinstance(error, NotLetIn))
    if done.status != 0:
        return KeptFiles(digests={}, fault=f"{node} does not say what it has ({done.reason})")
    lines = (line.partition("\t") for line in done.stdout.splitlines())
    return KeptFiles(digests={path: digest for digest, _, path in lines})


def question(
    access: Access, paths: Mapping[str, Sequence[str]], by_person: Sequence[str] = ()
) -> str:
    """What ``main`` reads; it has the SSH key."""
    machines = {node: asdict(machine) for node, machine in access.machines.items()}
    asked = {"ssh_key": access.ssh_key, "paths": paths, "by_person": [*by_person]}
    return json.dumps({"machines": machines, **asked})


def answer(text: str) -> dict[str, KeptFiles]:
    """What ``main`` writes, read back."""
    return {node: KeptFiles(**values) for node, values in json.loads(text).items()}


def main() -> None:
    """Answer one question."""
    asked: dict[str, Any] = json.load(sys.stdin)
    access = Access(
        machines={node: MachineAccess.read(values) for node, values in asked["machines"].items()},
        ssh_key=asked["ssh_key"],
    )
    answers = asyncio.run(kept_files(access, asked["paths"], asked["by_person"]))
    json.dump({node: asdict(files) for node, files in answers.items()}, sys.stdout)


if __name__ == "__main__":
    main()
