"""``./hardway ssh`` against a real OpenSSH server."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from certs.ssh import new_key_pair
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from ops import ssh
from ops.reach import Reached
from probe.access import Access
from tests.engine.sshd import MakeSshd, Sshd, make_sshd, privilege_separation_directory, sshd
from tests.engine.stack import PATIENCE, eventually
from tests.probe.machine import access, behind

__all__ = ["make_sshd", "privilege_separation_directory", "sshd"]

pytestmark = pytest.mark.engine


@pytest.fixture
def opened(sshd: Sshd) -> Access:
    return access(master=sshd)


def left(paths: LabPaths) -> list[Path]:
    return list(paths.state.rglob("*"))


def test_a_command_runs_there_with_our_streams_and_its_exit_code(
    opened: Access, paths: LabPaths, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["echo", "$SSH_CONNECTION", ";", "echo wrong >&2", ";", "exit", "7"]
    assert ssh.session(opened, "master", command, paths) == 7
    printed = capfd.readouterr()
    assert printed.out.split()[2:] == ["127.0.0.1", str(opened.machines["master"].port)]
    assert printed.err == "wrong\n"
    assert left(paths) == []


def test_a_machine_behind_a_jump_host_is_reached_through_it(
    make_sshd: MakeSshd, paths: LabPaths, capfd: pytest.CaptureFixture[str]
) -> None:
    machine, bastion = make_sshd(), make_sshd("DEBUG1")
    opened = behind(machine, bastion)
    machine.start()
    bastion.start()
    assert ssh.session(opened, "m1", ["echo", "through"], paths) == 0
    assert capfd.readouterr().out == "through\n"
    assert f"127.0.0.1 port {machine.port}" in bastion.log()
    assert left(paths) == []


def test_another_host_key_is_refused_whatever_the_person_knows(
    opened: Access, paths: LabPaths, capfd: pytest.CaptureFixture[str]
) -> None:
    impostor = replace(opened.machines["master"], host_key=new_key_pair().public)
    status = ssh.session(replace(opened, machines={"master": impostor}), "master", ["true"], paths)
    assert status == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in capfd.readouterr().err
    assert left(paths) == []


def test_the_key_is_for_its_owner_alone_and_gone_when_ssh_is_ended(
    opened: Access, paths: LabPaths, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    code = f"""
import json, os, signal
from pathlib import Path
from lab.paths import lab_paths
from ops import ssh
from ops.__main__ import _interrupted
from probe.access import Access, MachineAccess
told = json.loads(os.environ["TOLD"])
opened = Access(machines={{"m": MachineAccess(**told["machine"])}}, ssh_key=told["key"])
signal.signal(signal.SIGTERM, _interrupted)
ssh.session(opened, "m", ["touch {seen}; sleep 600"], lab_paths())
"""
    import json

    values = {"machine": vars(opened.machines["master"]), "key": opened.ssh_key}
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "TOLD": json.dumps(values)},
        cwd=PROJECT,
        stderr=subprocess.DEVNULL,
    )
    eventually("it is there", lambda: seen.exists() or child.poll() is not None)
    files = {path.name: path.stat().st_mode & 0o777 for path in left(paths)}
    assert {name: mode for name, mode in files.items() if name in ("key", "known_hosts")} == {
        "key": 0o600,
        "known_hosts": 0o600,
    }
    assert sum(mode == 0o700 for mode in files.values()) == 2
    child.send_signal(signal.SIGTERM)
    assert child.wait(PATIENCE) != 0
    assert left(paths) == []


def test_what_a_killed_run_left_is_swept(opened: Access, paths: LabPaths) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (paths.state / "ssh" / f"{dead.pid}-x").mkdir(parents=True)
    (paths.state / "ssh" / f"{dead.pid}-x" / "key").write_text("key")
    (paths.state / "ssh" / f"{os.getpid()}-y").mkdir()
    assert ssh.session(opened, "master", ["true"], paths) == 0
    assert [path.name for path in left(paths)] == ["ssh", f"{os.getpid()}-y"]


def test_an_unknown_machine_is_refused_with_those_there_are(
    opened: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(stack: str) -> Reached:
        return Reached(spec=None, access=opened, stack=None)  # type: ignore[arg-type]

    monkeypatch.setattr(ssh, "reach", reached)
    app = typer.Typer()
    ssh.register(app)
    failed = CliRunner().invoke(app, ["nosuch", "--stack", "dev", "--", "ls", "-l"])
    assert isinstance(failed.exception, Problem)
    assert "name one of master" in str(failed.exception)
    done = CliRunner().invoke(app, ["master", "--", "exit", "3"])
    assert done.exit_code == 3
