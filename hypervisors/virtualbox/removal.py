"""Removes from VirtualBox what a cut-off update was making and the engine's state does not have."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hypervisors.virtualbox import machine
from hypervisors.virtualbox.resources import MACHINE
from hypervisors.virtualbox.vboxmanage import machines


def remove(resource_type: str, inputs: Mapping[str, Any], project: Path) -> Iterator[str]:
    """Remove a half-made machine; yield a line where there is something of it.

    Relative paths are from the folder ``project`` on. An adapter stays, and the next update uses
    it. Raises VirtualBoxError.
    """
    name, image = inputs.get("name"), inputs.get("image")
    if resource_type != MACHINE or not (isinstance(name, str) and isinstance(image, str)):
        return
    known = machine.uuid_of(name) in machines()
    machine.removed(name, project / image)
    if known:
        yield f"{name} was left half-made by an earlier update: removed"
