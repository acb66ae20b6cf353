"""A machine in a container that answers over SSH on this computer's loopback interface.

A container has no network of its own: for each connection an sshd starts in it, as inetd does.
"""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from probe.access import MachineAccess
from tests.engine.sshd import make_key
from tests.plan.container import Container

CONFIGURATION = """\
HostKey /etc/ssh/test_host_key
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
LogLevel ERROR
Subsystem sftp internal-sftp
"""

START = "mkdir -p /run/sshd && exec /usr/sbin/sshd -i -f /etc/ssh/test_config"


@dataclass(frozen=True)
class AnsweringMachine:
    """The port on this computer's loopback that leads to the machine's sshd."""

    container: Container
    port: int
    host_key: str
    """The public key."""

    def access(self, user: str = "root") -> MachineAccess:
        return MachineAccess(address="127.0.0.1", port=self.port, user=user, host_key=self.host_key)

    def let_in(self, user: str, public_key: str) -> None:
        """Write a person's key into the user's authorized_keys."""
        home = self.container.call("getent", "passwd", user).split(":")[5]
        self.container.write(f"{home}/.ssh/authorized_keys", f"{public_key}\n", 0o600)
        self.container.call("chown", "-R", f"{user}:", f"{home}/.ssh")
        self.container.call("chmod", "0700", f"{home}/.ssh")


@contextmanager
def answering(
    container: Container, folder: Path, *, namespaces: tuple[str, ...] = ("--all",)
) -> Iterator[AnsweringMachine]:
    """The machine, while it answers. Its host key is made in the folder.

    ``namespaces`` are options of nsenter(1).
    """
    key = make_key(folder / f"host-{container.name}")
    container.write("/etc/ssh/test_host_key", key.read_text(), 0o600)
    container.write("/etc/ssh/test_config", CONFIGURATION)
    # The machine's own server fails without a host key, and its end takes /run/sshd away.
    container.call("systemctl", "mask", "--runtime", "--now", "ssh.service", "ssh.socket")
    kind, public, *_ = Path(f"{key}.pub").read_text().split()
    children: list[subprocess.Popen[bytes]] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):  # the socket is closed at the end
                while True:
                    connection, _ = server.accept()
                    with connection:
                        children.append(_sshd(container, connection, namespaces))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield AnsweringMachine(container, server.getsockname()[1], f"{kind} {public}")
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for child in children:
                child.kill()
                child.wait()


def _sshd(
    container: Container, connection: socket.socket, namespaces: tuple[str, ...]
) -> subprocess.Popen[bytes]:
    enter = ["nsenter", "--target", str(container.leader), *namespaces, "--"]
    return subprocess.Popen(
        [*enter, "sh", "-c", START],
        stdin=connection.fileno(),
        stdout=connection.fileno(),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
