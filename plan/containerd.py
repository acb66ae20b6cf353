"""containerd, runc and the images that a node must have without a registry."""

from collections.abc import Mapping
from typing import Any

import tomli_w

from plan import cni
from plan.artifact import artifact, artifacts
from plan.model import Artifact, File, Unit
from spec.cluster import Cluster

SOCKET = "/run/containerd/containerd.sock"
CONFIG = "/etc/containerd/config.toml"
PROGRAMS = ("containerd", "ctr", "containerd-shim-runc-v2", "runc")
UNIT = "containerd.service"

CONFIG_VERSION = 4
"""Of containerd 2.3; the catalogue has none older."""


def configuration(images: Mapping[str, str]) -> dict[str, Any]:
    """The configuration; ``images`` are the references that must never be thrown away, by name.

    The one named ``sandbox`` is every pod's first container: at ``sandbox_image``, its place up to
    version 2, containerd ignores it and asks for registry.k8s.io/pause.
    """
    runc = {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}}
    return {
        "version": CONFIG_VERSION,
        "plugins": {
            "io.containerd.cri.v1.images": {"pinned_images": dict(sorted(images.items()))},
            "io.containerd.cri.v1.runtime": {
                "containerd": {"default_runtime_name": "runc", "runtimes": {"runc": runc}},
                "cni": {"bin_dirs": [cni.PROGRAMS_FOLDER], "conf_dir": cni.FOLDER},
            },
            "io.containerd.server.v1.grpc": {"address": SOCKET},
        },
    }


def files(images: Mapping[str, str]) -> tuple[File, ...]:
    """The configuration file."""
    return (File(path=CONFIG, content=tomli_w.dumps(configuration(images))),)


def programs(spec: Cluster) -> tuple[Artifact, ...]:
    """What containerd consists of."""
    return artifacts(spec, PROGRAMS)


def unit(spec: Cluster) -> Unit:
    """The daemon, which leaves the pods alone when it ends."""
    return Unit(
        name=UNIT,
        description="containerd",
        program=artifact(spec, "containerd").command.path,
        flags={"config": CONFIG},
        needs=(CONFIG,),
        service={
            "Delegate": "yes",
            "KillMode": "process",
            "OOMScoreAdjust": "-999",
            "LimitNOFILE": "1048576",
            "LimitNPROC": "infinity",
            "LimitCORE": "infinity",
            "TasksMax": "infinity",
        },
    )
