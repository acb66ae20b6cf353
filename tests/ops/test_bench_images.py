"""What is loaded to be measured: an image for each time, onto all nodes and onto a single one."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ops import bench_images, image_archive

NODES = ("master", "minion1", "minion2")


class AdvancedClock:
    """A clock that goes on only where a command takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def measured(
    monkeypatch: pytest.MonkeyPatch, cost: Callable[[int, bool], float]
) -> tuple[float, str, list[tuple[str, ...]], list[image_archive.ImageArchive]]:
    """The ratio, what is printed, the commands, and the archives that were loaded.

    ``cost`` is of a round and whether it is onto all nodes.
    """
    clock, commands, archives = AdvancedClock(), [], []
    monkeypatch.setattr(bench_images, "time", clock)

    def command(*arguments: str) -> str:
        commands.append(arguments)
        if arguments[:2] == ("images", "load"):
            archives.append(image_archive.read(Path(arguments[2]), "amd64"))
            clock.now += cost((len(archives) - 1) // 2, "--machine" not in arguments)
        return ""

    console = Console(file=io.StringIO(), width=100)
    ratio = bench_images.bench_images(console, command, NODES, "amd64", size=2)
    assert isinstance(console.file, io.StringIO)
    return ratio, console.file.getvalue(), commands, archives


def test_each_image_is_new_of_its_size_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, commands, archives = measured(monkeypatch, lambda _, every: 13.0 if every else 10.0)
    names = [image.name for archive in archives for image in archive.images]
    assert len(set(names)) == len(archives) == 2 * bench_images.ROUNDS
    assert all(2 * 2**20 < archive.size < 2.1 * 2**20 for archive in archives)
    assert [command[2] for command in commands if command[1] == "remove"] == names
    loads = [command[3:] for command in commands if command[1] == "load"]
    assert loads == [("--machine", "minion2"), ()] * bench_images.ROUNDS


def test_a_single_slow_moment_changes_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    ratio, text, *_ = measured(
        monkeypatch, lambda number, every: 900.0 if number == 1 else 12.0 if every else 10.0
    )
    assert ratio == pytest.approx(1.2)
    assert "1.20" in text
    assert "more than" not in text


def test_a_ratio_that_is_too_high_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    ratio, text, *_ = measured(monkeypatch, lambda _, every: 30.0 if every else 10.0)
    assert ratio == pytest.approx(3)
    assert "3.00 (more than 1.3)" in text


def test_two_images_have_different_content(tmp_path: Path) -> None:
    first, second = (
        bench_images._image(tmp_path, "docker.io/library/x:1", "amd64", 1).read_bytes()
        for _ in range(2)
    )
    assert len(first) == len(second)
    assert first != second
