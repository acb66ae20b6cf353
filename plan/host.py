"""Packages and kernel settings of a machine under the container runtime."""

from collections.abc import Mapping

from plan import layout
from plan.model import File
from spec.cluster import Cluster

PACKAGES = (
    "apparmor",  # without its parser, containers run unconfined
    "ca-certificates",
    "curl",
    "iproute2",
    # flanneld and kube-proxy remove the rules of the mode that is not used, for which they need the
    # tools of both modes.
    "iptables",
    "kmod",
    "nftables",
    "openssl",  # checks whether the clock agrees with the certificates
    "procps",
)
"""Debian packages of every node: programs that this plan's scripts or the components run."""

SWAP = "swap.target"
"""The target of all swap units: while it is masked, no swap comes back at the next boot."""

RESOLVER = f"{layout.KUBERNETES}/resolv.conf"
"""A link to the file with the machine's name servers, which is another file where systemd-resolved
runs (pods cannot reach its stub at 127.0.0.53)."""

NAME_SERVERS = "/etc/resolv.conf"
"""The file with the name servers of the spec. systemd-resolved takes them from it as well, where it
is no link (systemd-resolved.service(8), "/etc/resolv.conf")."""

POWER_BUTTON = ("button", "evdev")
"""Kernel modules through which systemd-logind notices the power button. In the image of a lab, udev
handles few devices and nothing else loads the modules: without them, machines did not shut down."""

POWER_BUTTON_FILE = "/etc/modules-load.d/hardway-power-button.conf"
MODULES_FILE = "/etc/modules-load.d/hardway.conf"
SYSCTLS_FILE = "/etc/sysctl.d/90-hardway.conf"

SYSCTLS: Mapping[str, int] = {
    "fs.inotify.max_user_instances": 8192,
    "fs.inotify.max_user_watches": 524288,
    # The next six are those that the kubelet demands with protectKernelDefaults (its
    # setupKernelTunables).
    "kernel.keys.root_maxbytes": 25_000_000,
    "kernel.keys.root_maxkeys": 1_000_000,
    "kernel.panic": 10,
    "kernel.panic_on_oops": 1,
    "vm.overcommit_memory": 1,
    "vm.panic_on_oom": 0,
    # A packet between two pods of a node crosses only the bridge. Without these settings, the rules
    # of Services do not apply to it.
    "net.bridge.bridge-nf-call-ip6tables": 1,
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.ipv4.ip_forward": 1,
    # A machine that dies does not close its connections: flanneld's watch on a lost member of etcd
    # continued for two hours, and so did packets to the old address of a machine that had come
    # back. TCP probes a silent connection after a minute and closes it after two; data that was
    # sent may stay unacknowledged as long as RFC 1122 (4.2.3.5) demands, some hundred seconds.
    "net.ipv4.tcp_keepalive_time": 60,
    "net.ipv4.tcp_keepalive_intvl": 10,
    "net.ipv4.tcp_keepalive_probes": 6,
    "net.ipv4.tcp_retries2": 8,
}


def modules(spec: Cluster) -> tuple[str, ...]:
    """Kernel modules that must be loaded before any service starts, sorted."""
    backend = {"vxlan"} if spec.flannel.backend == "vxlan" else set()
    return tuple(sorted({"br_netfilter", "nf_conntrack", "nf_tables", "overlay"} | backend))


def power_button() -> File:
    """The file that loads the modules for the power button at every boot."""
    content = "".join(f"{name}\n" for name in POWER_BUTTON)
    return File(path=POWER_BUTTON_FILE, content=content, mode=0o644)


def files(spec: Cluster) -> tuple[File, ...]:
    """The files that load modules and apply kernel settings at every boot."""
    return (
        File(path=MODULES_FILE, content="".join(f"{name}\n" for name in modules(spec)), mode=0o644),
        File(
            path=SYSCTLS_FILE,
            content="".join(f"{key} = {value}\n" for key, value in sorted(SYSCTLS.items())),
            mode=0o644,
        ),
    )


def name_servers(spec: Cluster) -> tuple[File, ...]:
    """The file with the spec's name servers; no file where the spec names none.

    ``ready.sh`` writes the same file before anything is downloaded, and keeps what was there.
    """
    lines = "".join(f"nameserver {address}\n" for address in spec.networks.name_servers)
    return (File(path=NAME_SERVERS, content=lines, mode=0o644),) if lines else ()


def settings(spec: Cluster) -> Mapping[str, str]:
    """Variables of the runtime step's script that describe the host."""
    return {
        "modules": " ".join(modules(spec)),
        "sysctls": SYSCTLS_FILE,
        "resolver": RESOLVER,
        "authority": layout.AUTHORITY,
        "certificate": layout.certificate("kubelet-server"),
    }
