"""A machine that answers over SSH: this computer, with another /etc and more programs."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.access import Access, MachineAccess
from tests.engine.sshd import Sshd

ENTER = """\
#!/bin/sh
exec unshare --mount --propagation private sh -c '
mount -t overlay overlay -o lowerdir={root}/etc:/etc /etc || exit
PATH={programs}:$PATH exec sh -c "$SSH_ORIGINAL_COMMAND"'
"""


@contextmanager
def answering(folder: Path, root: Path, programs: Path) -> Iterator[Sshd]:
    """A server whose commands see the files of ``root``/etc in /etc. Needs root."""
    server = Sshd.prepare(folder, "INFO")
    enter = folder / "enter"
    enter.write_text(ENTER.format(root=root, programs=programs))
    enter.chmod(0o755)
    with (folder / "sshd_config").open("a") as file:
        file.write(f"ForceCommand {enter}\n")
    server.start()
    try:
        yield server
    finally:
        server.stop()


def access(kubeconfig: str | None = None, **servers: Sshd) -> Access:
    """What opens these machines, which all take the key of the first."""
    first = next(iter(servers.values()))
    return Access(
        machines={name: machine(server) for name, server in servers.items()},
        ssh_key=(first.directory / "client_key").read_text(),
        kubeconfig=kubeconfig,
    )


def machine(server: Sshd) -> MachineAccess:
    public = (server.directory / "host_key.pub").read_text()
    return MachineAccess(
        address="127.0.0.1",
        port=server.port,
        user=getpass.getuser(),
        host_key=" ".join(public.split()[:2]),
    )
