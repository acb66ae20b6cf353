"""Checks the names of the cluster, its machines and its DNS domain."""

from collections.abc import Iterator

from spec.description import Description
from spec.names import (
    LONGEST_DNS_NAME,
    LONGEST_LABEL,
    LONGEST_MACHINE_NAME,
    as_dns_label,
    is_dns_label,
    is_dns_name,
)
from spec.refusal import Refusal, called, dotted, shown

LONGEST_DOMAIN = LONGEST_DNS_NAME - len("kubernetes.default.svc.")
_RESERVED = {"localhost": "every machine's name for itself"}


def cluster_is_a_dns_label(spec: Description) -> Iterator[Refusal]:
    """The cluster's name is a DNS label, since it begins the machines' names on the hypervisor."""
    wrong = _no_label(spec.name, LONGEST_LABEL)
    if wrong:
        yield Refusal(
            "name",
            f"{shown(spec.name)} {wrong}",
            "machines and network could not be named after it",
            f"write name: {as_dns_label(spec.name, 'cluster')}",
        )


def machine_is_a_dns_label(spec: Description, name: str) -> Iterator[Refusal]:
    """A machine's name is a DNS label.

    It is the host name, the name of the Node object and a part of the certificate's common name.
    """
    del spec
    field = dotted(("machines", name))
    if wrong := _no_label(name, LONGEST_MACHINE_NAME):
        yield Refusal(
            field,
            wrong,
            "it cannot be a host name and the name of a Node object",
            f"write {as_dns_label(name, 'minion1', LONGEST_MACHINE_NAME)}",
        )
    elif name in _RESERVED:
        yield Refusal(
            field,
            f"is {_RESERVED[name]}",
            "its certificates would name them all",
            "write another name, such as master",
        )


def machines_differ_in_more_than_case(spec: Description) -> Iterator[Refusal]:
    """No two machines have names that differ only in case, which DNS ignores."""
    first: dict[str, str] = {}
    for name in spec.machines:
        same = first.setdefault(name.lower(), name)
        if same != name:
            yield Refusal(
                dotted(("machines", name)),
                f"is {called(same)} in other letters",
                "both would be one machine to DNS",
                f"write another name, such as {as_dns_label(name, 'minion')}-2",
            )


def domain_is_a_dns_name(spec: Description) -> Iterator[Refusal]:
    """The domain is a DNS name, since it ends the names of all Services, also in certificates."""
    domain = spec.dns_domain
    if not is_dns_name(domain):
        meant = domain.lower().strip(".")
        yield Refusal(
            "dns_domain",
            f"{shown(domain)} is no DNS name in lower case",
            "no Service could be found under it",
            f"write {meant if is_dns_name(meant) else 'cluster.local'}",
        )
    elif len(domain) > LONGEST_DOMAIN:
        yield Refusal(
            "dns_domain",
            f"has {len(domain)} characters",
            f"kubernetes.default.svc.<dns_domain> would have more than {LONGEST_DNS_NAME}",
            "write a shorter one, such as cluster.local",
        )


def _no_label(name: str, longest: int) -> str | None:
    """The mistake in a name; None where the name is a DNS label."""
    if is_dns_label(name) and len(name) <= longest:
        return None
    if not name:
        return "is empty"
    if len(name) > longest:
        return f"has {len(name)} characters where {longest} fit"
    if name != name.lower():
        return "has upper-case letters"
    return "has other characters than a-z, 0-9 and - inside"
