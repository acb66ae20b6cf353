"""The only module that makes a ``remote.Command``."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

import pulumi
import pulumi_command as command

SHELL = "timeout -k 10 {seconds} bash -euo pipefail -s"
"""The script comes by ``stdin``, so that a preview can show its changed lines."""

BOOT_DIALS = 240
"""Dial attempts while a machine boots: about 20 minutes, since the back-off is capped at 5 s."""

LATER_DIALS = 30
"""Dial attempts for a machine that has answered before: two minutes, the longest restart."""

DIAL, PAUSE = 30, 5
"""The time limit of one dial attempt and the longest pause before the next, both in seconds. An
idle emulated machine needs two seconds for the SSH handshake."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """How to log in as root: with a private key, and only if the machine has this host key."""

    address: IPv4Address
    private_key: pulumi.Input[str]
    host_key: pulumi.Input[str]


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
    script: pulumi.Input[str],
    *,
    seconds: int,
    login: Login,
    machine: pulumi.CustomResource,
    parent: pulumi.Resource,
    after: Sequence[pulumi.Resource] = (),
    dials: int = LATER_DIALS,
    secret: bool = False,
) -> command.remote.Command:
    """Run a script on a machine, and again whenever the script changes.

    ``timeout`` ends the script after ``seconds``. Deletion runs no command: the effects of a script
    vanish with its machine (``deleted_with``). A new machine runs the script again:
    ``replacement_trigger`` acts both where a machine is replaced and where a lost machine is
    created again, whereas ``replace_with`` acts only on the former. The text and the output of a
    secret script are neither logged nor stored unencrypted.
    """
    # ``seconds`` of a step is the sum of the hard limits of its waits. The engine's limit is
    # longer, so that the step's own limits end it and not the engine.
    limit = f"{seconds + (dials + 1) * (DIAL + PAUSE) + 60}s"
    return command.remote.Command(
        name,
        connection=command.remote.ConnectionArgs(
            host=str(login.address),
            user="root",
            private_key=login.private_key,
            host_key=login.host_key,
            dial_error_limit=dials,
            per_dial_timeout=DIAL,
        ),
        create=SHELL.format(seconds=seconds),
        stdin=pulumi.Output.secret(script) if secret else script,
        logging=command.remote.Logging.NONE if secret else None,
        add_previous_output_in_env=False,
        opts=pulumi.ResourceOptions(
            parent=parent,
            deleted_with=machine,
            replacement_trigger=machine.id,
            depends_on=[machine, *after],
            additional_secret_outputs=["stdout", "stderr"] if secret else None,
            custom_timeouts=pulumi.CustomTimeouts(create=limit, update=limit, delete="1m"),
        ),
    )
