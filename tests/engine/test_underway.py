"""How an update is shown while it runs, by the real engine."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from components import status
from lab.paths import LabPaths
from lab.stack import Stack as LabStack
from lab.stack import offer_path
from lab.toolchain import Toolchain
from ops import underway
from ops.events import kept_events
from spec.cluster import ArtifactSource
from spec.hypervisor import Libvirt
from spec.offer import Offer
from tests.engine.sshd import Sshd
from tests.engine.stack import EngineStack, eventually
from tests.plan.golden import golden_spec

pytestmark = pytest.mark.engine

CLUSTER = golden_spec("default")

PROGRAM = """
class Part(pulumi.ComponentResource):
    def __init__(self, name):
        super().__init__("hardway:index:Cluster", name)

def step(name, text, after=()):
    return remote.Command(name, connection=to("sshd"), create="bash -s", stdin=text,
        opts=ResourceOptions(parent=cluster, depends_on=after))

cluster = Part("dev")
ready = step("master-ready", "for n in 1 2 3; do echo until it boots $n; done; echo booted")
step("master-etcd", Path("etcd").read_text(), [ready])
pulumi.export("endpoint", "https://192.168.1.10:6443")
"""


@pytest.fixture
def events(tmp_path: Path) -> Path:
    return tmp_path / "events-dev.json"


def in_pipe(stack: EngineStack, events: Path, toolchain: Toolchain, paths: LabPaths) -> int:
    """An update as ``./hardway up`` runs it where there is no terminal."""
    lab = LabStack("dev", paths, toolchain)
    with (
        underway.shown(lab, CLUSTER, events) as shown,
        kept_events(events, pytest.fail, shown.see) as log,
    ):
        assert shown.each_line
        return stack.attended(
            "up", "--yes", "--skip-preview", *shown.options, "--event-log", str(log),
            each_line=shown.each_line,
        )  # fmt: skip


def test_in_a_pipe_there_is_a_line_for_each_step_and_pulumis_own_results(
    stack: EngineStack,
    sshd: Sshd,
    events: Path,
    toolchain: Toolchain,
    paths: LabPaths,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (stack.directory / "etcd").write_text("echo until it is healthy; echo well\n")
    stack.write(PROGRAM, sshd=sshd.connection())
    assert in_pipe(stack, events, toolchain, paths) == 0
    lines = capsys.readouterr().out.splitlines()
    steps = [line for line in lines if " of 20  " in line]
    assert [line.partition(" (")[0] for line in steps] == [
        " 1 of 20  master-ready: booted, 10 GiB, 20 artifacts",
        " 2 of 20  master-etcd: etcd 3.7.1, healthy",
    ]
    assert not [line for line in lines if "until" in line or "creating" in line or "..." in line]
    assert "    + 4 created" in lines
    assert any("endpoint" in line for line in lines)
    assert all(len(line) <= underway.WIDTH for line in steps)

    (stack.directory / "etcd").write_text("echo the reason >&2; exit 3\n")
    assert in_pipe(stack, events, toolchain, paths) != 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(" 1 of 20  master-etcd failed after ") for line in lines)
    assert any("the reason" in line for line in lines)
    assert not [line for line in lines if "updating (" in line]


@pytest.mark.usefixtures("own_plugin")
def test_at_a_terminal_the_stacks_row_says_how_far_it_is(
    stack: EngineStack, sshd: Sshd, tmp_path: Path
) -> None:
    shutil.copy(status.__file__, stack.directory / "status.py")
    line, seen = tmp_path / "line", tmp_path / "seen"
    (stack.directory / "etcd").write_text(f"until [ -e {seen} ]; do sleep 0.1; done\n")
    follow = f"from status import follow\n\nfollow(Path({str(line)!r}))\n"
    stack.write(follow + PROGRAM, sshd=sshd.connection())
    screen = stack.up_at_terminal(columns=100)
    eventually("the step runs", lambda: "creating (" in screen.row("master-etcd"))

    def shows(text: str) -> None:
        line.write_text(text)
        eventually("the row says it", lambda: text in screen.row("engine-test"))

    shows("1 of 20 steps, 31 s")
    shows("2 of 20 steps, 40 s")
    line.unlink()
    seen.touch()
    assert screen.wait() == 0, screen.text


def test_at_a_terminal_the_windows_title_and_the_program_are_told(
    toolchain: Toolchain,
    paths: LabPaths,
    events: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(underway, "is_terminal", lambda: True)
    paths.state.mkdir(parents=True, exist_ok=True)
    stack = LabStack("dev", paths, toolchain, extra={"KEPT": "1"})
    with underway.shown(stack, CLUSTER, events) as shown:
        assert (shown.options, shown.each_line) == ((), None)
        file = Path((shown.stack.extra or {})["HARDWAY_STATUS"])
        assert (shown.stack.extra or {})["KEPT"] == "1"
        eventually("the program is told", lambda: file.is_file())
        assert file.read_text().startswith("0 of 20 steps")
    assert "\x1b]0;dev: 0 of 20 steps" in capsys.readouterr().out
    assert not file.exists()


def test_the_offer_of_the_lab_tells_the_steps_of_a_stack_that_leaves_it_open(
    toolchain: Toolchain, paths: LabPaths, events: Path
) -> None:
    """The bytes of some artifacts are known by the lab alone; who has no offer is refused later."""
    open_one = CLUSTER.model_copy(update={"artifacts": ArtifactSource()})
    stack = LabStack("dev", paths, toolchain)
    with underway.shown(stack, open_one, events) as shown:
        assert shown.line().startswith("0 of 1 steps")
    libvirt = Libvirt(uri="qemu+unix:///system", image="base")
    offer = Offer(hypervisor=libvirt, artifacts=CLUSTER.artifacts)
    offer_path(paths, "dev").parent.mkdir(parents=True)
    offer_path(paths, "dev").write_text(offer.written())
    with underway.shown(stack, open_one, events) as shown:
        assert shown.line().startswith("0 of 20 steps")


@pytest.mark.parametrize(
    ("kind", "ended", "seconds"),
    [
        ("resOutputsEvent", True, 40),
        ("resOutputsEvent", False, None),
        ("resOpFailedEvent", True, None),
    ],
)
def test_the_time_of_the_last_update_that_changed_something_and_succeeded_is_kept(
    kind: str, ended: bool, seconds: float | None, toolchain: Toolchain, paths: LabPaths,
    events: Path,
) -> None:  # fmt: skip
    def event(kind: str, at: int, name: str, op: str, type_: str) -> dict[str, Any]:
        urn = f"urn:pulumi:dev::hardway::{type_}::{name}"
        return {"timestamp": at, kind: {"metadata": {"op": op, "urn": urn, "type": type_}}}

    command, top = "command:remote:Command", "pulumi:pulumi:Stack"
    changed = [
        event("resourcePreEvent", 100, "master-etcd", "update", command),
        event(kind, 140, "master-etcd", "update", command),
        *([event("resOutputsEvent", 141, "hardway-dev", "same", top)] if ended else []),
    ]
    same = [
        event("resourcePreEvent", 200, "master-etcd", "same", command),
        event("resOutputsEvent", 200, "master-etcd", "same", command),
        event("resOutputsEvent", 201, "hardway-dev", "same", top),
    ]
    lab = LabStack("dev", paths, toolchain)
    for log in (changed, same):
        events.write_text("".join(f"{json.dumps(event)}\n" for event in log))
        with underway.shown(lab, CLUSTER, events) as shown:
            line = shown.line()
    assert (f"(last time {seconds} s)" in line) == (seconds is not None)
    assert ("last time" in line) == (seconds is not None)
