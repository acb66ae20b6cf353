"""Checks where backups go and how often they are made."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from spec.backup import seconds
from spec.checks.addresses import is_own_name, reserved
from spec.checks.networks import SPECIAL
from spec.checks.places import is_public_key
from spec.description import Description
from spec.names import is_address, is_dns_name
from spec.refusal import Refusal, shown

SHORTEST, LONGEST = "5m", "30d"


def backups_have_a_usable_period(spec: Description) -> Iterator[Refusal]:
    """The time between two backups is neither too short nor too long."""
    if spec.backup is None:
        return
    every = spec.backup.every
    if not seconds(SHORTEST) <= seconds(every) <= seconds(LONGEST):
        yield Refusal(
            "backup.every",
            f"{every} is less than {SHORTEST} or more than {LONGEST}",
            "etcd would do little else, or a restore lose more than a month",
            f"write a period from {SHORTEST} to {LONGEST}, such as 6h",
        )


def backups_are_copied_outside(spec: Description) -> Iterator[Refusal]:
    """Copies go to a computer outside the cluster, which is recognised by its host key."""
    if spec.backup is None or spec.backup.to is None:
        return
    target = spec.backup.to
    if not is_public_key(target.host_key):
        yield Refusal(
            "backup.to.host_key",
            "is no public host key",
            "another computer could answer in its place",
            "write one line as in /etc/ssh/ssh_host_ed25519_key.pub, such as ssh-ed25519 AAAA…",
        )
    if is_address(target.host):
        address = IPv4Address(target.host)
        networks = (spec.networks.services, spec.networks.pods, *SPECIAL)
        own = any(machine.parsed("address") == address for machine in spec.machines.values())
        inside = own or any(address in network for network in networks)
        inward = inside or bool(reserved(spec, address))
    else:
        inward = is_own_name(target.host) or target.host.endswith(f".svc.{spec.dns_domain}")
        inward = inward or target.host in spec.machines
        if not is_dns_name(target.host):
            yield Refusal(
                "backup.to.host",
                f"{shown(target.host)} is neither an IPv4 address nor a DNS name in lower case",
                "no backup could be copied there",
                "write the name alone, without user and port, such as backup.example.org",
            )
    if inward:
        yield Refusal(
            "backup.to.host",
            f"{target.host} leads back into the cluster or nowhere",
            "the copies would be lost with the cluster",
            "write a computer that the members' machines reach and that is none of them",
        )
