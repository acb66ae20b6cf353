"""The kubelet."""

from typing import Any

from plan import host, kubeconfig, layout, readyz, reload, runtime, tls
from plan.artifact import artifact
from plan.model import File, Unit
from spec.cluster import Cluster, Machine, Role
from spec.document import dump_yaml

CONFIG = f"{layout.KUBERNETES}/kubelet.yaml"
UNIT = "kubelet.service"
PORT, HEALTH_PORT = 10250, 10248

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
"""The key of the label of every control plane, and of the taint of each that is no minion."""
CONTROL_PLANE_TAINT = {"key": CONTROL_PLANE, "effect": "NoSchedule"}

RESERVED = {
    # Kind: (part of the memory, at most MiB). A control plane's servers are no pods, so without a
    # reservation the scheduler would give their memory to pods: idle they take 550 MiB.
    "system": (1 / 16, 128),
    "minion": (1 / 8, 256),
    "control-plane": (3 / 8, 1024),
}


def configuration(spec: Cluster, node: str) -> dict[str, Any]:
    """A KubeletConfiguration (kubelet.config.k8s.io/v1beta1), the same in 1.35, 1.36 and 1.37.

    ``rotateCertificates`` is left out, which means false and satisfies CIS 4.2.10: Pulumi's state
    keeps the certificate and renews it before it expires. A kubelet that also renewed it would
    continue to use its own copy in /var/lib/kubelet/pki after a change of the authority, and API
    servers would reject it. ``shutdownGracePeriod`` is left out, since it leaves dead pods behind.
    """
    machine = spec.machines[node]
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(machine.address),
        "port": PORT,
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": HEALTH_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": _KEYS["clientCAFile"]},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": _KEYS["tlsCertFile"],
        "tlsPrivateKeyFile": _KEYS["tlsPrivateKeyFile"],
        "tlsMinVersion": tls.KUBERNETES_MINIMUM,
        "tlsCipherSuites": list(tls.CIPHER_SUITES),
        "streamingConnectionIdleTimeout": "5m0s",
        # 0 means without limit since 1.37 (kubernetes#117119).
        "eventRecordQPS": 50,
        "eventBurst": 100,
        "protectKernelDefaults": True,
        "makeIPTablesUtilChains": True,
        "seccompDefault": True,
        "podPidsLimit": 4096,
        "failSwapOn": True,
        "cgroupDriver": "systemd",
        "containerRuntimeEndpoint": f"unix://{runtime.SOCKETS[spec.runtime]}",
        "clusterDomain": spec.dns_domain,
        "clusterDNS": [str(spec.networks.dns_service)],
        "resolvConf": host.RESOLVER,
        "volumePluginDir": layout.VOLUME_PLUGINS,
        "registerWithTaints": taints(machine),
        "systemReserved": {"cpu": "100m", "memory": _reserved(machine, "system")},
        "kubeReserved": {
            "cpu": "100m",
            "memory": _reserved(
                machine, "control-plane" if Role.CONTROL_PLANE in machine.roles else "minion"
            ),
        },
    }


def taints(machine: Machine) -> list[dict[str, str]]:
    """The taints of the node; a control plane that is no minion also gets one that repels pods."""
    own = [
        {
            "key": taint.key,
            **({"value": taint.value} if taint.value else {}),
            "effect": taint.effect,
        }
        for taint in machine.taints
    ]
    reserved = Role.CONTROL_PLANE in machine.roles and Role.MINION not in machine.roles
    return [CONTROL_PLANE_TAINT, *own] if reserved and CONTROL_PLANE_TAINT not in own else own


def labels(machine: Machine) -> str:
    """The machine's labels as ``key=value,key=value``, sorted."""
    return ",".join(f"{key}={value}" for key, value in sorted(machine.labels.items()))


def files(spec: Cluster, node: str) -> tuple[File, ...]:
    """The configuration file and the kubeconfig."""
    content = dump_yaml(configuration(spec, node), sort_keys=True)
    return (File(path=CONFIG, content=content), kubeconfig.file(spec, node, "kubelet"))


def unit(spec: Cluster, node: str) -> Unit:
    """The service, which starts once the API is ready.

    Before that, the kubelet would get no pods, and would try to register ten times a second and log
    each failure, which takes much time of an emulated processor. The kubelet reads its
    configuration at its start only, but reads again some of the files that the configuration names.
    """
    machine = spec.machines[node]
    flags = {
        "config": CONFIG,
        "kubeconfig": layout.kubeconfig("kubelet"),
        # The certificate is for this name, so the node's name must not follow the hostname.
        "hostname-override": node,
        "node-ip": str(machine.address),
        **({"node-labels": labels(machine)} if machine.labels else {}),
    }
    watched = reload.files("kubelet", flags, _KEYS, kubeconfig.named("kubelet"))
    return Unit(
        name=UNIT,
        description="kubelet",
        program=artifact(spec, "kubelet").command.path,
        flags=flags,
        before_start=(readyz.wait(spec, node),),
        after=("network-online.target", runtime.UNITS[spec.runtime]),
        wants=("network-online.target", runtime.UNITS[spec.runtime]),
        needs=watched.needs,
        reads=watched.reads,
    )


_KEYS = {
    "clientCAFile": layout.AUTHORITY,
    "tlsCertFile": layout.certificate("kubelet-server"),
    "tlsPrivateKeyFile": layout.private_key("kubelet-server"),
}
"""Settings of the configuration whose values are paths."""


def _reserved(machine: Machine, who: str) -> str:
    part, most = RESERVED[who]
    return f"{min(int(machine.memory * part), most)}Mi"
