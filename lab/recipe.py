"""The build recipes of ``lab/recipes/recipes.yaml``: how programs are made from Go modules.

One that is no single file is a root of Debian with Python packages instead.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from lab.cache import digest_of, sha256_of
from lab.problem import Problem

RECIPES = Path(__file__).parent / "recipes"

SUFFIXES = (".go", ".mod", ".sum", ".json", ".js", ".jsx", ".html")
ROOT_SUFFIXES = (".txt", ".json", ".mjs")
"""The names of files that go into a build end with these."""

ROOT_FORMAT = 1
"""Increase this with every change of ``lab/python_root.py`` that changes a root."""


class ModuleFile(BaseModel):
    """A plain file from a Go module that is installed beside the programs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: str
    version: str
    path: str


class Change(BaseModel):
    """A replacement of one text in a module's source by another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    before: str
    """The text to replace; it must be in the file exactly once."""
    after: str = ""


class Edit(BaseModel):
    """The changes to a published module before it is built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: str
    version: str
    changes: tuple[Change, ...]
    removed: tuple[str, ...] = ()
    """Files of the module that are removed."""


class DebianPython(BaseModel):
    """A root file system of Debian packages, with Python and npm packages of their own versions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    packages: tuple[str, ...]
    """Debian packages beside the essential ones; Python's is among them."""
    python: str
    """The version of Debian's Python, such as ``3.13``."""
    requirements: str
    """The file of the directory with all wheels and their digests, as pip reads it."""
    npm: str
    """The folder of the directory with a ``package-lock.json``, and files that go with it."""


class Recipe(BaseModel):
    """One family of programs that is built together, at one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    version: str
    directory: str
    """The Go module to build in, relative to the table; it holds ``go.mod`` and ``go.sum``. Of a
    ``root``: the directory with its lists."""
    programs: Mapping[str, str]
    """Program name to its main package. Of a ``root``: its own name to the command in it that says
    its version."""
    cgo: bool = False
    tags: tuple[str, ...] = ()
    ldflags: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    """Debian packages that the build needs on this host."""
    version_check: Mapping[str, str] = {}
    """Program name to the arguments that make it print its version."""
    files: Mapping[str, ModuleFile] = {}
    edit: Edit | None = None
    pages: str = ""
    """The folder of the directory with the sources of pages for a browser, made of npm packages.
    The pages are built first, and the program embeds a folder of that name with them."""
    root: DebianPython | None = None
    """What is made in place of programs: a tar file with a root file system."""

    @property
    def path(self) -> Path:
        """The recipe's directory."""
        return (RECIPES / self.directory).resolve()

    def sources(self) -> list[Path]:
        """The files in the recipe's directory that go into the build; no tests."""
        return sorted(
            file
            for file in self.path.rglob("*")
            if file.is_file()
            and "testdata" not in file.parts
            and not file.name.endswith("_test.go")
            and "node_modules" not in file.parts
            and file.suffix in (SUFFIXES if self.root is None else ROOT_SUFFIXES)
        )

    def key(self, architecture: str) -> str:
        """The key of the receipt of this recipe; it changes with every input of the build."""
        sources = {str(f.relative_to(self.path)): sha256_of(f) for f in self.sources()}
        empty = {name for name in ("edit", "pages", "root") if not getattr(self, name)}
        fields = self.model_dump(mode="json", exclude=empty)
        kind = ["go"] if self.root is None else ["root", ROOT_FORMAT]
        return digest_of([*kind, architecture, fields, sources])


@cache
def recipes() -> tuple[Recipe, ...]:
    """Every recipe of the table."""
    rows = yaml.safe_load((RECIPES / "recipes.yaml").read_text())
    return TypeAdapter(tuple[Recipe, ...]).validate_python(rows)


def recipe(family: str, version: str) -> Recipe:
    """The recipe of a family at a version.

    Raises a Problem where there is none; its message names the versions that have a recipe.
    """
    known = [row.version for row in recipes() if row.family == family]
    for row in recipes():
        if (row.family, row.version) == (family, version):
            return row
    raise Problem(
        f"there is no recipe for {family} {version}",
        f"use one of {', '.join(known)}" if known else "add one to lab/recipes/recipes.yaml",
    )
