"""A machine that answers over SSH: this computer, with another /etc and more programs."""

import getpass
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from probe.access import Access, MachineAccess, SshServer
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


DATE = """\
#!/bin/sh
echo $(($(/bin/date +%s) + {seconds})).5
"""


@contextmanager
def with_clocks(folder: Path, **ahead: int) -> Iterator[Access]:
    """Machines whose ``date`` is so many seconds ahead of this computer's."""
    with ExitStack() as stack:
        servers = {}
        for name, seconds in ahead.items():
            root, programs = folder / name / "root", folder / name / "bin"
            (root / "etc").mkdir(parents=True)
            programs.mkdir()
            date = programs / "date"
            date.write_text(DATE.format(seconds=seconds))
            date.chmod(0o755)
            servers[name] = stack.enter_context(answering(folder / name / "sshd", root, programs))
            one_key(servers)
        yield access(None, **servers)


def one_key(servers: Mapping[str, Sshd]) -> None:
    """One key opens all machines of a stack."""
    first, *others = servers.values()
    for server in others:
        for half in ("client_key", "client_key.pub"):
            (server.directory / half).write_text((first.directory / half).read_text())


def access(kubeconfig: str | None = None, **servers: Sshd) -> Access:
    """What opens these machines, which all take the key of the first."""
    first = next(iter(servers.values()))
    return Access(
        machines={name: machine(server) for name, server in servers.items()},
        ssh_key=(first.directory / "client_key").read_text(),
        kubeconfig=kubeconfig,
    )


def machine(server: Sshd) -> MachineAccess:
    return MachineAccess(**vars(jump_host(server)))


def jump_host(server: Sshd) -> SshServer:
    public = (server.directory / "host_key.pub").read_text()
    return SshServer(
        address="127.0.0.1",
        port=server.port,
        user=getpass.getuser(),
        host_key=" ".join(public.split()[:2]),
    )


def behind(server: Sshd, bastion: Sshd) -> Access:
    """A machine that is reached through another server, which takes the same key."""
    one_key({"machine": server, "bastion": bastion})
    opened = access(m1=server)
    through = replace(opened.machines["m1"], bastion=jump_host(bastion))
    return replace(opened, machines={"m1": through})
