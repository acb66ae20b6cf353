"""A real OpenSSH server on the loopback interface, one process of its own per test."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from tests.engine.stack import PATIENCE, eventually
from tests.ports import free_port

CONFIGURATION = """\
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/client_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AcceptEnv {accepted}
SetEnv SHLVL=1
MaxStartups 100
LogLevel {log_level}
Subsystem sftp internal-sftp
"""
"""A bash that is not the first one leaves ~/.bashrc alone: what a person has there is not of the
tests, and may have no two sessions at the same time."""

ACCEPTED = ("COLOUR", "TOKEN", "PULUMI_COMMAND_STDOUT", "PULUMI_COMMAND_STDERR")
"""The environment variables that the server takes from a client; no other."""

PROGRAM = shutil.which("sshd", path="/usr/sbin:/sbin") or "/usr/sbin/sshd"


@dataclass
class Sshd:
    """A server that lets in whoever has ``client_key``; it need not run yet."""

    directory: Path
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @classmethod
    def prepare(cls, directory: Path, log_level: str) -> "Sshd":
        """Make keys and configuration, and choose a free port."""
        directory.mkdir()
        for name in ("host_key", "client_key"):
            make_key(directory / name)
        port = free_port()
        text = CONFIGURATION.format(
            port=port, directory=directory, accepted=" ".join(ACCEPTED), log_level=log_level
        )
        (directory / "sshd_config").write_text(text)
        return cls(directory, port)

    @property
    def pid(self) -> int:
        """The process that listens; it has one child for each connection."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.directory / "host_key.pub")

    def connection(self, **changes: object) -> dict[str, object]:
        """The fields of ``ConnectionArgs`` that log in here at the first attempt or not at all."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "private_key": (self.directory / "client_key").read_text(),
            "host_key": (self.directory / "host_key.pub").read_text(),
            "dial_error_limit": 0,
        } | changes

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def start(self) -> None:
        """Run the server in the foreground and wait until it answers."""
        make_privilege_separation_directory()
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-D", "-e", "-f", self.directory / "sshd_config"],
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        eventually("sshd listens", self._listens)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End the server, and what a failed test has left running under it."""
        if self._process is None or self._process.poll() is not None:
            return
        left = descendants(self._process.pid)
        self._process.terminate()
        self._process.wait(PATIENCE)
        for pid in left:
            if pid_runs(pid):
                os.kill(pid, signal.SIGKILL)


def make_key(path: Path) -> Path:
    """Make a key pair; the public half is beside the private one, with ``.pub``."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True
    )
    return path


def fingerprint(public_key: Path) -> str:
    line = subprocess.check_output(["ssh-keygen", "-l", "-f", public_key], text=True)
    return line.split()[1]


def pid_runs(pid: int) -> bool:
    """Whether the process is there and has not ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [process for child in map(int, children) for process in (child, *descendants(child))]


@pytest.fixture(scope="session")
def privilege_separation_directory() -> None:
    """The directory that sshd demands when root starts it; ``tests/conftest.py`` removes it."""
    make_privilege_separation_directory()


def make_privilege_separation_directory() -> None:
    """Make it again, too: other tests of this computer, which end meanwhile, remove theirs."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)


class MakeSshd(Protocol):
    """Prepares a server; with ``DEBUG1`` it logs forwarding, and into the commands' stderr."""

    def __call__(self, log_level: str = "INFO") -> Sshd: ...


@pytest.fixture
def make_sshd(tmp_path: Path, privilege_separation_directory: None) -> Iterator[MakeSshd]:
    """Prepare servers, each with keys and a port of its own; the test starts them."""
    made: list[Sshd] = []

    def make(log_level: str = "INFO") -> Sshd:
        made.append(Sshd.prepare(tmp_path / f"sshd{len(made)}", log_level))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def sshd(make_sshd: MakeSshd) -> Sshd:
    server = make_sshd()
    server.start()
    return server
