"""A minion's own balancer before several control planes: haproxy on the loopback interface.

haproxy forwards TCP connections without decrypting them, so clients check the API server's own
certificate.
"""

from plan import apiserver, layout
from plan.model import File, Unit
from spec.cluster import API_PORT, Cluster

UNIT = "haproxy.service"
CONFIG = "/etc/haproxy/control-planes.cfg"
"""A file beside the package's own: upgrades of the package would ask about changes of its file."""

_HERE = f"127.0.0.1:{layout.LOCAL_BALANCER_PORT}"

_SECTIONS = {
    "global": (
        "user haproxy",
        "group haproxy",
        "log stdout format short daemon notice",
    ),
    "defaults": (
        "mode tcp",
        "log global",
        "timeout connect 5s",
        # Watches are silent for long, but their clients check the connection every 30 s.
        "timeout client 10m",
        "timeout server 10m",
        "option clitcpka",
        "option srvtcpka",
    ),
    "listen api": (
        f"bind {_HERE}",
        "balance leastconn",
        "option redispatch",
        # A server that is not ready, for example while it shuts down, gets no new connections and
        # serves those that it has. When haproxy marks a dead server as down, it closes the server's
        # connections, so that clients need not wait for a timeout.
        "option httpchk",
        f"http-check send meth GET uri {apiserver.HEALTH} ver HTTP/1.1 hdr Host localhost",
        "http-check expect status 200 error-status L7OKC",
        "timeout check 15s",
        f"default-server check check-ssl verify required ca-file {layout.AUTHORITY}",
        "default-server inter 5s fastinter 1s downinter 2s fall 2 rise 1",
        "default-server on-marked-down shutdown-sessions",
    ),
}
"""Section to its lines (haproxy's Configuration Manual, chapters 3 to 5)."""


def parts(spec: Cluster, node: str) -> tuple[tuple[str, ...], tuple[File, ...], tuple[Unit, ...]]:
    """Packages, files and units of a machine's balancer; all empty where it has none."""
    if layout.local_api_url(spec, node) != f"https://{_HERE}":
        return (), (), ()
    return ("haproxy",), (_file(spec),), (_unit(),)


def _file(spec: Cluster) -> File:
    servers = tuple(
        f"server {name} {spec.machines[name].address}:{API_PORT}" for name in spec.control_planes
    )
    lines = []
    for section, directives in _SECTIONS.items():
        lines_of_section = directives + servers if section == "listen api" else directives
        lines += [section, *(f"  {line}" for line in lines_of_section), ""]
    return File(path=CONFIG, content="\n".join(lines[:-1]) + "\n")


def _unit() -> Unit:
    """The service, whose unit replaces the package's own; ``-Ws`` reports readiness to systemd."""
    return Unit(
        name=UNIT,
        description="haproxy before the control planes",
        program="/usr/sbin/haproxy",
        arguments=("-Ws", "-f", CONFIG),
        needs=(CONFIG, layout.AUTHORITY),
        service={"KillMode": "mixed", "SuccessExitStatus": "143"},
    )
