"""Checks the URLs of the mirror, for machines, and of the base image, which this host fetches."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from urllib.parse import SplitResult, urlsplit

from spec.checks.addresses import is_own_name, reserved
from spec.checks.networks import SPECIAL
from spec.description import Description
from spec.names import is_address
from spec.refusal import Refusal, called, shown

MIRROR, IMAGE = "artifacts.mirror", "base_image.source"


def base_image_can_be_fetched(spec: Description) -> Iterator[Refusal]:
    """The source of the base image, if it is a URL and no path, is complete and has no password."""
    if spec.base_image and "://" in spec.base_image.source:
        yield from malformed(IMAGE, spec.base_image.source)


def mirror_can_be_asked(spec: Description) -> Iterator[Refusal]:
    """The mirror's URL is complete, has no password, and a path can be appended to it."""
    url = spec.artifacts.mirror
    if url is None:
        return
    yield from malformed(MIRROR, url)
    if "?" in url or "#" in url:
        yield Refusal(
            MIRROR,
            f"{shown(url)} has a query or a fragment",
            "/sha256/<digest> behind it would be a part of that and not of the path",
            "write the URL up to the ? or #",
        )


def mirror_is_no_machine_itself(spec: Description) -> Iterator[Refusal]:
    """The mirror's host is outside the cluster, since machines need it before the cluster runs."""
    host = host_of(spec.artifacts.mirror)
    if ":" in host:
        yield _unreachable(host, "has an IPv6 address, and machines have IPv4 addresses alone")
    if not host or ":" in host:
        return
    if not is_address(host):
        if is_own_name(host):
            yield _unreachable(host, "leads every machine to itself at best")
        elif host in spec.machines:
            yield _unreachable(host, "is the name of a machine, which that one takes for itself")
        return
    address = IPv4Address(host)
    if any(address in special for special in SPECIAL):
        yield _unreachable(host, "leads every machine to itself at best")
    for inside in ("pods", "services"):
        network = spec.networks.parsed(inside)
        if network and address in network:
            yield _unreachable(host, f"lies inside networks.{inside} {network}")
    if which := reserved(spec, address):
        yield _unreachable(host, f"is the {which}, a reserved one")


def _unreachable(host: str, wrong: str) -> Refusal:
    return Refusal(
        MIRROR,
        f"with the host {called(host)} {wrong}",
        "no machine would get its programs there",
        "write a name or an address at which all machines reach the mirror",
    )


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # a bracket without its counterpart
        return None


def host_of(url: str | None) -> str:
    """The host in a URL, in lower case; empty where the URL has none."""
    parts = _split(url) if url else None
    return (parts.hostname or "").rstrip(".") if parts else ""


def malformed(field: str, url: str) -> Iterator[Refusal]:
    """The mistakes in a URL that do not depend on its use."""
    host = host_of(url)
    if not host or (host.rpartition(".")[2].isdigit() and not is_address(host)):
        yield Refusal(
            field,
            f"{shown(url)} has no host that is a name or an IPv4 address",
            "nobody could be asked",
            "write the whole URL, such as http://192.168.1.5:8080",
        )
    parts = _split(url)
    if parts and "@" in parts.netloc:
        yield Refusal(
            field,
            "has a user in it",
            "whoever sees the stack, its state or a machine would see the password as well",
            "write the URL without it, and let the server know those who ask by their addresses",
        )
    if parts and not _port_is_good(parts):
        port = parts.netloc.rpartition(":")[2]
        yield Refusal(
            field,
            f"has the port {shown(port)}",
            "nothing can listen there",
            "write a port from 1 to 65535",
        )


def _port_is_good(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False
