"""A planned machine as a checker on the machine would see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from plan import unit
from plan.model import Directory, File, NodePlan, SecretFile, Unit
from spec.cluster import Cluster


@dataclass(frozen=True)
class View:
    """One machine of a golden cluster."""

    cluster: str
    spec: Cluster
    plan: NodePlan

    def __str__(self) -> str:
        return f"{self.cluster}/{self.plan.node}"

    @cached_property
    def entries(self) -> dict[str, File | SecretFile | Directory]:
        """Everything with a mode and an owner, by path."""
        units = (
            File(path=service.path, content=unit.text(service), mode=0o600)
            for service in self.plan.units
        )
        every: list[File | SecretFile | Directory] = [*self.plan.files, *units]
        every += [*self.plan.secret_files, *self.plan.directories]
        return {entry.path: entry for entry in every}

    @cached_property
    def units(self) -> dict[str, Unit]:
        """Services by name without suffix."""
        return {service.name.removesuffix(".service"): service for service in self.plan.units}

    def flags(self, name: str) -> Mapping[str, str]:
        """The flags of a service that the machine must have."""
        return self.units[name].flags

    def text(self, path: str) -> str:
        """The content of a file of the plan."""
        entry = self.entries[path]
        assert isinstance(entry, File), f"{path} is {entry}"
        return entry.content

    def config(self, name: str) -> Any:
        """The parsed file that the service's flag ``--config`` names."""
        return yaml.safe_load(self.text(self.flags(name)["config"]))
