"""keepalived: moves the cluster's virtual IP to a control plane whose API server is ready."""

from plan import apiserver, layout
from plan.model import File, Unit
from plan.program import program
from spec.cluster import API_PORT, Cluster, VirtualIp

PACKAGES = ("keepalived",)
UNIT = "keepalived.service"
CONFIG = "/etc/keepalived/keepalived.conf"
RUNTIME = "virtual-ip"
"""The name of a directory under /run."""

_INTERFACE_OF = program("interface-of")
_INTERFACE_FILE = f"/run/{RUNTIME}/interface"

_INSTANCE = "api"
_READY = (
    "/usr/bin/curl --silent --fail --max-time 12 --output /dev/null"
    f" --cacert {layout.AUTHORITY}"
    f" https://127.0.0.1:{API_PORT}{apiserver.HEALTH}"
)

Block = dict[str, "str | Block"]
"""A keyword to the words after it, or to the block between its braces."""


def wanted(spec: Cluster) -> bool:
    """Whether the cluster has a virtual IP; a lone control plane has it as well."""
    return isinstance(spec.endpoint, VirtualIp)


def files(spec: Cluster, node: str) -> tuple[File, ...]:
    """The configuration of keepalived, and the program that finds the name of the interface."""
    lines = [f"include {_INTERFACE_FILE}", *_lines(configuration(spec, node))]
    return (_INTERFACE_OF, File(path=CONFIG, content="\n".join(lines) + "\n"))


def configuration(spec: Cluster, node: str) -> Block:
    """Blocks of keepalived.conf(5).

    No machine takes the address from a machine that works (``nopreempt``), and a machine whose API
    server is not ready cannot have the address. There is no password: VRRP sends passwords in clear
    text, so a password stops no attacker in the machines' network. The list of peers prevents
    mistakes.
    """
    assert isinstance(spec.endpoint, VirtualIp)
    machines, names = spec.machines, spec.control_planes
    peers: Block = {str(machines[name].address): "" for name in names if name != node}
    return {
        "global_defs": {
            "router_id": node,
            "enable_script_security": "",
            "script_user": "nobody nogroup",
            # A machine loses the address when three advertisements come late, and an API server
            # takes all processor time of a machine at its start.
            "vrrp_rt_priority": "50",
            # Microseconds of computing without a wait, after which the kernel kills keepalived. The
            # default is 10000, which an emulated machine needs to read the configuration alone.
            "vrrp_rlimit_rttime": "1000000",
            "vrrp_no_swap": "",
        },
        f"vrrp_script {_INSTANCE}": {
            "script": f'"{_READY}"',
            # VRRP itself notices a dead machine, and a dead API server refuses connections at once:
            # only an API server that hangs is noticed later. With an interval of 2 s and a timeout
            # of 4 s, two emulated machines could not keep the address.
            "interval": "5",
            "timeout": "15",
            "fall": "2",
            "rise": "1",
            "init_fail": "",
        },
        f"vrrp_instance {_INSTANCE}": {
            "state": "BACKUP",
            "nopreempt": "",
            "interface": "$INTERFACE",
            "virtual_router_id": str(router_id(spec.endpoint)),
            "priority": str(254 - names.index(node)),
            "advert_int": "1",
            # Without peers, keepalived would warn that it falls back to multicast.
            **({"unicast_src_ip": str(machines[node].address)} if peers else {}),
            **({"unicast_peer": peers} if peers else {}),
            "virtual_ipaddress": {f"{spec.endpoint.address}/32 dev $INTERFACE": ""},
            "track_script": {_INSTANCE: ""},
        },
    }


def router_id(endpoint: VirtualIp) -> int:
    """A number from 1 to 255: the same on all machines, and another for other addresses nearby."""
    return int(endpoint.address) % 255 + 1


def unit(spec: Cluster, node: str) -> Unit:
    """The service, whose unit replaces the package's own, which does not find the interface."""
    return Unit(
        name=UNIT,
        description="keepalived",
        program="/usr/sbin/keepalived",
        flags={"use-file": CONFIG},
        arguments=("--dont-fork", "--log-console", "--no-syslog"),
        before_start=(f"{_INTERFACE_OF.path} {spec.machines[node].address} {_INTERFACE_FILE}",),
        needs=(CONFIG, _INTERFACE_OF.path),
        service={"RuntimeDirectory": RUNTIME},
    )


def _lines(block: Block, indent: str = "") -> list[str]:
    lines = []
    for word, rest in block.items():
        if isinstance(rest, str):
            lines.append(f"{indent}{word} {rest}".rstrip())
        else:
            lines += [f"{indent}{word} {{", *_lines(rest, indent + "  "), f"{indent}}}"]
    return lines
