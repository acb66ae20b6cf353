"""The files by which nodes reach registries of images.

containerd and Docker read theirs at each pull, and the kubelet its own every five minutes, so a
change restarts nothing.
"""

from typing import Any
from urllib.parse import urlsplit

import tomli_w

from plan.layout import REGISTRY_CREDENTIALS
from plan.model import File, RegistryCredentials, SecretFile
from spec.cluster import Cluster
from spec.registry import DEFAULT, Registry

CONTAINERD = "/etc/containerd/certs.d"
DOCKER = "/etc/docker/certs.d"

READABLE = 0o644


def of_containerd(spec: Cluster) -> tuple[File, ...]:
    """A ``hosts.toml`` for each registry, and the authority's certificates beside it."""
    files = []
    for name, registry in sorted(spec.registries.items()):
        folder = f"{CONTAINERD}/{name}"
        hosts = tomli_w.dumps(_hosts(name, registry, f"{folder}/ca.crt"))
        files.append(File(path=f"{folder}/hosts.toml", content=hosts, mode=READABLE))
        if registry.authority:
            files.append(_authority(folder, registry.authority))
    return tuple(files)


def _hosts(name: str, registry: Registry, authority: str) -> dict[str, Any]:
    """What ``hosts.toml`` says: of the registry itself at the top, and of each mirror below it.

    containerd knows the server of docker.io, and has none for the registries that have no entry.
    """
    trust: dict[str, Any] = {"ca": authority} if registry.authority else {}
    unchecked = {"skip_verify": True} if registry.insecure else {}
    own = {} if name in (DEFAULT, "docker.io") else {"server": f"https://{name}"}
    mirrors = {
        url: {
            "capabilities": ["pull", "resolve"],
            **trust,
            **unchecked,
            # Otherwise /v2 is appended to the path.
            **({"override_path": True} if "/v2/" in url else {}),
        }
        for url in registry.mirrors
    }
    return {**own, **trust, **({"host": mirrors} if mirrors else unchecked)}


def of_docker(spec: Cluster) -> tuple[File, ...]:
    """The authority's certificates, in a folder for each host that is asked."""
    return tuple(
        _authority(f"{DOCKER}/{host}", registry.authority)
        for name, registry in sorted(spec.registries.items())
        if registry.authority
        for host in _asked(name, registry)
    )


def daemon(spec: Cluster) -> dict[str, Any]:
    """Settings of ``daemon.json``; none where the spec has neither mirrors nor insecure hosts."""
    mirrors = [url for registry in spec.registries.values() for url in registry.mirrors]
    insecure = {
        host
        for name, registry in spec.registries.items()
        if registry.insecure
        for host in _mirrors(registry) or _asked(name, registry)
    }
    return {
        **({"registry-mirrors": mirrors} if mirrors else {}),
        **({"insecure-registries": sorted(insecure)} if insecure else {}),
    }


def _asked(name: str, registry: Registry) -> tuple[str, ...]:
    """The hosts, with their ports, that Docker asks for the images of a registry."""
    own = "registry-1.docker.io" if name == "docker.io" else name
    return tuple(dict.fromkeys((own, *_mirrors(registry))))


def _mirrors(registry: Registry) -> tuple[str, ...]:
    """The hosts of the mirrors, with their ports."""
    return tuple(urlsplit(url).netloc for url in registry.mirrors)


def _authority(folder: str, certificates: str) -> File:
    content = f"{certificates.strip()}\n"
    return File(path=f"{folder}/ca.crt", content=content, mode=READABLE)


def credentials(spec: Cluster) -> tuple[SecretFile, ...]:
    """The file with users and passwords, which the kubelet shows to any runtime with a pull."""
    users = tuple(
        (name, registry.user)
        for name, registry in sorted(spec.registries.items())
        if registry.user is not None
    )
    source = RegistryCredentials(users)
    return (SecretFile(path=REGISTRY_CREDENTIALS, source=source),) if users else ()
