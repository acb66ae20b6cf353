"""Machines in containers for the tests of scripts."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.cache import Cache
from lab.debian_root import machine_root
from lab.progress import PlainProgress
from plan import library
from tests.plan.container import Container, Memory, quiet
from tests.plan.members import LivingMembers
from tests.plan.turning import PlanesOf, TurningPlanes, programs


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """A file system in memory with the root of a machine as the base image has it."""
    logs = tmp_path_factory.mktemp("debian-logs")
    with Memory(tmp_path_factory.mktemp("memory")) as memory:
        root = memory.path / "debian"
        root.mkdir()
        machine_root(Cache(), root, PlainProgress(), logs=logs)
        shutil.copytree(library.FOLDER, root / library.PLACE[1:] / library.FOLDER.name)
        yield memory


@pytest.fixture(scope="module")
def machine(memory: Memory) -> Iterator[Container]:
    """A machine for all tests of a module: each of them has names of its own on it."""
    with Container(memory, prepare=quiet) as container:
        yield container


@pytest.fixture
def new_machine(memory: Memory) -> Iterator[Callable[..., Container]]:
    """Boots a machine of the test's own, with more directories above its root."""
    with ExitStack() as stack:

        def boot(*above: Path, prepare: Callable[[Path], None] = quiet) -> Container:
            return stack.enter_context(Container(memory, *above, prepare=prepare))

        yield boot


@pytest.fixture(scope="module")
def programs_of_planes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs(tmp_path_factory.mktemp("store"))


@pytest.fixture
def planes_of(memory: Memory, programs_of_planes: Path) -> Iterator[PlanesOf]:
    """Brings up control planes, whose steps have run."""
    every: list[TurningPlanes] = []

    def made(names: Sequence[str]) -> TurningPlanes:
        planes = TurningPlanes(memory, programs_of_planes, names)
        every.append(planes)
        planes.begin()
        planes.update()
        return planes

    try:
        yield made
    finally:
        for planes in every:
            planes.end()


@pytest.fixture
def living(memory: Memory) -> Iterator[LivingMembers]:
    """A cluster whose members of etcd come and go."""
    made = LivingMembers(memory)
    try:
        yield made
    finally:
        made.end()
