"""Records the kinds of objects that add-ons add to the API: ``python -m lab.recorded_crds``.

It rewrites the files of ``plan/addons/crds`` from Go modules: MetalLB's of the newest version in
the catalogue, and those of the Gateway API of the version with which Traefik was built. Run it
after one of these versions changed, and review the diff.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.cache import Cache
from lab.gobuild import find_go, module_directory
from lab.paths import PROJECT, lab_paths
from lab.progress import PlainProgress, Progress
from lab.recipe import ModuleFile, recipe
from spec.artifacts import artifact_row
from spec.versions import versions_for

CRDS = PROJECT / "plan" / "addons" / "crds"

GATEWAY_API = "1.6.3"
"""The version with which Traefik was built, as the program itself says (``go version -m``)."""


@dataclass(frozen=True, kw_only=True)
class RecordedModule:
    """A Go module with definitions of kinds of objects, and the file that has them."""

    file: str
    title: str
    """Whose they are, for the file's first line."""
    module: str
    version: str
    folder: str
    """Where they are in the module."""

    @property
    def header(self) -> str:
        """The comment at the beginning of the file."""
        return (
            f"# The kinds of objects of {self.title} {self.version}, from {self.folder} of its "
            "Go module, without\n"
            "# descriptions and without the conversion by a webhook (python -m lab.recorded_crds). "
            f"{self.title[0].upper()}{self.title[1:]} is\n"
            "# under the Apache License 2.0, as this project is.\n"
        )


def recorded() -> tuple[RecordedModule, ...]:
    """The modules, of which each is a file."""
    return (
        RecordedModule(
            file="gateway-api.yaml",
            title="the Gateway API",
            module="sigs.k8s.io/gateway-api",
            version=GATEWAY_API,
            folder="config/crd/standard",
        ),
        RecordedModule(
            file="metallb.yaml",
            title="MetalLB",
            module="go.universe.tf/metallb",
            version=_metallb(),
            folder="config/crd/bases",
        ),
    )


def _metallb() -> str:
    return artifact_row("metallb-controller").version(versions_for())


def definitions(wanted: RecordedModule, progress: Progress) -> str:
    """The text of a file: the module's definitions as YAML documents, sorted by name."""
    cache = Cache()
    go = find_go(cache, progress, lab_paths().logs)
    module = ModuleFile(module=wanted.module, version=f"v{wanted.version}", path=wanted.folder)
    # Go needs a module to run in, whichever it is.
    directory = module_directory(module, go, recipe("metallb", _metallb()), cache)
    return wanted.header + "".join(_documents(directory / wanted.folder))


def _documents(folder: Path) -> Iterator[str]:
    for file in sorted(folder.glob("*.yaml")):
        for manifest in yaml.safe_load_all(file.read_text()):
            # Beside them the Gateway API has a policy about installing other versions of it.
            if manifest["kind"] == "CustomResourceDefinition":
                yield f"---\n{yaml.safe_dump(_without_descriptions(manifest))}"


def _without_descriptions(value: Any, *, of_properties: bool = False) -> Any:
    """A schema without its descriptions; ``properties`` may have one of that name."""
    if isinstance(value, list):
        return [_without_descriptions(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_descriptions(item, of_properties=key == "properties" and not of_properties)
        for key, item in value.items()
        if of_properties or key != "description"
    }


if __name__ == "__main__":
    for row in recorded():
        (CRDS / row.file).write_text(definitions(row, PlainProgress()))
