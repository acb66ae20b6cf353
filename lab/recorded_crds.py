"""Records the kinds of objects that MetalLB adds to the API: ``python -m lab.recorded_crds``.

It rewrites ``plan/addons/crds/metallb.yaml`` from the Go module of the newest version in the
catalogue. Run it after that version changed, and review the diff.
"""

from collections.abc import Iterator
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

DEFINITIONS = PROJECT / "plan" / "addons" / "crds" / "metallb.yaml"

MODULE, FOLDER = "go.universe.tf/metallb", "config/crd/bases"

HEADER = """\
# The kinds of objects of MetalLB {version}, from {folder} of its Go module, without
# descriptions and without the conversion by a webhook (python -m lab.recorded_crds). MetalLB is
# under the Apache License 2.0, as this project is.
"""


def definitions(progress: Progress) -> str:
    """The text of the file: the module's definitions as YAML documents, sorted by name."""
    row = artifact_row("metallb-controller")
    version = row.version(versions_for())
    cache = Cache()
    go = find_go(cache, progress, lab_paths().logs)
    module = ModuleFile(module=MODULE, version=f"v{version}", path=FOLDER)
    folder = module_directory(module, go, recipe(row.family, version), cache) / FOLDER
    return HEADER.format(version=version, folder=FOLDER) + "".join(_documents(folder))


def _documents(folder: Path) -> Iterator[str]:
    for file in sorted(folder.glob("*.yaml")):
        yield f"---\n{yaml.safe_dump(_without_descriptions(yaml.safe_load(file.read_text())))}"


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
    DEFINITIONS.write_text(definitions(PlainProgress()))
