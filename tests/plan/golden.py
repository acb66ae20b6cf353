"""A cluster's plan as a tree of text files, for people to read and tests to compare."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from certs.table import certificates
from plan import unit
from plan.cluster import ClusterPlan, cluster_plan
from plan.model import NotNewer, SecretFile, Step
from spec.artifacts import artifact_rows
from spec.cluster import Cluster, parse
from spec.versions import versions_for

GOLDEN = Path(__file__).parent.parent / "golden"
NAMES = sorted(path.parent.name for path in GOLDEN.glob("*/spec.yaml"))
MIRROR = "http://192.0.2.1:6480"


def digests(kubernetes: str | None) -> dict[str, str]:
    """Digests of files that do not exist: a plan needs them, its tests do not need the files."""
    versions = versions_for(kubernetes)
    names = [f"{row.name}-{row.version(versions)}" for row in artifact_rows()]
    return {name: hashlib.sha256(name.encode()).hexdigest() for name in names}


@cache
def golden_spec(name: str) -> Cluster:
    """The spec of a golden cluster."""
    value = yaml.safe_load((GOLDEN / name / "spec.yaml").read_text())
    value["artifacts"] = {"mirror": MIRROR, "digests": digests(value.get("kubernetes"))}
    return parse(value, name=name)


@cache
def golden_plan(name: str) -> ClusterPlan:
    """The plan of a golden cluster."""
    return cluster_plan(golden_spec(name))


def tree(name: str) -> dict[str, str]:
    """Path below the cluster's folder to the text that belongs there."""
    plan = golden_plan(name)
    texts = {
        "certificates.yaml": _yaml([_row(asdict(row)) for row in certificates(golden_spec(name))]),
        "conditions.yaml": _yaml([_row(asdict(condition)) for condition in plan.conditions]),
    }
    for node, machine in plan.nodes.items():
        texts.update(_machine(f"machines/{node}", machine.steps))
    texts.update(_machine("add-ons", plan.add_ons))
    return texts


def _machine(folder: str, steps: tuple[Step, ...]) -> Iterator[tuple[str, str]]:
    yield f"{folder}/plan.yaml", _yaml([_step(step) for step in steps])
    for step in steps:
        for file in step.files:
            yield f"{folder}/files{file.path}", file.content
        for service in step.units:
            yield f"{folder}/files{service.path}", unit.text(service)


def _step(step: Step) -> Any:
    """What of a step is no file of its own."""
    return _row(
        {
            "step": step.name,
            "packages": step.packages,
            "users": step.users,
            "artifacts": [f"{a.name} {a.version} {a.store_path}" for a in step.artifacts],
            "directories": [f"{d.mode:04o} {d.owner} {d.path}" for d in step.directories],
            "files": [f"{f.mode:04o} {f.owner} {f.path}" for f in step.files],
            "secret files": [_secret(f) for f in step.secret_files],
            "links": {link.path: link.target for link in step.links},
            "masked": step.masked,
            "units": {
                service.name: {
                    "restarts for": list(service.needs),
                    "reads again": list(service.reads),
                }
                for service in step.units
            },
            "not newer": _not_newer(step.not_newer),
            "rolls": step.rolling and {link.path: link.target for link in step.rolling.programs},
            "script": step.script,
            "settings": dict(step.settings),
            "outcome": step.outcome,
        }
    )


def _not_newer(rule: NotNewer | None) -> Any:
    return rule and {rule.program.path: f"{rule.version} as {' '.join(rule.servers)}"}


def _secret(file: SecretFile) -> str:
    of = " ".join(str(value) for value in asdict(file.source).values())
    return f"{file.mode:04o} {file.owner} {file.path} <- {type(file.source).__name__} {of}".rstrip()


def _row(value: Any) -> Any:
    """Without what is empty, and with plain types only."""
    if isinstance(value, dict):
        return {str(k): _row(v) for k, v in value.items() if v not in (None, (), [], {}, "")}
    if isinstance(value, list | tuple):
        return [_row(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(str(item) for item in value)
    return value if isinstance(value, bool | int | float) else str(value)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=100, allow_unicode=True)
