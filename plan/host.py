"""The kernel and the system under the container runtime."""

from collections.abc import Mapping

from plan import layout
from plan.model import File
from spec.cluster import Cluster

PACKAGES = (
    "apparmor",  # without its parser containers run unconfined
    "ca-certificates",
    "curl",
    "iproute2",
    # flanneld and kube-proxy clean up after the mode that is not used: both tools must be there.
    "iptables",
    "kmod",
    "nftables",
    "openssl",  # tells whether the clock agrees with the certificates
    "procps",
)
"""Debian packages of every node: programs that this plan's scripts or the components run."""

SWAP = "swap.target"
"""Everything that swaps hangs on it: masked, no swap comes back at the next boot."""

RESOLVER = f"{layout.KUBERNETES}/resolv.conf"
"""A link to the machine's list of name servers, which lies elsewhere where systemd-resolved runs
(its stub at 127.0.0.53 is out of a pod's reach)."""

POWER_BUTTON = ("button", "evdev")
"""Kernel modules by which systemd-logind notices the power button. A lab's image, where udev visits
few devices, has nobody else to load them, and its machines did not shut down without them."""

POWER_BUTTON_FILE = "/etc/modules-load.d/hardway-power-button.conf"
MODULES_FILE = "/etc/modules-load.d/hardway.conf"
SYSCTLS_FILE = "/etc/sysctl.d/90-hardway.conf"

SYSCTLS: Mapping[str, int] = {
    "fs.inotify.max_user_instances": 8192,
    "fs.inotify.max_user_watches": 524288,
    # Those that the kubelet demands with protectKernelDefaults (its setupKernelTunables).
    "kernel.keys.root_maxbytes": 25_000_000,
    "kernel.keys.root_maxkeys": 1_000_000,
    "kernel.panic": 10,
    "kernel.panic_on_oops": 1,
    "vm.overcommit_memory": 1,
    "vm.panic_on_oom": 0,
    # A packet between two pods of a node crosses only the bridge; Services are rules above it.
    "net.bridge.bridge-nf-call-ip6tables": 1,
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.ipv4.ip_forward": 1,
    # A machine that dies says nothing to those who wait for its word: flanneld's watch on a lost
    # member of etcd went on for two hours, and packets to the old address of whoever came back.
    # Silence is asked after within a minute and ends in two; what was sent is given as long as
    # RFC 1122 (4.2.3.5) wants it, some hundred seconds.
    "net.ipv4.tcp_keepalive_time": 60,
    "net.ipv4.tcp_keepalive_intvl": 10,
    "net.ipv4.tcp_keepalive_probes": 6,
    "net.ipv4.tcp_retries2": 8,
}


def modules(spec: Cluster) -> tuple[str, ...]:
    """Kernel modules that must be loaded before anything runs, sorted."""
    backend = {"vxlan"} if spec.flannel.backend == "vxlan" else set()
    return tuple(sorted({"br_netfilter", "nf_conntrack", "nf_tables", "overlay"} | backend))


def power_button() -> File:
    """What has a machine notice its power button at every boot."""
    content = "".join(f"{name}\n" for name in POWER_BUTTON)
    return File(path=POWER_BUTTON_FILE, content=content, mode=0o644)


def files(spec: Cluster) -> tuple[File, ...]:
    """What makes modules and kernel settings come back at every boot."""
    return (
        File(path=MODULES_FILE, content="".join(f"{name}\n" for name in modules(spec)), mode=0o644),
        File(
            path=SYSCTLS_FILE,
            content="".join(f"{key} = {value}\n" for key, value in sorted(SYSCTLS.items())),
            mode=0o644,
        ),
    )


def settings(spec: Cluster) -> Mapping[str, str]:
    """What the runtime step's script needs to know about the host."""
    return {
        "modules": " ".join(modules(spec)),
        "sysctls": SYSCTLS_FILE,
        "resolver": RESOLVER,
        "authority": layout.AUTHORITY,
        "certificate": layout.certificate("kubelet-server"),
    }
