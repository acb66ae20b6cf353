"""Gets Pulumi, its Python language host and the plugins, each from the first source with it."""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.artifacts import obtain, source_keys
from lab.cache import Cache, Receipt, digest_of, sha256_of
from lab.download import SourceUnreachable
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from lab.process import output, run
from lab.progress import Progress

PULUMI = "3.259.0"
"""The version that is built and the oldest accepted one; the SDK in requirements.txt has it too."""

DOWNLOADED = "3.261.0"
"""The version that is downloaded: the first later version whose digests are known for both
architectures (spec/official.yaml)."""

LANGUAGE_HOST = "3.79.0"
"""The last version of the Python language host that is a Go module; it runs under 3.259."""

PLUGINS: Mapping[str, str] = {"command": "1.2.1", "libvirt": "0.5.4"}
"""Provider plugin to version; their Python SDKs in requirements.txt have the same versions."""


@dataclass(frozen=True)
class Choice:
    """The source that a tool came from, and the reason."""

    tool: str
    version: str
    origin: str
    reason: str


@dataclass(frozen=True)
class Toolchain:
    """A Pulumi CLI with its language host, and a separate Pulumi home that holds the plugins."""

    pulumi: Path
    programs: Path
    """The directory of the CLI and the language host."""
    home: Path
    """``PULUMI_HOME``."""
    choices: tuple[Choice, ...]

    def environment(self) -> dict[str, str]:
        """The whole environment for ``pulumi``, with the virtual environment activated.

        The language host 3.79 does not read ``runtime.options.virtualenv``, so the virtual
        environment has to be active. ``PYTHONPATH`` and the like are dropped, so that the
        program imports modules only from its own folder and that environment.
        """
        venv = (PROJECT / ".venv").resolve()
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH")
        }
        return inherited | {
            "PATH": os.pathsep.join(
                [str(venv / "bin"), str(self.programs), os.environ.get("PATH", "")]
            ),
            "VIRTUAL_ENV": str(venv),
            "PULUMI_HOME": str(self.home),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }


def prepare(cache: Cache, paths: LabPaths, progress: Progress) -> Toolchain:
    """Find, fetch or build every tool and return the toolchain; a second call only checks.

    The order of sources is: an installed tool with an accepted version, the official download with
    its pinned sha256, a build from Go modules.
    """
    programs, cli = _cli(cache, paths, progress)
    plugins = {
        name: _plugin(name, version, cache, paths, progress) for name, version in PLUGINS.items()
    }
    home = _home(
        programs / "pulumi", {n: path for n, (path, _) in plugins.items()}, cache, paths, progress
    )
    choices = (cli, *(choice for _, choice in plugins.values()))
    return Toolchain(programs / "pulumi", programs, home, choices)


# -- the CLI and the language host ---------------------------------------------------------------


def installed_cli() -> tuple[Path | None, str]:
    """The directory of an accepted installed CLI, or None; and a sentence about what was found."""
    program = shutil.which("pulumi")
    if program is None:
        return None, "no pulumi on PATH"
    folder = Path(program).resolve().parent
    version_parts = re.search(r"v(\d+)\.(\d+)\.(\d+)", output([program, "version"]) or "")
    if version_parts is None:
        return None, f"{program} does not tell its version"
    version = ".".join(version_parts.groups())
    if int(version_parts[1]) != 3 or tuple(map(int, version_parts.groups())) < tuple(
        map(int, PULUMI.split("."))
    ):
        return None, f"the installed pulumi {version} does not fit ({PULUMI} or a later 3.x does)"
    if not (folder / "pulumi-language-python").exists():
        return None, f"the installed pulumi {version} has no pulumi-language-python beside it"
    return folder, f"pulumi {version} is installed"


def _cli(cache: Cache, paths: LabPaths, progress: Progress) -> tuple[Path, Choice]:
    folder, description = installed_cli()
    if folder is not None:
        return folder, Choice("pulumi", description.split()[1], "installed", description)
    receipts = _bundle(cache, paths, progress)
    files = {name: digest for receipt in receipts for name, digest in receipt.files.items()}
    version = receipts[0].facts["version"]
    return cache.tree(files), _choice("pulumi", version, receipts[0], description)


