"""Stacks of the lab: their passphrase and salt stay out of the checkout, edits come into it."""

import subprocess
from pathlib import Path

import pytest
import yaml

from lab.paths import LabPaths
from lab.problem import Problem
from lab.stack import Stack
from lab.toolchain import Toolchain

pytestmark = pytest.mark.engine

CONFIG = "config:\n  small:size: 1 # a comment\n"
PROGRAM = """\
import pulumi

pulumi.export("size", pulumi.Config("small").require_int("size"))
pulumi.export("secret", pulumi.Output.secret("hidden"))
"""


@pytest.fixture
def stack(toolchain: Toolchain, paths: LabPaths, project: Path) -> Stack:
    (project / "Pulumi.yaml").write_text("name: small\nruntime: python\n")
    (project / "Pulumi.dev.yaml").write_text(CONFIG)
    (project / "__main__.py").write_text(PROGRAM)
    return Stack("dev", paths, toolchain)


def pulumi(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    done = stack.pulumi(*words, capture=True, cwd=stack.file.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_stack_lives_without_a_trace_in_the_checkout(stack: Stack, paths: LabPaths) -> None:
    assert not stack.exists()
    stack.create()
    stack.create()
    assert stack.exists()
    pulumi(stack, "up", "--yes", "--skip-preview")
    assert pulumi(stack, "stack", "output", "size").stdout.strip() == "1"
    pulumi(stack, "preview", "--expect-no-changes")
    assert stack.file.read_text() == CONFIG
    assert sorted(p.name for p in stack.file.parent.iterdir()) == [
        "Pulumi.dev.yaml",
        "Pulumi.yaml",
        "__main__.py",
    ]
    assert (paths.state / "passphrase").stat().st_mode & 0o777 == 0o600
    assert "hidden" not in "".join(p.read_text() for p in paths.backend.rglob("*.json"))

    # the salt was lost: it is taken from the state
    (paths.state / "config" / "Pulumi.dev.yaml").unlink()
    stack.create()
    shown = pulumi(stack, "stack", "output", "secret", "--show-secrets")
    assert shown.stdout.strip() == "hidden"
    pulumi(stack, "preview", "--expect-no-changes")

    # an edit by pulumi reaches the checkout, with comments and without the salt
    pulumi(stack, "config", "set", "small:size", "2")
    text = stack.file.read_text()
    assert yaml.safe_load(text) == {"config": {"small:size": "2"}}
    assert "# a comment" in text
    pulumi(stack, "destroy", "--yes", "--skip-preview")
    stack.remove()
    assert not stack.exists()
    assert stack.file.is_file()


def test_a_team_s_own_salt_is_left_as_it_is(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "shared")
    subprocess.run(
        [stack.toolchain.pulumi, "stack", "init", "dev", "--non-interactive"],
        cwd=stack.file.parent,
        env=stack.environment(),
        check=True,
        capture_output=True,
    )
    text = stack.file.read_text()
    assert "encryptionsalt" in text
    stack.create()
    pulumi(stack, "up", "--yes", "--skip-preview")
    assert stack.file.read_text() == text


def test_a_stack_without_a_file_is_refused_with_those_there_are(stack: Stack) -> None:
    with pytest.raises(Problem, match=r"no Pulumi.other.yaml.*choose one of dev"):
        Stack("other", stack.paths, stack.toolchain).create()
