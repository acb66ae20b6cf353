"""Fixtures of all tiers, the order of the tiers, and what this computer cannot run."""

import compileall
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.cache import Cache
from lab.paths import PROJECT, LabPaths, lab_paths
from lab.progress import PlainProgress, Silence

if TYPE_CHECKING:
    from lab.toolchain import Toolchain

TIERS = ("browser", "engine", "container", "machine")


ROOMS = ("spec", "certs", "plan", "hypervisors", "policy", "probe", "components", "lab", "preview")

sys.dont_write_bytecode = False
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
"""Hundreds of processes of the tests import the project: they find it compiled, and compile nothing
themselves. A program that a test writes twice in a second would be found as it was before."""


def pytest_configure(config: pytest.Config) -> None:
    """Compile the project once."""
    if not hasattr(config, "workerinput"):
        for room in (*ROOMS, "ops"):
            compileall.compile_dir(PROJECT / room, quiet=2)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--golden``: what ``make golden`` and ``make docs`` give."""
    parser.addoption("--golden", action="store_true", help="rewrite what was reviewed")


SSHD = Path("/run/sshd")
"""sshd demands it; the process that began the tests removes it when all others are done."""
_FOUND = SSHD.exists()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the host as it was found."""
    if not (_FOUND or hasattr(config, "workerinput")) and os.geteuid() == 0:
        shutil.rmtree(SSHD, ignore_errors=True)


def _tier(item: pytest.Item) -> int:
    return max((n for n, name in enumerate(TIERS, 1) if item.get_closest_marker(name)), default=0)


def _no_containers() -> str | None:
    if os.geteuid() != 0:
        return "not root: no containers"
    return None if shutil.which("systemd-nspawn") else "no systemd-nspawn (systemd-container)"


def _no_browser() -> str | None:
    missing = [
        name for name in ("chromium", "chromedriver") if shutil.which(name, path="/usr/bin") is None
    ]
    return f"no {' and no '.join(missing)} (chromium, chromium-driver)" if missing else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tiers first; a tier that this computer cannot run is skipped with the reason."""
    items.sort(key=_tier)
    reasons = {
        "browser": _no_browser(),
        "engine": None if shutil.which("sshd", path="/usr/sbin:/sbin") else "no /usr/sbin/sshd",
        "container": _no_containers(),
        "machine": None if os.geteuid() == 0 else "not root: no network namespaces",
    }
    if sys.platform != "linux":
        reasons = dict.fromkeys(reasons, f"{sys.platform} is not Linux")
    for item in items:
        for tier, reason in reasons.items():
            if reason and item.get_closest_marker(tier):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the state of a person's lab; the cache is shared, as between checkouts."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HARDWAY_LAB", f"t{os.getpid() % 10**6}")


@pytest.fixture
def paths() -> LabPaths:
    return lab_paths()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the checkout's place, whose stacks are kept in the lab's own backend."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.setattr("lab.stack.PROJECT", folder)
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def progress() -> Silence:
    return Silence()


@pytest.fixture
def empty_cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="session")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> "Toolchain":
    """The real Pulumi, language host and plugins, made if the cache does not have them."""
    from lab.toolchain import prepare

    state = tmp_path_factory.mktemp("toolchain")
    logs = LabPaths(name="tools", state=state, run=state / "run")
    return prepare(Cache(), logs, PlainProgress())