def _bundle(cache: Cache, paths: LabPaths, progress: Progress) -> list[Receipt]:
    """The receipts of the CLI and its language host: one download, or two builds."""
    downloaded = [("pulumi", DOWNLOADED)]
    built = [("pulumi", PULUMI), ("pulumi-language-python", LANGUAGE_HOST)]
    if not all(_is_stored(cache, *part) for part in built):
        try:
            return [obtain(*part, cache, progress, paths.logs) for part in downloaded]
        except SourceUnreachable as problem:
            progress.say(f"{problem.what}; building it from Go modules instead")
    return [obtain(*part, cache, progress, paths.logs) for part in built]


def _is_stored(cache: Cache, family: str, version: str) -> bool:
    return any(cache.receipt(key) for key in source_keys(family, version))


def _choice(tool: str, version: str, receipt: Receipt, description: str) -> Choice:
    could = "could" if receipt.origin == "official" else "could not"
    why = f"the official download {could} be had"
    return Choice(tool, version, receipt.origin, f"{description}; {why}")


# -- the plugins ---------------------------------------------------------------------------------


def installed_plugin(name: str, version: str) -> Path | None:
    """The path of a plugin with exactly this version in the user's own Pulumi home, or None."""
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    program = home / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"
    return program if os.access(program, os.X_OK) else None


def _plugin(
    name: str, version: str, cache: Cache, paths: LabPaths, progress: Progress
) -> tuple[Path, Choice]:
    tool = f"pulumi-resource-{name}"
    if (program := installed_plugin(name, version)) is not None:
        return program, Choice(tool, version, "installed", f"{program.parent.name} is installed")
    receipt = obtain(tool, version, cache, progress, paths.logs)
    choice = _choice(tool, version, receipt, f"no plugin {name} {version} is installed")
    return cache.blob(receipt.files[tool]), choice


def _home(
    pulumi: Path, plugins: Mapping[str, Path], cache: Cache, paths: LabPaths, progress: Progress
) -> Path:
    """Make a Pulumi home with exactly these plugins, installed by the CLI itself.

    The plugins are not put on PATH, since the CLI warns about plugins on PATH on every run.
    """
    digests = {name: cache.sha256(program) for name, program in plugins.items()}
    home = cache.root / "pulumi" / digest_of(digests)[:24]
    marker = home / "complete"

    def whole() -> bool:
        return marker.is_file() and all(
            program.is_file() and cache.sha256(program) == digests[name]
            for name in plugins
            if (program := _installed_in(home, name))
        )

    if whole():
        return home
    with cache.lock(f"pulumi-{home.name}", lambda: progress.say("another run installs plugins")):
        if whole():
            return home
        if marker.is_file():
            progress.say("a plugin in the lab's Pulumi home is damaged: installing it anew")
        shutil.rmtree(home, ignore_errors=True)
        log = paths.logs / "plugins.log"
        for name, program in plugins.items():
            # The command derives the package's name from the file's name, so the copy is named
            # after the plugin.
            with cache.work() as scratch, progress.task(f"installing the plugin {name}") as task:
                copy = scratch / f"pulumi-resource-{name}"
                shutil.copyfile(program, copy)
                copy.chmod(0o755)
                run(
                    [pulumi, "plugin", "install", "resource", name, PLUGINS[name]]
                    + ["--file", copy, "--reinstall"],
                    environment={"PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"},
                    log=log,
                    task=task,
                    timeout=120,
                    failure=f"the plugin {name} could not be installed",
                )
            if sha256_of(_installed_in(home, name)) != digests[name]:
                raise Problem(
                    f"the installed plugin {name} is not the file given", f"look into {log}"
                )
        marker.touch()
    return home


def _installed_in(home: Path, name: str) -> Path:
    folder = home / "plugins" / f"resource-{name}-v{PLUGINS[name]}"
    return folder / f"pulumi-resource-{name}"
