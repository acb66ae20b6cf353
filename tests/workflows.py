"""The shell lines of the GitHub workflows: each is run by a test, as it stands there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.paths import PROJECT

FOLDER = PROJECT / ".github" / "workflows"

HERE = (
    './hardway preview --stack "$STACK" --base "$BASE" --markdown preview.md --page preview.html',
    './hardway test -m "not engine and not container and not machine"',
)
"""Run by ``tests/test_workflows.py``, the last on a small part of the tests."""

ON_MACHINES = (
    './hardway preview --live --refresh --stack "$STACK" --markdown preview.md --page preview.html',
    './hardway up --refresh --stack "$STACK"',
    './hardway drift --stack "$STACK" || code=$?',
)
"""Need a stack's real machines: there the verbs are run by ``tests/machine``, here it is asked
whether they take these words."""

AROUND = ('echo "code=${code:-0}" >> "$GITHUB_OUTPUT"', 'exit "${code:-0}"')
"""Of the step that runs ``drift``: run by ``tests/test_workflows.py`` with another program."""


@dataclass(frozen=True)
class Job:
    """A job of a workflow."""

    file: Path
    name: str
    definition: dict[str, Any]

    @property
    def steps(self) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = self.definition["steps"]
        return steps

    @property
    def elsewhere(self) -> bool:
        """Whether it runs on a runner of the team's own, which reaches the machines."""
        return "self-hosted" in self.definition["runs-on"]


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.y*ml"))


def parsed(file: Path) -> dict[str, Any]:
    """A workflow; YAML takes the key ``on`` for a boolean."""
    value: dict[Any, Any] = yaml.safe_load(file.read_text())
    return {"on" if key is True else key: part for key, part in value.items()}


def jobs() -> Iterator[Job]:
    for file in files():
        for name, definition in parsed(file)["jobs"].items():
            yield Job(file, name, definition)


def lines() -> list[str]:
    """Every shell line of every job."""
    return [
        line.strip()
        for job in jobs()
        for step in job.steps
        for line in step.get("run", "").splitlines()
        if line.strip()
    ]


def script(file: str, job: str) -> str:
    """The JavaScript of a job's last step."""
    text: str = parsed(FOLDER / file)["jobs"][job]["steps"][-1]["with"]["script"]
    return text
