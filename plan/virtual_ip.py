"""An address that moves to a control plane whose API server is ready: keepalived's."""

from plan import apiserver, layout
from plan.model import File, Unit
from plan.program import program
from spec.cluster import API_PORT, Cluster, VirtualIp

PACKAGES = ("keepalived",)
UNIT = "keepalived.service"
CONFIG = "/etc/keepalived/keepalived.conf"
RUNTIME = "virtual-ip"
"""A directory under /run."""

_INTERFACE_OF = program("interface-of")
_INTERFACE_FILE = f"/run/{RUNTIME}/interface"

_INSTANCE = "api"
_READY = (
    "/usr/bin/curl --silent --fail --max-time 12 --output /dev/null"
    f" --cacert {layout.AUTHORITY}"
    f" https://127.0.0.1:{API_PORT}{apiserver.HEALTH}"
)

Block = dict[str, "str | Block"]
"""A keyword to the words after it, or to what is between its braces."""


def wanted(spec: Cluster) -> bool:
    """Whether there is such an address; the only control plane has it too, until others come."""
    return isinstance(spec.endpoint, VirtualIp)


def files(spec: Cluster, node: str) -> tuple[File, ...]:
    """Keepalived's configuration, and how it learns the interface's name."""
    lines = [f"include {_INTERFACE_FILE}", *_lines(configuration(spec, node))]
    return (_INTERFACE_OF, File(path=CONFIG, content="\n".join(lines) + "\n"))


def configuration(spec: Cluster, node: str) -> Block:
    """Blocks of keepalived.conf(5).

    Nobody takes the address from a machine that works (``nopreempt``), and a machine whose API
    server is not ready cannot have it. There is no password: VRRP sends it in the clear, so it
    stops nobody who is in the machines' network; that the peers are named stops mistakes.
    """
    assert isinstance(spec.endpoint, VirtualIp)
    machines, names = spec.machines, spec.control_planes
    peers: Block = {str(machines[one].address): "" for one in names if one != node}
    return {
        "global_defs": {
            "router_id": node,
            "enable_script_security": "",
            "script_user": "nobody nogroup",
            # Three advertisements that come late cost the address, and an API server at its start
            # takes all of a machine's time.
            "vrrp_rt_priority": "50",
            # Microseconds without waiting, after which the kernel kills it: 10000 otherwise, which
            # an emulated machine needs to read the configuration.
            "vrrp_rlimit_rttime": "1000000",
            "vrrp_no_swap": "",
        },
        f"vrrp_script {_INSTANCE}": {
            "script": f'"{_READY}"',
            # A machine that dies is missed by VRRP itself, and an API server that died refuses at
            # once: only one that hangs is noticed later. Asked every 2 s with 4 s to answer, two
            # emulated machines could not keep the address.
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
            # A machine without peers would be warned that it falls back to multicast.
            **({"unicast_src_ip": str(machines[node].address)} if peers else {}),
            **({"unicast_peer": peers} if peers else {}),
            "virtual_ipaddress": {f"{spec.endpoint.address}/32 dev $INTERFACE": ""},
            "track_script": {_INSTANCE: ""},
        },
    }


def router_id(endpoint: VirtualIp) -> int:
    """1 to 255, the same on all machines, and other virtual addresses nearby have another one."""
    return int(endpoint.address) % 255 + 1


def unit(spec: Cluster, node: str) -> Unit:
    """The daemon, in place of the package's own unit, which would not know the interface."""
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
