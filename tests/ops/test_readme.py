"""What the README says can be typed, typed."""

import subprocess

import pytest

from lab.paths import PROJECT
from tests import readme
from tests.checkout import Checkout
from tests.machine.lab import at_length

RUN = (
    *(*readme.ON_A_CLUSTER, *readme.IMAGES, *readme.SERVICES, *readme.IN_THE_STORY),
    *(*readme.ALONE, *readme.MINUTES, *readme.GIGABYTES),
    *(*readme.THE_TESTS_THEMSELVES, *readme.SECOND_STACK, *readme.EXISTING, *readme.ADD_ONS),
    *(*readme.ON_VIRTUALBOX, *readme.WITH_MORE_WORDS, *readme.BACKUPS, *readme.RESTORE),
    *readme.RECOVERY,
    *readme.PASSWORDS,
)


def test_every_command_of_the_readme_is_run_by_a_test_and_no_other_is_listed() -> None:
    commands = readme.commands()
    assert len(commands) > 20
    assert set(commands) - set(RUN) == set()
    assert set(RUN) - set(commands) == {"./hardway kubeconfig --remove"}, "said as an option there"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy, since some commands write into their checkout."""
    made = Checkout(tmp_path_factory.mktemp("checkout"))
    made.commit("and nothing since")
    return made


@pytest.mark.parametrize(
    "command",
    [*readme.ALONE, *(pytest.param(command, marks=at_length) for command in readme.MINUTES)],
)
def test_the_command_works_as_it_stands_in_the_readme(command: str, checkout: Checkout) -> None:
    # With a line behind it bash stays, and --install-completion asks who started it.
    done = checkout.run("bash", "-euc", f"{command}\nexit")
    # What doctor finds on this host is its own affair.
    assert done.returncode == 0 or command.endswith("doctor"), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) >= 1


def test_the_golden_clusters_are_those_that_make_golden_writes(checkout: Checkout) -> None:
    folders = [str(folder / "tests/golden") for folder in (PROJECT, checkout.folder)]
    command = ["diff", "--recursive", *folders]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""
