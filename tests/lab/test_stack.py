"""Stacks of the lab: their passphrase and salt stay out of the checkout, edits come into it."""

import json
import re
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lab.command_line import read
from lab.paths import LabPaths
from lab.problem import Problem
from lab.stack import Stack, plugins_path, stacks_with_state
from lab.toolchain import Choice, Toolchain

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


def pulumi(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = stack.pulumi(*arguments, capture=True, cwd=stack.file.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_stack_lives_without_a_trace_in_the_checkout(stack: Stack, paths: LabPaths) -> None:
    assert not stack.exists()
    stack.create()
    stack.create()
    assert stack.exists()
    pulumi(stack, "up", "--yes", "--skip-preview")
    origins = {choice.tool: choice.origin for choice in stack.toolchain.choices}
    noted = json.loads(plugins_path(paths, "dev").read_text())
    assert noted == {n: origins[f"pulumi-resource-{n}"] for n in ("command", "libvirt")}
    assert pulumi(stack, "stack", "output", "size").stdout.strip() == "1"
    pulumi(stack, "preview", "--expect-no-changes")
    lines: list[str] = []
    stack.pulumi("stack", "output", "size", each_line=lines.append, cwd=stack.file.parent)
    assert lines == ["1"]
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
    assert not plugins_path(paths, "dev").exists()
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


def test_settings_of_a_person_s_own_backends_do_not_hide_a_state(
    stack: Stack, paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PULUMI_DIY_BACKEND_GZIP", "PULUMI_SELF_MANAGED_STATE_GZIP"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("PULUMI_SKIP_CHECKPOINTS", "true")
    monkeypatch.setenv("PULUMI_OPTION_STACK", "another")
    stack.create()
    stack.create()
    pulumi(stack, "up", "--yes", "--skip-preview")
    assert stack.exists()
    assert stacks_with_state(paths) == ["dev"]
    (state,) = (paths.backend / ".pulumi/stacks").rglob("dev.json")
    assert state.is_file()
    assert "PULUMI_SKIP_CHECKPOINTS" not in stack.environment()
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{paths.backend}")  # by ./hardway env
    assert "PULUMI_DIY_BACKEND_GZIP" not in stack.environment()


def test_a_state_is_read_where_a_killed_update_left_its_attributes_empty(
    stack: Stack, paths: LabPaths
) -> None:
    """An earlier program's: this one has Pulumi keep none, so nothing is there in halves."""
    stack.create()
    pulumi(stack, "up", "--yes", "--skip-preview")
    kept = paths.backend / ".pulumi"
    assert not list(kept.rglob("*.attrs"))
    (state,) = (kept / "stacks").rglob("dev.json")
    state.with_name("dev.json.attrs").touch()
    assert json.loads(pulumi(stack, "stack", "export").stdout)["deployment"]["resources"]


def test_waits_are_not_counted_by_processors_but_where_a_person_says_so(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PULUMI_PARALLEL", raising=False)
    assert int(stack.environment()["PULUMI_PARALLEL"]) >= 64
    monkeypatch.setenv("PULUMI_PARALLEL", "2")
    assert stack.environment()["PULUMI_PARALLEL"] == "2"


def test_a_state_that_was_packed_is_found(
    stack: Stack, paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr("lab.stack.BACKEND_SETTINGS", ())
        older.setenv("PULUMI_DIY_BACKEND_GZIP", "true")
        stack.create()
        pulumi(stack, "up", "--yes", "--skip-preview")
    assert [path.name for path in (paths.backend / ".pulumi/stacks").rglob("dev.json*z")]
    assert stack.exists()
    pulumi(stack, "preview", "--expect-no-changes")
    pulumi(stack, "up", "--yes", "--skip-preview")
    assert stacks_with_state(paths) == ["dev"]


def test_the_backend_s_settings_are_a_person_s_own_where_the_backend_is(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}")
    monkeypatch.setenv("PULUMI_DIY_BACKEND_GZIP", "true")
    assert stack.environment()["PULUMI_DIY_BACKEND_GZIP"] == "true"


def test_a_living_stack_keeps_its_last_states_and_a_dead_one_none(
    stack: Stack, paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.stack.STATES_KEPT", 2)
    stack.create()
    kept = paths.backend / ".pulumi"

    def numbers(kind: str) -> list[int]:
        names = [path.name for path in kept.glob(kind) if path.suffix != ".attrs"]
        return sorted(int(re.findall(r"\d{15,}", name)[0]) for name in names)

    pulumi(stack, "up", "--yes", "--skip-preview")
    first = numbers("history/*/dev/*.checkpoint.json")
    for size in "234":
        stack.file.write_text(CONFIG.replace("1", size))
        pulumi(stack, "up", "--yes", "--skip-preview")
    for kind in (
        "history/*/dev/*.checkpoint.json",
        "history/*/dev/*.history.json",
        "backups/*/dev/*",
    ):
        assert len(numbers(kind)) == 2
    assert min(numbers("history/*/dev/*.checkpoint.json")) > max(first)
    assert "4" in pulumi(stack, "stack", "output", "size").stdout
    pulumi(stack, "stack", "history")
    pulumi(stack, "destroy", "--yes", "--skip-preview")
    stack.remove()
    assert [path for path in kept.rglob("*") if path.is_file() and "dev" in path.name] == []


def test_an_edit_while_pulumi_runs_is_kept(stack: Stack) -> None:
    stack.create()
    edited = CONFIG.replace("1", "3")
    (stack.file.parent / "__main__.py").write_text(
        PROGRAM + f"from pathlib import Path\nPath('Pulumi.dev.yaml').write_text({edited!r})\n"
    )
    pulumi(stack, "up", "--yes", "--skip-preview")
    assert stack.file.read_text() == edited

    # another command has run meanwhile, with the edit in its copy, before the next edit
    later = CONFIG.replace("1", "4")
    with stack._configured(read(["up"]), stack.file.parent):
        stack.file.write_text(CONFIG.replace("1", "5"))
        pulumi(stack, "config", "get", "small:size")
        stack.file.write_text(later)
    assert stack.file.read_text() == later


def test_an_edit_that_meets_one_of_pulumi_is_kept_and_said(stack: Stack) -> None:
    stack.create()
    edited = CONFIG.replace("1", "3")
    (stack.file.parent / "__main__.py").write_text(
        PROGRAM + f"from pathlib import Path\nPath('Pulumi.dev.yaml').write_text({edited!r})\n"
    )
    with pytest.raises(Problem, match=r"Pulumi.dev.yaml was edited while pulumi changed it"):
        pulumi(stack, "up", "--yes", "--skip-preview", "-c", "small:size=2")
    assert stack.file.read_text() == edited
    assert pulumi(stack, "stack", "output", "size").stdout.strip() == "2"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--non-interactive", "config", "set"),
        ("--color", "never", "config", "set"),
        ("-v", "1", "config", "--stack=dev", "set"),
        ("-C", ".", "config", "set"),
        ("--stack", "dev", "config", "set"),
    ],
)
def test_the_salt_stays_out_of_the_checkout_wherever_the_verb_stands(
    stack: Stack, arguments: tuple[str, ...]
) -> None:
    stack.create()
    pulumi(stack, *arguments, "--secret", "small:hidden", "--", "-5")
    text = yaml.safe_load(stack.file.read_text())
    assert text.keys() == {"config"}
    assert text["config"]["small:hidden"].keys() == {"secure"}
    assert pulumi(stack, "config", "get", "small:hidden").stdout.strip() == "-5"


def test_a_configuration_file_of_the_person_s_own_wins(stack: Stack, tmp_path: Path) -> None:
    stack.create()
    own = tmp_path / "own.yaml"
    own.write_text(CONFIG.replace("1", "7"))
    for arguments in ((f"--config-file={own}",), ("--config-file", str(own))):
        done = pulumi(stack, "config", *arguments, "get", "small:size")
        assert done.stdout.strip() == "7"
    assert stack.file.read_text() == CONFIG


def test_an_agent_that_does_not_answer_is_left_out(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    assert "SSH_AUTH_SOCK" not in stack.environment()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.bind(str(path))
        agent.listen()
        assert stack.environment()["SSH_AUTH_SOCK"] == str(path)
    assert "SSH_AUTH_SOCK" not in stack.environment(), "it has ended and left its socket"


@pytest.mark.parametrize("url", ["gs://states", "azblob://states"])
def test_a_backend_that_a_built_pulumi_cannot_reach_is_one_sentence(
    url: str, tmp_path: Path, paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", url)
    choice = Choice("pulumi", "3.259.0", "built", "")
    tools = Toolchain(tmp_path / "pulumi", tmp_path, tmp_path / "home", (choice,))
    with pytest.raises(Problem, match=r"cannot reach .*: install an official Pulumi 3\.259\.0"):
        Stack("dev", paths, tools).environment()
    installed = replace(tools, choices=(replace(choice, origin="installed"),))
    assert Stack("dev", paths, installed).environment()["PULUMI_BACKEND_URL"] == url
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://states")
    assert Stack("dev", paths, tools).environment()["PULUMI_BACKEND_URL"] == "s3://states"
