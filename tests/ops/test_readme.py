"""What the README says can be typed, typed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.cache import Cache
from lab.paths import PROJECT
from tests import readme

RUN = (
    *(*readme.ON_A_CLUSTER, *readme.IN_THE_STORY, *readme.ALONE, *readme.GIGABYTES),
    *(*readme.THE_TESTS_THEMSELVES, *readme.SECOND_STACK, *readme.WITH_MORE_WORDS),
)


def test_every_command_of_the_readme_is_run_by_a_test_and_no_other_is_listed() -> None:
    found = readme.commands()
    assert len(found) > 20
    assert set(found) - set(RUN) == set()
    assert set(RUN) - set(found) == {"./hardway kubeconfig --remove"}, "said as an option there"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, since some commands write into their checkout."""
    place = tmp_path_factory.mktemp("checkout") / "hardway"
    shutil.copytree(PROJECT, place, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache"))
    return place


@pytest.mark.parametrize("command", readme.ALONE)
def test_the_command_works_as_it_stands_in_the_readme(command: str, checkout: Path) -> None:
    home = checkout.parent / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=checkout,
        env={
            **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
            "HOME": str(home),
            "XDG_CACHE_HOME": str(Cache().root.parent),
            "XDG_STATE_HOME": str(home / "state"),
            "HARDWAY_LAB": "readme",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    # What doctor finds on this host is its own affair.
    assert done.returncode == 0 or command.endswith("doctor"), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) >= 1


def test_the_golden_clusters_are_those_that_make_golden_writes(checkout: Path) -> None:
    folders = [str(one / "tests/golden") for one in (PROJECT, checkout)]
    command = ["diff", "--recursive", *folders]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""
