"""Makes a root file system with a program that is no single file: Debian, wheels, npm packages.

The tar file with it is one layer of a container image. Debian brings Python and Node and keeps them
safe; the wheels and npm packages are exactly those that the recipe lists, each with its digest. No
script of a package runs.
"""

import os
import platform
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from lab.cache import Cache
from lab.debian_root import ALONE, EXCLUDED, KEYRING, SUITE
from lab.npm import install_packages
from lab.packages import install
from lab.paths import lab_paths
from lab.problem import Problem
from lab.process import output, run
from lab.progress import Progress, Task
from lab.recipe import DebianPython, Recipe

PLATFORMS = ("manylinux_2_28", "manylinux2014")
"""Of wheels that run on the suite (PEP 600)."""

WHEELS, PROXY = "opt/hub", "opt/proxy"
"""The folders of the root with the wheels, and with the npm packages."""

INTERPRETER = "/usr/bin/python3"

LEFT_OUT = (
    *("boot", "home", "media", "mnt", "root", "srv", "tmp", "var/cache", "var/lib/apt"),
    *("var/lib/dpkg", "var/log", "usr/share/doc", "usr/share/info", "usr/share/locale"),
    *("usr/share/man", f"{WHEELS}/debugpy", f"{WHEELS}/share/man"),
)
"""Folders that stay empty, or are not there: what installs packages, and what nobody reads."""

EMPTY = ("dev", "home", "proc", "root", "run", "srv", "sys", "tmp")
"""Folders that are there without content, for what a runtime mounts."""


def build_root(
    recipe: Recipe,
    out: Path,
    cache: Cache,
    progress: Progress,
    scratch: Path,
    log: Path,
    task: Task,
) -> None:
    """Write the tar file of a recipe's root to ``out``, under the name of its program.

    The same packages give the same bytes. Raises a Problem where this process is not root, a
    package cannot be had or has another digest, or the program does not say the recipe's version.
    """
    assert recipe.root is not None
    if os.geteuid() != 0:
        raise Problem(
            f"building the image of {recipe.family} needs root", "run the same command with sudo"
        )
    install({"mmdebstrap": f"building {recipe.family}"}, lab_paths(), progress)
    root = scratch / "root"
    _debian(recipe.root, scratch, root, log, task)
    _wheels(recipe.path / recipe.root.requirements, recipe.root.python, root / WHEELS, log, task)
    _npm(recipe.path / recipe.root.npm, root / PROXY, cache, progress, log, task)
    task.note("compiling Python's modules")
    _tidy(root)
    _compiled(root, log)
    for name, command in recipe.programs.items():
        _checked(root, command, recipe)
        task.note("writing the archive")
        _write(root, out / name)
    shutil.rmtree(root)


def _debian(wanted: DebianPython, scratch: Path, root: Path, log: Path, task: Task) -> None:
    keyring = [f"--keyring={KEYRING}"] if KEYRING.is_file() else []
    task.note("fetching Debian's packages")
    run(
        [*ALONE, "mmdebstrap", "--variant=essential", "--mode=root", "--format=directory"]
        + ["--dpkgopt=force-unsafe-io"]
        + [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in EXCLUDED]
        + [*keyring, f"--include={','.join(wanted.packages)}", SUITE, str(root)],
        log=log,
        task=task,
        environment={"TMPDIR": str(scratch), "DEBIAN_FRONTEND": "noninteractive"},
        timeout=3600,
        failure="mmdebstrap could not make the root of the image",
    )


def _wheels(requirements: Path, python: str, target: Path, log: Path, task: Task) -> None:
    """Unpack the wheels of a list, each with its digest, for another Python than this one."""
    machine = platform.machine()
    names = (word for name in PLATFORMS for word in ("--platform", f"{name}_{machine}"))
    task.note("fetching Python's packages")
    run(
        [sys.executable, "-m", "pip", "install", "--no-input", "--no-deps", "--no-compile"]
        + ["--progress-bar=off", "--no-cache-dir", "--only-binary=:all:", "--require-hashes"]
        + ["--python-version", python, "--implementation", "cp", *names]
        + ["--root-user-action=ignore", "--target", target, "--requirement", requirements],
        log=log,
        task=task,
        timeout=3600,
        failure="the wheels of the image cannot be installed",
    )


def _npm(
    source: Path, target: Path, cache: Cache, progress: Progress, log: Path, task: Task
) -> None:
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file():
            shutil.copyfile(file, target / file.name)
    task.note("fetching npm's packages")
    install_packages(target, cache, progress, log, task)


def _tidy(root: Path) -> None:
    """Take out what no program reads, and name the root's own Python in scripts.

    pip writes the Python that runs it into the first line of each script.
    """
    for name in LEFT_OUT:
        shutil.rmtree(root / name, ignore_errors=True)
    for name in EMPTY:
        folder = root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    (root / "tmp").chmod(0o1777)
    wheels = root / WHEELS
    for path in [*wheels.rglob("*.map"), *(root / PROXY).rglob("*.map")]:
        path.unlink()
    for path in [path for path in wheels.rglob("tests") if path.is_dir()]:
        shutil.rmtree(path, ignore_errors=True)
    for path in (wheels / "bin").iterdir():
        first, _, rest = path.read_bytes().partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            path.write_bytes(f"#!{INTERPRETER}\n".encode() + rest)


def _compiled(root: Path, log: Path) -> None:
    """Compile the modules: a pod's root is read-only, so it would do so at each start.

    The compiled files name the digest of their source and no time, so they are always the same.
    """
    for cached in root.rglob("__pycache__"):
        shutil.rmtree(cached)
    run(
        [*ALONE, "chroot", root, INTERPRETER, "-m", "compileall", "-q"]
        + ["--invalidation-mode", "unchecked-hash", f"/{WHEELS}", "/usr/lib/python3"]
        + [f"/usr/lib/{path.name}" for path in (root / "usr/lib").glob("python3.*")],
        log=log,
        timeout=3600,
        failure="the modules of the image cannot be compiled",
    )


def _checked(root: Path, command: str, recipe: Recipe) -> None:
    """Raise a Problem unless a command in the root says the recipe's version."""
    asked = [*ALONE, "chroot", str(root), "env", f"PYTHONPATH=/{WHEELS}", *command.split()]
    answer = (output(asked, timeout=300) or "nothing").strip()
    if recipe.version not in answer:
        raise Problem(
            f"the built {recipe.family} does not say {recipe.version} ({answer[:200]})",
            f"correct the recipe of {recipe.family} in lab/recipes/recipes.yaml",
        )


def _write(root: Path, target: Path) -> None:
    """Write the root as a tar file: sorted, with time 0, without devices and rights of root."""
    with (
        target.open("wb") as stream,
        tarfile.open(fileobj=stream, mode="w:", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in _sorted(root):
            status = path.lstat()
            member = tarfile.TarInfo(str(path.relative_to(root)))
            member.uid, member.gid = status.st_uid, status.st_gid
            member.mode = stat.S_IMODE(status.st_mode) & ~(stat.S_ISUID | stat.S_ISGID)
            if path.is_symlink():
                member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
                archive.addfile(member)
            elif path.is_dir():
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            elif stat.S_ISREG(status.st_mode):
                member.size = status.st_size
                with path.open("rb") as content:
                    archive.addfile(member, content)


def _sorted(folder: Path) -> Iterator[Path]:
    """Everything below a folder, each folder before its content."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _sorted(path)
