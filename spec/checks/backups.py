"""Checks where backups go and how often they are made."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from spec.backup import BackupBucket, BackupDestination, seconds
from spec.checks.addresses import is_own_name, reserved
from spec.checks.networks import SPECIAL
from spec.checks.places import is_public_key
from spec.checks.registries import no_authority
from spec.checks.urls import host_of, malformed
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
    """Copies by SFTP go to a computer outside the cluster, which is recognised by its host key."""
    target = _target(spec)
    if not isinstance(target, BackupDestination):
        return
    if not is_public_key(target.host_key):
        yield Refusal(
            "backup.to.host_key",
            "is no public host key",
            "another computer could answer in its place",
            "write one line as in /etc/ssh/ssh_host_ed25519_key.pub, such as ssh-ed25519 AAAA…",
        )
    if not is_address(target.host) and not is_dns_name(target.host):
        yield Refusal(
            "backup.to.host",
            f"{shown(target.host)} is neither an IPv4 address nor a DNS name in lower case",
            "no backup could be copied there",
            "write the name alone, without user and port, such as backup.example.org",
        )
    yield from _inward("backup.to.host", spec, target.host)


def backups_are_uploaded_outside(spec: Description) -> Iterator[Refusal]:
    """The server of a bucket is outside the cluster, and its URL can be asked."""
    target = _target(spec)
    if not isinstance(target, BackupBucket):
        return
    field, url = "backup.to.endpoint", target.endpoint
    wrong = list(malformed(field, url))
    yield from wrong
    host = host_of(url)
    if not wrong and not is_address(host) and not is_dns_name(host):
        yield Refusal(
            field,
            f"{shown(url)} has no host that is an IPv4 address or a DNS name",
            "no backup could be uploaded there",
            "write the whole URL, such as https://s3.example.org",
        )
    yield from _inward(field, spec, host)


def buckets_can_be_named(spec: Description) -> Iterator[Refusal]:
    """The URL of each copy has one meaning, and the server's certificate can name its host."""
    target = _target(spec)
    if not isinstance(target, BackupBucket):
        return
    if not {".", ".."}.isdisjoint(target.prefix.split("/")):
        yield Refusal(
            "backup.to.prefix",
            f"{shown(target.prefix)} has a part that is only dots",
            "programs would take it for another folder",
            "write names with a slash between two, such as clusters/dev",
        )
    if ".." in target.bucket or is_address(target.bucket):
        yield Refusal(
            "backup.to.bucket",
            f"{shown(target.bucket)} is an address or has two dots beside each other",
            "no server has a bucket of this name",
            "write the bucket's own name",
        )
    if target.path_style:
        return
    if is_address(host_of(target.endpoint)):
        yield Refusal(
            "backup.to.path_style",
            "is false, and the endpoint is an address",
            "the bucket could not be a part of the host's name",
            "write true, or a name into backup.to.endpoint",
        )
    elif "." in target.bucket:
        yield Refusal(
            "backup.to.path_style",
            f"is false, and the bucket {shown(target.bucket)} has a dot in its name",
            "no certificate for *.NAME would be of its host",
            "write true",
        )


def bucket_authority_is_a_certificate(spec: Description) -> Iterator[Refusal]:
    """The authority of a bucket's server is one or more certificates, and no private key."""
    target = _target(spec)
    if isinstance(target, BackupBucket) and target.authority is not None:
        yield from no_authority("backup.to.authority", target.authority, "nothing is uploaded")


def _target(spec: Description) -> BackupDestination | BackupBucket | None:
    return spec.backup.to if spec.backup else None


def _inward(field: str, spec: Description, host: str) -> Iterator[Refusal]:
    """The refusal of a host that is a part of the cluster, or that no other computer can have."""
    if is_address(host):
        address = IPv4Address(host)
        networks = (spec.networks.services, spec.networks.pods, *SPECIAL)
        own = any(machine.parsed("address") == address for machine in spec.machines.values())
        inside = own or any(address in network for network in networks)
        inward = inside or bool(reserved(spec, address))
    else:
        inward = is_own_name(host) or host.endswith(f".svc.{spec.dns_domain}")
        inward = inward or host in spec.machines
    if inward:
        yield Refusal(
            field,
            f"{host} leads back into the cluster or nowhere",
            "the copies would be lost with the cluster",
            "write a computer that the members' machines reach and that is none of them",
        )
