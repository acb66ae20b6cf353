"""Refuses numbers of authorities and SSH keys to which no single update leads."""

import json
from typing import Any

from lab.problem import Problem
from lab.stack import Stack
from spec.change import refused_numbers, refused_ssh_keys
from spec.cluster import Cluster
from spec.description import FIRST, AuthorityNumbers


def demand_numbers(stack: Stack, cluster: Cluster) -> None:
    """Raise a Problem where no update leads to the spec's numbers from those of the last one.

    The spec that the state keeps does not tell: it is that of an update that may have failed, and
    some machines may not trust what others would begin to sign with, or not let in the key with
    which the program would log in.
    """
    if not (outputs := outputs_of_stack(stack)):
        return
    refusals = [*refused_ssh_keys(outputs.get("ssh_keys", FIRST), cluster)]
    if cluster.authorities is not None:
        ended = AuthorityNumbers.model_validate(outputs.get("authorities", {}))
        refusals += refused_numbers(ended, cluster.authorities)
    for refusal in refusals:
        raise Problem(
            f"since the last update that ended, {refusal.field} {refusal.wrong}: {refusal.breaks}",
            refusal.instead,
        )


def outputs_of_stack(stack: Stack) -> dict[str, Any]:
    """The outputs of the last update that ended, without secrets; empty where there are none."""
    done = stack.pulumi("stack", "output", "--json", capture=True)
    if done.returncode != 0:
        return {}
    value: dict[str, Any] = json.loads(done.stdout)
    return value
