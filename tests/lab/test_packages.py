"""Packages are named before they are installed, and nobody is surprised."""

import io
import subprocess
from typing import Any

import pytest

from lab import packages
from lab.paths import LabPaths
from lab.problem import Problem
from lab.progress import PlainProgress


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What apt-get would be asked, on a Debian with nothing installed."""
    commands: list[list[str]] = []
    monkeypatch.setattr(packages, "run", lambda command, **_: commands.append(list(command)))
    monkeypatch.setattr(packages, "missing", lambda names: sorted(names))
    monkeypatch.setattr(packages, "supported_system", lambda: True)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return commands


def test_what_is_installed_is_told_as_dpkg_tells_it() -> None:
    if not packages.supported_system():
        pytest.skip("not Debian or Ubuntu")
    assert packages.missing(["dpkg", "no-such-package-here"]) == ["no-such-package-here"]
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package}\n"], capture_output=True, text=True, check=True
    )
    assert packages.missing(done.stdout.split()[:50]) == []


def test_packages_are_named_with_their_reasons_and_then_installed_unasked_without_a_terminal(
    asked: list[list[str]], paths: LabPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    packages.install({"tool": "cuts", "glue": "binds"}, paths, PlainProgress())
    printed = capsys.readouterr().err
    assert printed.index("tool") < printed.index("installing")
    assert "cuts" in printed
    assert "binds" in printed
    assert asked[0][:2] == ["apt-get", "update"]
    assert asked[1][-2:] == ["glue", "tool"]


@pytest.mark.parametrize(("answer", "installed"), [("\n", True), ("y\n", True), ("n\n", False)])
def test_on_a_terminal_the_person_is_asked(
    asked: list[list[str]],
    paths: LabPaths,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    installed: bool,
) -> None:
    class AnsweringTerminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", AnsweringTerminal(answer))
    monkeypatch.setattr("sys.stderr", AnsweringTerminal())
    if installed:
        packages.install({"tool": "cuts"}, paths, PlainProgress())
        assert len(asked) == 2
    else:
        with pytest.raises(Problem, match=r"not installed.*apt-get install"):
            packages.install({"tool": "cuts"}, paths, PlainProgress())
        assert asked == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"geteuid": 1000}, "1 Debian packages are missing and this is not root: run .* sudo"),
        ({"supported": False}, "has no Debian packages and lacks tool: .*use Debian 12"),
    ],
)
def test_who_cannot_install_is_told_what_to_do(
    asked: list[list[str]],
    paths: LabPaths,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    sentence: str,
) -> None:
    if "geteuid" in change:
        monkeypatch.setattr("os.geteuid", lambda: change["geteuid"])
    if "supported" in change:
        monkeypatch.setattr(packages, "supported_system", lambda: False)
    with pytest.raises(Problem, match=sentence):
        packages.install({"tool": "cuts"}, paths, PlainProgress())
    assert asked == []
