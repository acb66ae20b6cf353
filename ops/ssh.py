"""``./hardway ssh NODE``: OpenSSH, with the stack's key and the machine's expected host key."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from lab.paths import LabPaths, lab_paths
from lab.problem import Problem
from ops.private import private_folder, write_private
from ops.reach import reach
from ops.stacks import StackOption
from probe.access import Access, SshServer

OPTIONS = {
    "BatchMode": "yes",
    "CheckHostIP": "no",
    "ConnectTimeout": "30",
    "GlobalKnownHostsFile": "none",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
}
"""Options that exclude the user's own settings, keys and known hosts (ssh_config(5))."""

SIGNALLED = 128
"""The exit code of a program that a signal ended is this plus the signal's number, as in shells."""


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster")(ssh)


def ssh(
    node: Annotated[str, typer.Argument(help="The machine's name.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(help="What to run there, after `--`; else you get a shell."),
    ] = None,
    stack: StackOption = "dev",
) -> None:
    """Log in to a machine: `./hardway ssh master`, or run a command there and come back.

    You are root there; on a machine that exists already you are the user whom the stack names.

    As with ssh itself, the words of a command are joined by spaces and read by the machine's shell:
    `./hardway ssh master -- journalctl -u kubelet`. The exit code is the command's. The cluster
    need not be ready.

    Examples: `./hardway ssh minion1`, `./hardway ssh master -- systemctl --failed`
    """
    access = reach(stack).access
    if node not in access.machines:
        raise Problem(
            f"the stack '{stack}' has no machine '{node}'",
            f"name one of {', '.join(sorted(access.machines))}",
        )
    raise typer.Exit(session(access, node, command or (), lab_paths()))


def session(access: Access, node: str, command: Sequence[str], paths: LabPaths) -> int:
    """Run ssh on this process's terminal until it ends; return the exit code for this process."""
    program = shutil.which("ssh")
    if program is None:
        raise Problem("the program ssh is missing", "install the package openssh-client")
    machine = access.machines[node]
    with private_folder(paths, "ssh") as folder:
        write_private(folder / "key", access.ssh_key)
        write_private(folder / "known_hosts", f"{node} {machine.host_key}\n")
        own = []
        if machine.bastion is not None:
            alias = f"jump-host-of-{node}"
            with (folder / "known_hosts").open("a") as known:
                known.write(f"{alias} {machine.bastion.host_key}\n")
            through = _ssh(program, folder, alias, machine.bastion, "-W", "%h:%p")
            own.append(f"-oProxyCommand={shlex.join(through)}")
        child = subprocess.Popen([*_ssh(program, folder, node, machine, *own), *command])
        try:
            status = child.wait()
        except BaseException:
            child.terminate()  # on SIGTERM ssh restores the terminal's settings
            with suppress(subprocess.TimeoutExpired):
                child.wait(5)
            child.kill()
            child.wait()
            raise
    return status if status >= 0 else SIGNALLED - status


def _ssh(program: str, folder: Path, alias: str, server: SshServer, *own: str) -> list[str]:
    """The arguments that log in to a server, whose host key is known under the alias."""
    options = {
        **OPTIONS,
        "HostKeyAlias": alias,
        "IdentityFile": folder / "key",
        "UserKnownHostsFile": folder / "known_hosts",
    }
    ssh = [program, "-F", "none", *(f"-o{key}={value}" for key, value in options.items()), *own]
    return [*ssh, "-p", str(server.port), "-l", server.user, "--", server.address]
