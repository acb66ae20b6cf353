"""The only module that makes a ``remote.Command`` or a ``remote.CopyToRemote``."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pulumi
import pulumi_command as command

from plan import library
from probe.sudo import ROOT, as_root
from spec.hypervisor import LoginSettings

BOOT_DIALS = 240
"""Dial attempts while a machine boots: about 20 minutes, since the back-off is capped at 5 s."""

LATER_DIALS = 30
"""Dial attempts for a machine that has answered before: two minutes, the longest restart."""

DIAL, PAUSE = 30, 5
"""The time limit of one dial attempt and the longest pause before the next, both in seconds. An
idle emulated machine needs two seconds for the SSH handshake."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """How to log in: with a private key, and only if the machine has this host key."""

    address: IPv4Address
    private_key: pulumi.Input[str]
    host_key: pulumi.Input[str]
    settings: LoginSettings = field(default_factory=LoginSettings)


def provider() -> command.Provider:
    """The provider of all remote commands, for the ``providers`` of their parent component.

    When a machine is replaced, the engine deletes the machine's old commands before it loads a
    default provider ("unknown provider", Pulumi 3.259); an explicit provider is loaded earlier. The
    alias makes this provider the successor of the default provider in older stacks, so that their
    commands stay unchanged.
    """
    return command.Provider(
        "command", opts=pulumi.ResourceOptions(aliases=[pulumi.Alias(name="default_1_2_1")])
    )


def remote_command(
    name: str,
    line: str,
    data: pulumi.Input[str],
    *,
    seconds: int,
    login: Login,
    machine: pulumi.CustomResource,
    parent: pulumi.Resource,
    after: Sequence[pulumi.Input[pulumi.Resource]] = (),
    secret: bool = False,
    leaving: str | None = None,
) -> command.remote.Command:
    """Run a command line on a machine, with its data, and again whenever one of them changes.

    It runs as root, whoever logs in. The data come by standard input, so that a preview can show
    their changed lines. The line ends the command after ``seconds``. Deletion runs the command
    line ``leaving`` on a machine that stays; with its machine the effects of a step vanish
    (``deleted_with``). A new machine runs the step again: ``replacement_trigger`` acts both where a
    machine is replaced and where a lost machine is created again, whereas ``replace_with`` acts
    only on the former. Secret data and the output that they lead to are neither logged nor stored
    unencrypted.
    """
    # ``seconds`` of a step is the sum of the hard limits of its waits. The engine's limit is
    # longer, so that the step's own limits end it and not the engine.
    limit = seconds + _dialling(LATER_DIALS)
    return command.remote.Command(
        name,
        connection=_connection(login, LATER_DIALS),
        create=as_root(login.settings.user, line),
        delete=as_root(login.settings.user, leaving) if leaving else None,
        stdin=pulumi.Output.secret(data) if secret else data,
        logging=command.remote.Logging.NONE if secret else None,
        add_previous_output_in_env=False,
        opts=_with_machine(
            machine,
            parent,
            after,
            limit,
            additional_secret_outputs=["stdout", "stderr"] if secret else None,
            leaves=leaving is not None,
        ),
    )


def copied_scripts(
    name: str, *, login: Login, machine: pulumi.CustomResource, parent: pulumi.Resource
) -> pulumi.CustomResource:
    """Copy the scripts of all steps to a machine, and again whenever one of them changes.

    This is the first login of a machine, so it waits until the machine has booted. The state keeps
    the digest of the scripts, and their path as seen from the program. A user other than root may
    not write to the directory of the scripts: there a command of root's writes them, and the state
    keeps their text.
    """
    opts = _with_machine(machine, parent, (), _dialling(BOOT_DIALS))
    if login.settings.user == ROOT:
        return command.remote.CopyToRemote(
            name,
            connection=_connection(login, BOOT_DIALS),
            source=pulumi.FileArchive(os.path.relpath(library.FOLDER)),
            remote_path=library.PLACE,
            opts=opts,
        )
    return command.remote.Command(
        name,
        connection=_connection(login, BOOT_DIALS),
        create=as_root(login.settings.user, library.LAY_DOWN),
        stdin=library.laid_down(),
        add_previous_output_in_env=False,
        opts=opts,
    )


def _connection(login: Login, dials: int) -> command.remote.ConnectionArgs:
    return command.remote.ConnectionArgs(
        host=str(login.address),
        port=None if login.settings.port == LoginSettings.port else login.settings.port,
        user=login.settings.user,
        private_key=login.private_key,
        host_key=login.host_key,
        dial_error_limit=dials,
        per_dial_timeout=DIAL,
        proxy=_proxy(login, dials),
    )


def _proxy(login: Login, dials: int) -> command.remote.ProxyConnectionArgs | None:
    """The connection to the jump host, which lets the same key in."""
    bastion = login.settings.bastion
    if bastion is None:
        return None
    return command.remote.ProxyConnectionArgs(
        host=str(bastion.address),
        port=bastion.port,
        user=bastion.user,
        private_key=login.private_key,
        host_key=bastion.host_key,
        dial_error_limit=dials,
        per_dial_timeout=DIAL,
    )


def _dialling(dials: int) -> int:
    """The longest time that a login takes, in seconds, and a minute more."""
    return (dials + 1) * (DIAL + PAUSE) + 60


def _with_machine(
    machine: pulumi.CustomResource,
    parent: pulumi.Resource,
    after: Sequence[pulumi.Input[pulumi.Resource]],
    seconds: int,
    additional_secret_outputs: list[str] | None = None,
    leaves: bool = False,
) -> pulumi.ResourceOptions:
    """The options of a resource whose effects vanish with a machine."""
    limit = f"{seconds}s"
    return pulumi.ResourceOptions(
        parent=parent,
        deleted_with=machine,
        replacement_trigger=machine.id,
        depends_on=[machine, *after],
        additional_secret_outputs=additional_secret_outputs,
        custom_timeouts=pulumi.CustomTimeouts(
            create=limit, update=limit, delete=limit if leaves else "1m"
        ),
    )
