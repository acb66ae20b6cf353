"""Checks the settings of the add-on ``ingress``."""

from collections.abc import Iterator, Sequence

from spec.checks.addresses import is_own_name
from spec.description import Description
from spec.hypervisor import Existing
from spec.ingress import HTTP_PORT, HTTPS_PORT
from spec.load_balancer import bounds
from spec.names import is_address, is_dns_label, is_dns_name
from spec.notebooks import HUB_PORT, SERVER_PORT
from spec.refusal import Refusal, dotted, listed, shown

FIELD = "addons.ingress"


def ingress_address_is_given_away(spec: Description) -> Iterator[Refusal]:
    """A fixed address is one that the add-on ``load_balancer`` gives to Services."""
    address = spec.addons.ingress and spec.addons.ingress.address
    if not address:
        return
    field = f"{FIELD}.address"
    if not spec.addons.load_balancer:
        yield Refusal(
            field,
            "is given without addons.load_balancer",
            "nobody would answer for it",
            "write load_balancer with a range that has it, or leave it out: ports "
            f"{HTTP_PORT} and {HTTPS_PORT} of every node are the way in then",
        )
        return
    ranges = spec.addons.load_balancer.addresses
    if not any(first <= address <= last for first, last in map(bounds, ranges)):
        yield Refusal(
            field,
            f"{address} is in no range of addons.load_balancer.addresses",
            "nobody would answer for it",
            f"write one of {listed(ranges)}" if ranges else "write a range there",
        )


def names_can_be_in_a_certificate(spec: Description) -> Iterator[Refusal]:
    """The certificate's names are DNS names of others than the cluster itself."""
    for owner, settings in (("ingress", spec.addons.ingress), ("notebooks", spec.addons.notebooks)):
        if settings:
            yield from _names(spec, f"addons.{owner}", settings.certificate_names)


def _names(spec: Description, owner: str, names: Sequence[str]) -> Iterator[Refusal]:
    for number, name in enumerate(names):
        field = f"{owner}.certificate_names.{number}"
        whole = name.removeprefix("*.")
        if not is_dns_name(whole) or (whole != name and "." not in whole):
            what = "an address" if is_address(name) else "no DNS name in lower case"
            yield Refusal(
                field,
                f"{shown(name)} is {what}",
                "no browser would take the certificate for it",
                "write a name such as shop.example.org or *.example.org",
            )
        elif _is_of_the_cluster(spec, whole):
            yield Refusal(
                field,
                f"{shown(name)} is a name of the cluster itself",
                "who has the key of the certificate could pretend to be that",
                "write a name by which people ask for a page, such as shop.example.org",
            )


def _is_of_the_cluster(spec: Description, name: str) -> bool:
    """Whether machines, pods or people's kubeconfigs use this name for something else."""
    endpoint = getattr(spec.endpoint, "host", None)
    own = {*spec.machines, endpoint, "kubernetes", "kubernetes.default", spec.dns_domain}
    inside = (".svc", f".{spec.dns_domain}")
    return name in own or name == "svc" or name.endswith(inside) or is_own_name(name)


def ingress_objects_have_names(spec: Description) -> Iterator[Refusal]:
    """Namespaces and the default backend's Service have names that Kubernetes accepts."""
    if not (wanted := spec.addons.ingress):
        return
    names = {f"{FIELD}.namespaces.{number}": name for number, name in enumerate(wanted.namespaces)}
    if wanted.default_backend:
        names[f"{FIELD}.default_backend.namespace"] = wanted.default_backend.namespace
        names[f"{FIELD}.default_backend.service"] = wanted.default_backend.service
    for field, name in names.items():
        if not is_dns_label(name):
            yield Refusal(
                field,
                f"{shown(name)} is no name of such an object",
                "there can be none",
                "write at most 63 of a-z, 0-9 and -, a letter or digit at both ends",
            )


def ingress_finds_its_default_backend(spec: Description) -> Iterator[Refusal]:
    """Where there is a default backend, CoreDNS answers."""
    wanted = spec.addons.ingress
    if wanted and wanted.default_backend and not spec.addons.coredns:
        yield Refusal(
            f"{FIELD}.default_backend",
            "is given without addons.coredns",
            "Traefik would not find it by its name",
            "write coredns: true, or leave it out",
        )


def ssh_leaves_add_ons_their_ports(spec: Description) -> Iterator[Refusal]:
    """Where a node's ports are the way to an add-on, its sshd is at none of them."""
    wanted: list[tuple[str, str, int]] = []
    if spec.addons.ingress and not spec.addons.load_balancer:
        wanted += [
            ("ingress", name, port) for name in spec.nodes for port in (HTTP_PORT, HTTPS_PORT)
        ]
    if spec.addons.notebooks and spec.control_planes:
        door = spec.control_planes[0]
        wanted += [("notebooks", door, port) for port in (HUB_PORT, SERVER_PORT)]
    taken = {}
    for add_on, name, port in wanted:
        own = spec.machines[name].hypervisor
        where = own or spec.hypervisor
        if isinstance(where, Existing) and where.port == port:
            field = dotted(("machines", name, "hypervisor")) if own else "hypervisor"
            taken[field] = add_on, port
    for field, (add_on, port) in taken.items():
        yield Refusal(
            f"{field}.port",
            f"{port} belongs to addons.{add_on}",
            "nobody could log in there any more",
            "write another port for sshd, such as 22, and set it on the machines",
        )
