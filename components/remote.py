"""The one place that makes a ``remote.Command``."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

import pulumi
import pulumi_command as command

SHELL = "timeout -k 10 {seconds} bash -euo pipefail -s"
"""The script goes in by ``stdin``: a preview shows its changed lines."""

BOOT_DIALS = 240
"""Dial attempts while a machine boots: about 20 minutes, since the back-off is capped at 5 s."""

LATER_DIALS = 30
"""Where the machine has answered before: two minutes, which a restart takes at most."""

DIAL, PAUSE = 30, 5
"""Seconds for an attempt, of which a quiet emulated machine needs two to shake hands, and at most
until the next one."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """How to reach a machine: as root, by key, and only if it shows the expected host key."""

    address: IPv4Address
    private_key: pulumi.Input[str]
    host_key: pulumi.Input[str]


def provider() -> command.Provider:
    """The provider of all remote commands, for the ``providers`` of the component above them.

    The engine deletes what was replaced together with a machine before it loads a default provider
    ("unknown provider", Pulumi 3.259); an explicit provider is there first. Under its alias it is
    the default provider of stacks that were made before, whose commands stay as they are.
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
    """Run a script on a machine, again whenever it changes; it is ended after ``seconds``.

    Nothing is run on deletion: what a script left dies with its machine (``deleted_with``). On
    another machine it is run anew: ``replacement_trigger`` holds where a machine is replaced and
    where a lost one is created, of which ``replace_with`` knows the first alone. Of a secret script
    neither its text nor what it prints is logged or kept in the clear.
    """
    # A step's limit is the sum of its waits' hard ones: they decide, and not the engine.
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
