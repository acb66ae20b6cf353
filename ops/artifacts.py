"""``./hardway artifacts``: the store of binaries and image archives."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lab.artifacts import Store
from lab.bundle import export as export_bundle
from lab.bundle import import_bundle
from lab.cache import Cache
from lab.manifest import artifacts
from lab.paths import lab_paths
from lab.problem import Problem
from ops.display import progress, stdout
from spec.artifacts import DEFAULT_ADDONS, Runtime, artifact_rows
from spec.versions import UnknownVersion, Versions, versions_for

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""
The binaries and image archives that go onto machines, kept in the cache of your home directory.

Each comes from the first source that has it: the store, the official download with its pinned
digest, a build from Go modules. Only what is asked for is fetched or built, for this machine's own
architecture, and every byte is checked against its digest before it is used.

**For a machine without any network:** `./hardway artifacts export stack.tar` where there is one,
carry the file over, then `./hardway artifacts import stack.tar --digest DIGEST` with the digest
that the export printed.
""",
)


def register(hardway: typer.Typer) -> None:
    """Register the commands of this module."""
    hardway.add_typer(app, name="artifacts", rich_help_panel="Offline and mirrors")


KubernetesOption = Annotated[
    str | None,
    typer.Option("--kubernetes", "-k", help="The stack of this version, such as 1.37.0."),
]
RuntimeOption = Annotated[
    Runtime, typer.Option("--runtime", "-r", help="What the machines run containers with.")
]
AddonOption = Annotated[
    list[str], typer.Option("--addon", help="An add-on of the stack, such as storage; repeatable.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False)]


@app.command("list")
def list_(
    kubernetes: KubernetesOption = None,
    runtime: RuntimeOption = "containerd",
    addon: AddonOption = [],  # noqa: B006  # typer makes a new list
) -> None:
    """Show what a stack needs, what of it is in the store, and where it came from.

    Example: `./hardway artifacts list --kubernetes 1.37.0 --runtime docker`
    """
    versions, store = _versions(kubernetes), _store()
    table = Table("artifact", "version", "kind", "origin", "MiB", "sha256", "source")
    absent = 0
    for artifact in artifacts(versions, store.architecture, runtime, _addons(addon)):
        row = [artifact.name, artifact.version, artifact.kind]
        if stored := store.find(artifact):
            size = f"{stored.path.stat().st_size / 2**20:.1f}"
            row += [stored.origin, size, stored.digest[:12], stored.source]
        else:
            absent += 1
            origins = " or ".join(dict.fromkeys(source.origin for source in artifact.sources))
            places = [source.location for source in artifact.sources[:1]]
            row += [f"[dim]absent, {origins or 'no source'}[/]", "", "", *places]
        table.add_row(*row)
    stdout.print(table)
    if absent:
        options = _options(kubernetes, runtime, addon)
        stdout.print(
            f"{absent} are not in the store yet: ./hardway artifacts fetch{options} gets them",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def fetch(
    kubernetes: KubernetesOption = None,
    runtime: RuntimeOption = "containerd",
    addon: AddonOption = [],  # noqa: B006  # typer makes a new list
) -> None:
    """Fetch or build what a stack needs and the store lacks; replace what is damaged.

    Example: `./hardway artifacts fetch --kubernetes 1.37.0`
    """
    stored = _store().fetch(_versions(kubernetes), runtime, _addons(addon))
    size = sum(artifact.path.stat().st_size for artifact in stored)
    stdout.print(f"{len(stored)} artifacts, {size // 2**20} MiB, are in the store and intact")


@app.command()
def verify() -> None:
    """Read every byte of the store, also of the toolchain, and name what is damaged or missing.

    The next command that needs a damaged file replaces it: `./hardway artifacts fetch`, or `up`.

    Example: `./hardway artifacts verify`
    """
    verified = _store().verify()
    if not verified.findings:
        stdout.print(f"{verified.files} files, {verified.size // 2**20} MiB: every byte is right")
        return
    table = Table("file", "of", "fault")
    for finding in verified.findings:
        table.add_row(finding.name, finding.belongs_to, f"[red]{finding.fault}[/]")
    stdout.print(table)
    raise Problem(
        f"{len(verified.findings)} of {verified.files} files in the store are not as recorded",
        "run ./hardway artifacts fetch with the options of your stack to replace them",
    )


@app.command("export")
def export_(
    file: File,
    kubernetes: KubernetesOption = None,
    runtime: RuntimeOption = "containerd",
    addon: AddonOption = [],  # noqa: B006  # typer makes a new list
) -> None:
    """Write what a stack needs to one file, fetching or building it first where it is absent.

    Example: `./hardway artifacts export /media/stick/stack.tar`
    """
    addons = _addons(addon)
    bundle = export_bundle(file, _store(), _versions(kubernetes), progress(), runtime, addons)
    stdout.print(f"{file}: {len(bundle.sizes)} files, {file.stat().st_size // 2**20} MiB")
    stdout.print("Its digest, which the import asks for and which must not travel with the file:")
    stdout.print(bundle.digest)


@app.command("import")
def import_(
    file: File,
    digest: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="What the export printed.")
    ] = None,
    without_digest: Annotated[
        bool,
        typer.Option(
            "--without-digest",
            help="Take whatever is in the file: who could change it decides what machines run.",
        ),
    ] = False,
) -> None:
    """Take a bundle into the store. No network is needed, and every byte is checked first.

    Example: `./hardway artifacts import /media/stick/stack.tar --digest 3f2a...` with all of it
    """
    if digest is None and not without_digest:
        raise Problem(
            f"nobody says which bundle {file} must be, and built programs in it are known by "
            "nothing else",
            "give the digest that the export printed with --digest, or say --without-digest where "
            "you trust the file as it is",
        )
    if digest is not None and without_digest:
        raise Problem("--digest and --without-digest contradict each other", "give one of them")
    if digest is not None and not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise Problem(
            f"--digest {digest} is no sha256", "give all 64 digits that the export printed"
        )
    bundle = import_bundle(file, _store(), progress(), digest=digest and digest.lower())
    stdout.print(f"{len(bundle.sizes)} files are in the store")


def _options(kubernetes: str | None, runtime: Runtime, addons: Iterable[str]) -> str:
    """The options of these values for another command, with a space before each."""
    given = [("--kubernetes", kubernetes)] if kubernetes else []
    given += [("--runtime", runtime)] if runtime != "containerd" else []
    given += [("--addon", addon) for addon in addons]
    return "".join(f" {option} {value}" for option, value in given)


def _store() -> Store:
    return Store(Cache(), progress(), lab_paths().logs)


def _addons(given: Iterable[str]) -> frozenset[str]:
    """The default add-ons and the given ones. Raises a Problem for one without artifacts."""
    known = sorted({row.addon for row in artifact_rows() if row.addon})
    for name in given:
        if name not in known:
            raise Problem(f"no add-on {name} has artifacts", f"name one of {', '.join(known)}")
    return DEFAULT_ADDONS.union(given)


def _versions(kubernetes: str | None) -> Versions:
    try:
        return versions_for(kubernetes)
    except UnknownVersion as error:
        what, _, remedy = str(error).partition(": ")
        raise Problem(what, remedy) from error
