"""containerd, runc, and the images that a node must have without a registry."""

from collections.abc import Mapping
from typing import Any

import tomli_w

from plan import cni, web_proxy
from plan.artifact import artifact, artifacts
from plan.model import Artifact, File, Unit
from plan.registries import CONTAINERD, of_containerd
from spec.cluster import Cluster

SOCKET = "/run/containerd/containerd.sock"
CONFIG = "/etc/containerd/config.toml"
PROGRAMS = ("containerd", "ctr", "containerd-shim-runc-v2", "runc")
UNIT = "containerd.service"

CONFIG_VERSION = 4
"""The version of the configuration format in containerd 2.3; the catalogue has no older release."""


def configuration(images: Mapping[str, str], *, registries: bool = False) -> dict[str, Any]:
    """The configuration; ``images`` maps names to references of images that must never be removed.

    ``registries`` says whether there are files about registries.

    The image named ``sandbox`` is for the first container of every pod. In the setting
    ``sandbox_image``, which is its place up to version 2, containerd ignores the reference and
    requests registry.k8s.io/pause.
    """
    runc = {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}}
    return {
        "version": CONFIG_VERSION,
        "plugins": {
            "io.containerd.cri.v1.images": {
                "pinned_images": dict(sorted(images.items())),
                **({"registry": {"config_path": CONTAINERD}} if registries else {}),
            },
            "io.containerd.cri.v1.runtime": {
                "containerd": {"default_runtime_name": "runc", "runtimes": {"runc": runc}},
                "cni": {"bin_dirs": [cni.PROGRAMS_FOLDER], "conf_dir": cni.FOLDER},
            },
            "io.containerd.server.v1.grpc": {"address": SOCKET},
        },
    }


def files(spec: Cluster, images: Mapping[str, str]) -> tuple[File, ...]:
    """The configuration, and the files about registries, which containerd reads at each pull."""
    registries = of_containerd(spec)
    content = tomli_w.dumps(configuration(images, registries=bool(registries)))
    return (File(path=CONFIG, content=content), *registries)


def programs(spec: Cluster) -> tuple[Artifact, ...]:
    """The programs of containerd and runc."""
    return artifacts(spec, PROGRAMS)


def unit(spec: Cluster) -> Unit:
    """The service; pods continue to run when it ends."""
    return Unit(
        name=UNIT,
        description="containerd",
        program=artifact(spec, "containerd").command.path,
        flags={"config": CONFIG},
        environment=web_proxy.environment(spec),
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
