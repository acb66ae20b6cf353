"""The proxy through which machines download: for steps, apt and the container runtime."""

from collections.abc import Mapping
from ipaddress import IPv4Network

from plan.model import File
from spec.cluster import Cluster
from spec.names import is_address, is_dns_name
from spec.network import Balancer

APT = "/etc/apt/apt.conf.d/90hardway-proxy"


def environment(spec: Cluster) -> Mapping[str, str]:
    """The variables of a service that downloads; none where the spec has no proxy."""
    variables = settings(spec)
    return {name.upper(): value for name, value in variables.items() if value}


def settings(spec: Cluster) -> Mapping[str, str]:
    """The variables of programs of a step that download, empty where the spec has no proxy."""
    proxy = spec.proxy
    return {
        "http_proxy": (proxy and proxy.http) or "",
        "https_proxy": (proxy and proxy.https) or "",
        "no_proxy": ",".join(direct(spec)) if proxy else "",
    }


def files(spec: Cluster) -> tuple[File, ...]:
    """The file by which apt asks the proxy, also for a person; it knows no networks."""
    if not spec.proxy:
        return ()
    urls = {"http": spec.proxy.http, "https": spec.proxy.https}
    hosts = [text for text in direct(spec) if is_address(text) or is_dns_name(text)]
    lines = [
        line
        for scheme, url in urls.items()
        if url
        for line in (
            f'Acquire::{scheme}::Proxy "{url}";',
            *(f'Acquire::{scheme}::Proxy::{host} "DIRECT";' for host in hosts),
        )
    ]
    return (File(path=APT, content="".join(f"{line}\n" for line in lines), mode=0o644),)


def direct(spec: Cluster) -> tuple[str, ...]:
    """The hosts, domains and networks that are asked directly: those of the cluster, then others.

    No machine is named by itself: another machine would then restart the others' runtimes. The
    host, which has the lab's mirror, stands beside its subnet, since not all programs know
    networks.
    """
    networks: tuple[IPv4Network, ...] = (
        *spec.networks.machines,
        spec.networks.pods,
        spec.networks.services,
    )
    balancer = (spec.endpoint.host,) if isinstance(spec.endpoint, Balancer) else ()
    own = (
        "localhost",
        "127.0.0.1",
        *map(str, spec.networks.gateways),
        *map(str, networks),
        ".svc",
        f".{spec.dns_domain}",
        *balancer,
    )
    return tuple(dict.fromkeys((*own, *(spec.proxy.no_proxy if spec.proxy else ()))))
