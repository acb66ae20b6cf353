"""The toolchain takes the first source that fits and repairs what was damaged."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lab import toolchain as tools
from lab.cache import Cache
from lab.paths import PROJECT, LabPaths
from lab.progress import Silence
from lab.toolchain import Toolchain


def fake_pulumi(folder: Path, version: str, *, host: bool = True) -> None:
    folder.mkdir()
    (folder / "pulumi").write_text(f"#!/bin/sh\necho v{version}\n")
    (folder / "pulumi").chmod(0o755)
    if host:
        (folder / "pulumi-language-python").touch(0o755)


@pytest.mark.parametrize(
    ("version", "host", "fits", "reason"),
    [
        ("3.259.0", True, True, "pulumi 3.259.0 is installed"),
        ("3.300.1", True, True, "pulumi 3.300.1 is installed"),
        ("3.258.9", True, False, "3.258.9 does not fit"),
        ("4.0.0", True, False, "4.0.0 does not fit"),
        ("3.260.0", False, False, "has no pulumi-language-python"),
    ],
)
def test_an_installed_cli_is_taken_where_it_fits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    host: bool,
    fits: bool,
    reason: str,
) -> None:
    fake_pulumi(tmp_path / "bin", version, host=host)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    folder, description = tools.installed_cli()
    assert (folder is not None) == fits
    assert reason in description


def test_an_installed_plugin_counts_only_in_its_exact_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugins" / "resource-command-v1.2.1"
    folder.mkdir(parents=True)
    (folder / "pulumi-resource-command").touch(0o755)
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path))
    assert tools.installed_plugin("command", "1.2.1") == folder / "pulumi-resource-command"
    assert tools.installed_plugin("command", "1.2.0") is None
    (folder / "pulumi-resource-command").chmod(0o644)
    assert tools.installed_plugin("command", "1.2.1") is None


def test_versions_are_those_of_the_python_sdks() -> None:
    pins = dict(
        line.split("==")
        for line in (PROJECT / "requirements.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    assert pins["pulumi"] == tools.PULUMI
    assert {n: pins[f"pulumi-{n}"] for n in tools.PLUGINS} == dict(tools.PLUGINS)


@pytest.mark.engine
def test_the_cli_finds_the_lab_s_plugins_without_a_warning(toolchain: Toolchain) -> None:
    done = subprocess.run(
        [toolchain.pulumi, "plugin", "ls", "--json"],
        env=toolchain.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    for name, version in tools.PLUGINS.items():
        assert f'"name": "{name}"' in done.stdout
        assert f'"version": "{version}"' in done.stdout
    assert "warning" not in done.stderr.lower()
    done = subprocess.run([toolchain.pulumi, "version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().lstrip("v") == toolchain.choices[0].version


def _disks(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).lstat().st_size > 400 * 2**20]


@pytest.mark.engine
def test_a_damaged_plugin_is_installed_anew_and_a_damaged_program_made_anew(
    toolchain: Toolchain, tmp_path: Path, paths: LabPaths
) -> None:
    cache = Cache(tmp_path / "cache")
    cache.root.mkdir()
    # A copy of what is stored, to be damaged. Disks are larger than any tool, and gigabytes.
    for name in ("blobs", "receipts"):
        shutil.copytree(Cache().root / name, cache.root / name, ignore=_disks)
    first = tools.prepare(cache, paths, Silence())
    plugin = first.home / "plugins" / "resource-command-v1.2.1" / "pulumi-resource-command"
    os.truncate(plugin, 1000)
    with (first.programs / "pulumi").open("r+b") as stream:
        (first.programs / "pulumi").chmod(0o755)
        stream.seek(5000)
        stream.write(b"damage")
    (cache.root / "go").symlink_to(Cache().root / "go")
    second = tools.prepare(cache, paths, Silence())
    plugin = second.home / plugin.relative_to(first.home)
    assert plugin.stat().st_size > 10**6
    done = subprocess.run([second.pulumi, "version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().lstrip("v") == second.choices[0].version
