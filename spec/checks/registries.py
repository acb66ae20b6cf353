"""Checks how machines reach registries of images."""

import ssl
from collections.abc import Iterator

from spec.checks.addresses import is_own_name
from spec.checks.urls import malformed
from spec.description import Description
from spec.names import is_address, is_dns_name
from spec.refusal import Refusal, dotted, shown
from spec.registry import DEFAULT

DOCKER_HUB = "docker.io"
OTHER_NAMES = {"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
"""Names that no reference of an image begins with once a runtime has read it."""


def registries_are_named_as_in_references(spec: Description) -> Iterator[Refusal]:
    """Each registry has the name with which references of its images begin."""
    for name in spec.registries:
        if name in OTHER_NAMES:
            yield Refusal(
                dotted(("registries", name)),
                "is another name of docker.io",
                "no image would be looked for under it",
                f"write {DOCKER_HUB}",
            )
        elif name != DEFAULT and not _is_name(name):
            yield Refusal(
                dotted(("registries", name)),
                "is no registry's name",
                "no reference of an image could begin with it",
                "write a host in lower case, with its port where it has one, such as "
                "registry.example.org:5000",
            )


def _is_name(name: str) -> bool:
    host, colon, port = name.partition(":")
    numbered = not colon or (port.isascii() and port.isdigit() and 0 < int(port) <= 65535)
    dotted_or_numbered = "." in host or bool(colon) or host == "localhost"
    return numbered and dotted_or_numbered and (is_address(host) or is_dns_name(host))


def mirrors_can_be_asked(spec: Description) -> Iterator[Refusal]:
    """The URL of each mirror is complete, has no password, and is safe or written as insecure."""
    for name, registry in spec.registries.items():
        for number, url in enumerate(registry.parsed("mirrors") or ()):
            field = dotted(("registries", name, "mirrors", number))
            yield from malformed(field, url)
            if "?" in url or "#" in url:
                yield Refusal(
                    field,
                    f"{shown(url)} has a query or a fragment",
                    "/v2/ behind it would be a part of that and not of the path",
                    "write the URL up to the ? or #",
                )
            if url.startswith("http://") and registry.parsed("insecure") is False:
                yield Refusal(
                    field,
                    f"{shown(url)} is not encrypted",
                    "whoever is on the way could have nodes run any image",
                    "write a https URL, or insecure: true beside the mirrors",
                )
            if is_own_name(url.partition("://")[2].partition("/")[0].partition(":")[0]):
                yield Refusal(
                    field,
                    f"{shown(url)} leads every machine to itself",
                    "no image would be there",
                    "write a name or an address at which all machines reach the mirror",
                )


def authorities_are_certificates(spec: Description) -> Iterator[Refusal]:
    """The authority of each registry is one or more certificates, and no private key."""
    for name, registry in spec.registries.items():
        text = registry.parsed("authority")
        if text is not None:
            field = dotted(("registries", name, "authority"))
            yield from no_authority(field, text, "no pull would succeed")


def no_authority(field: str, text: str, breaks: str) -> Iterator[Refusal]:
    """The refusal of a text that is not one or more certificates, or that has a private key."""
    if "PRIVATE KEY" in text:
        wrong, breaks = "has a private key in it", "everybody who sees the stack would have it"
    elif not _has_certificates(text):
        wrong = f"{shown(text)} is no certificate in PEM"
    else:
        return
    yield Refusal(
        field,
        wrong,
        breaks,
        "write the authority's certificate, from BEGIN CERTIFICATE to END CERTIFICATE",
    )


def _has_certificates(text: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        return False
    return True


def users_are_of_a_registry(spec: Description) -> Iterator[Refusal]:
    """Each user is one that a registry can have, and belongs to a registry with a name."""
    for name, registry in spec.registries.items():
        user = registry.parsed("user")
        field = dotted(("registries", name, "user"))
        if user is None:
            continue
        if name == DEFAULT:
            yield Refusal(
                field,
                "is given for every registry without an entry",
                "each of them would see the password",
                "write the registry by its name",
            )
        if not user or ":" in user or not user.isprintable():
            yield Refusal(
                field,
                f"{shown(user)} is empty, or has a colon or an unprintable character",
                "no registry could tell the user from the password",
                "write the user's name alone",
            )


def docker_has_mirrors_of_docker_hub_alone(spec: Description) -> Iterator[Refusal]:
    """Docker can have mirrors of docker.io, and nothing for registries without a name."""
    if spec.runtime != "docker":
        return
    for name, registry in spec.registries.items():
        if name == DEFAULT:
            yield Refusal(
                dotted(("registries", name)),
                "is given with runtime: docker",
                "Docker would have no use for it",
                "write each registry by its name, or runtime: containerd",
            )
        elif name != DOCKER_HUB and registry.parsed("mirrors"):
            yield Refusal(
                dotted(("registries", name, "mirrors")),
                "is given with runtime: docker",
                "Docker has mirrors of docker.io alone and would ask none of these",
                "write none, or runtime: containerd",
            )
        for number, url in enumerate(registry.parsed("mirrors") or ()):
            if "/" in url.partition("://")[2]:
                yield Refusal(
                    dotted(("registries", name, "mirrors", number)),
                    f"{shown(url)} has a path",
                    "Docker would not start",
                    "write the URL of a mirror at the root of its host, or runtime: containerd",
                )
