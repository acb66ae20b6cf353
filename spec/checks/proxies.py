"""Checks the proxy through which machines reach what is outside."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from spec.checks.addresses import is_own_name
from spec.checks.networks import SPECIAL
from spec.checks.urls import host_of, malformed
from spec.description import Description
from spec.names import is_address, is_dns_name
from spec.refusal import Refusal, shown


def proxy_can_be_asked(spec: Description) -> Iterator[Refusal]:
    """The URLs of the proxy are complete, have no password and lead out of the cluster."""
    if spec.proxy is None:
        return
    urls = {name: spec.proxy.parsed(name) for name in ("http", "https")}
    if not any(urls.values()) and all(name in spec.proxy.__dict__ for name in urls):
        yield Refusal(
            "proxy", "names no proxy", "nothing would go through it", "write http, https or both"
        )
    for name, url in urls.items():
        if not url:
            continue
        field = f"proxy.{name}"
        yield from malformed(field, url)
        host = host_of(url)
        address = IPv4Address(host) if is_address(host) else None
        inside = (spec.networks.services, spec.networks.pods, *SPECIAL)
        if is_own_name(host) or (address and any(address in network for network in inside)):
            yield Refusal(
                field,
                f"with the host {host} leads back into the cluster or nowhere",
                "no machine could download anything",
                "write a proxy that all machines reach",
            )
        if "@" not in url and any(mark in url for mark in "%\"'\\$"):
            yield Refusal(
                field,
                f"{shown(url)} has a character that is no part of a host",
                "no program could read it",
                "write the URL with a host and a port alone",
            )


def exceptions_are_hosts(spec: Description) -> Iterator[Refusal]:
    """Each exception is a host, a domain, an address or a network."""
    if spec.proxy is None:
        return
    for number, text in enumerate(spec.proxy.no_proxy):
        if not (is_dns_name(text.removeprefix(".")) or is_address(text) or _is_network(text)):
            yield Refusal(
                f"proxy.no_proxy.{number}",
                f"{shown(text)} is no host, domain, address or network",
                "programs would go by it in different ways",
                "write one in lower case, without scheme, port and *, such as .example.org",
            )


def _is_network(text: str) -> bool:
    try:
        IPv4Network(text)
    except ValueError:
        return False
    return "/" in text
