"""Docker of the distribution, with cri-dockerd between it and the kubelet."""

import json

from plan import cni, registries, web_proxy
from plan.artifact import artifact, reference
from plan.model import Artifact, File, Unit
from spec.cluster import Cluster

SOCKET = "/run/cri-dockerd.sock"
ENGINE_SOCKET = "/run/docker.sock"
CONFIG = "/etc/docker/daemon.json"
UNIT = "cri-dockerd.service"

PACKAGES = (
    "docker.io",
    "socat",  # cri-dockerd uses it to forward ports
)
MASKED = ("docker.socket",)
"""The distribution's unit, which would hold the socket that this project's dockerd unit opens."""

CONFIGURATION = {
    # Nothing here uses Docker's own network, and its rules drop packets between pods of different
    # machines.
    "bridge": "none",
    "exec-opts": ["native.cgroupdriver=systemd"],
    "ip6tables": False,
    "iptables": False,
    "live-restore": True,
    # The kubelet does not rotate the logs that Docker writes.
    "log-driver": "json-file",
    "log-opts": {"max-file": "3", "max-size": "10m"},
    "userland-proxy": False,
}


def files(spec: Cluster) -> tuple[File, ...]:
    """The daemon's configuration, and registries' authorities, which it reads at each pull."""
    configuration = CONFIGURATION | registries.daemon(spec)
    content = json.dumps(configuration, indent=2, sort_keys=True) + "\n"
    return (File(path=CONFIG, content=content), *registries.of_docker(spec))


def programs(spec: Cluster) -> tuple[Artifact, ...]:
    """The programs that the distribution does not package."""
    return (artifact(spec, "cri-dockerd"),)


def units(spec: Cluster) -> tuple[Unit, ...]:
    """Docker's engine, whose unit replaces the distribution's of that name, and cri-dockerd."""
    engine = Unit(
        name="docker.service",
        description="Docker",
        # dockerd is in /usr/sbin on Debian and in /usr/bin on Ubuntu; systemd looks in both.
        program="dockerd",
        flags={
            "host": f"unix://{ENGINE_SOCKET}",
            "containerd": "/run/containerd/containerd.sock",
            "config-file": CONFIG,
        },
        after=("network-online.target", "containerd.service"),
        wants=("network-online.target", "containerd.service"),
        environment=web_proxy.environment(spec),
        needs=(CONFIG,),
        service={
            "Delegate": "yes",
            "KillMode": "process",
            "OOMScoreAdjust": "-500",
            "LimitNOFILE": "1048576",
            "LimitNPROC": "infinity",
            "LimitCORE": "infinity",
            "TasksMax": "infinity",
        },
    )
    shim = Unit(
        name=UNIT,
        description="Container runtime interface of Docker",
        program=artifact(spec, "cri-dockerd").command.path,
        # The flags of 0.4.0 (config/options.go); there is no configuration file.
        flags={
            "container-runtime-endpoint": f"unix://{SOCKET}",
            "docker-endpoint": f"unix://{ENGINE_SOCKET}",
            "pod-infra-container-image": reference(spec, "pause"),
            "network-plugin": "cni",
            "cni-bin-dir": cni.PROGRAMS_FOLDER,
            "cni-conf-dir": cni.FOLDER,
            # By default cri-dockerd listens on every address, without TLS or a password.
            "streaming-bind-addr": "127.0.0.1",
        },
        after=("network-online.target", "docker.service"),
        wants=("network-online.target", "docker.service"),
        service={"Delegate": "yes", "KillMode": "process", "OOMScoreAdjust": "-999"},
    )
    return engine, shim
