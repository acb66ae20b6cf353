"""A machine with a life of its own, the steps that a cluster brings to it, and a list of all."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plan import library, render
from plan.model import Certificate, Directory, File, Link, SecretFile, Step, Unit
from tests.engine.sshd import make_key
from tests.hypervisors.answering import AnsweringMachine, answering
from tests.plan.container import Container

PLACES = ("/etc", "/opt", "/srv", "/home", "/root", "/usr/local", "/var/lib", "/var/log")
CHANGING = (
    "/var/log/journal",
    "/var/log/",
    "/var/lib/systemd",
    "/var/lib/dpkg",
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/test",
    "/etc/.updated",
)
"""What the machine itself writes: logs, and the copies that the programs for users keep."""
COMPARED_OTHERWISE = ("/passwd", "/shadow", "/.sudo_as_admin_successful")

SERVICE = Unit(
    name="x.service", description="x", program="/bin/sleep", arguments=("infinity",), type="exec"
)
THEIRS = "[Service]\nExecStart=/bin/sleep 1234567\n[Install]\nWantedBy=multi-user.target\n"
BESIDE = "[Service]\nEnvironment=OF=THEIRS\n"
OWN = replace(SERVICE, name="theirs.service")

READY = Step(
    name="ready",
    begin="ready",
    settings={
        "disk": "",
        "power_button": "",
        "api_name": "",
        "name_servers": "192.0.2.53",
        **dict.fromkeys(("packet_size", "http_proxy", "https_proxy", "no_proxy"), ""),
        "steps": "ready role",
    },
    files=(File(path="/etc/resolv.conf", content="nameserver 192.0.2.53\n", mode=0o644),),
)
ROLE = Step(
    name="role",
    users=("member-of-x",),
    directories=(Directory(path="/etc/x", mode=0o700), Directory(path="/srv/theirs", mode=0o711)),
    files=(File(path="/etc/x/y/conf", content="a\n"), File(path="/etc/theirs", content="ours\n")),
    secret_files=(SecretFile(path="/etc/x/key", source=Certificate("x")),),
    links=(Link(path="/usr/local/bin/x", target="/bin/true"),),
    units=(SERVICE, OWN),
    masked=("masked.service",),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's home with a key."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    make_key(folder / ".ssh" / "id_ed25519")
    monkeypatch.setenv("HOME", os.fspath(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


def with_history(container: Container) -> None:
    """A machine with a life of its own."""
    container.call("useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", "admin")
    container.write("/etc/sudoers.d/admin", "admin ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440)
    container.call("rm", "-rf", f"{library.PLACE}")
    container.write("/etc/theirs", "theirs\n", 0o640)
    container.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    container.call("install", "-d", "-m", "0755", "/srv/theirs")
    for path in ("/etc/systemd/system/theirs.service", "/usr/lib/systemd/system/masked.service"):
        container.write(path, THEIRS)
        container.write(f"/etc/systemd/system/{Path(path).name}.d/own.conf", BESIDE, 0o640)
        container.call("systemctl", "enable", "--now", Path(path).name)


@pytest.fixture
def machine(
    new_machine: Callable[..., Container], home: Path, tmp_path: Path
) -> Iterator[AnsweringMachine]:
    container = new_machine()
    with_history(container)
    with answering(container, tmp_path) as machine:
        machine.let_in("admin", (home / ".ssh/id_ed25519.pub").read_text().strip())
        yield machine


def listing(container: Container) -> dict[str, str]:
    """All that outlasts a reboot, with the states of the machine's own services."""
    files = {
        path: state
        for path, state in container.snapshot(*PLACES).items()
        if not path.startswith(CHANGING) and not path.endswith(COMPARED_OTHERWISE)
    }
    states = container.shown("theirs.service", "masked.service")
    return {
        **files,
        "users": container.call("getent", "passwd"),
        "groups": container.call("getent", "group"),
        "packages": container.call("dpkg-query", "--show"),
        "enabled": container.call("systemctl", "list-unit-files", "--state=enabled,masked"),
        **{f"{unit['Id']} is": unit["ActiveState"] for unit in states},
        "runs": container.call(
            "systemctl", "show", "theirs.service", "--property=ExecStart", "--value"
        ).split(";")[1],
    }


def bring(container: Container) -> None:
    assert container.run(library.laid_down()).returncode == 0
    for step in (READY, ROLE):
        done = container.run(render.text(step, lambda _: "secret\n"))
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


def differing(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str | None, ...]]:
    pairs = {key: (before.get(key), after.get(key)) for key in before.keys() | after.keys()}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
