"""The CNI plugins that create pods' interfaces, and the list that needs flannel's subnet."""

import json
from typing import Any

from plan import layout
from plan.artifact import artifacts
from plan.model import Artifact, Directory, File, Link
from plan.program import program
from spec.cluster import Cluster

PROGRAMS_FOLDER = "/opt/cni/bin"
FOLDER = "/etc/cni/net.d"
PROGRAMS = ("bridge", "host-local", "loopback", "portmap")

TEMPLATE = f"{layout.KUBERNETES}/cni.json"
"""The list without the two values that come from flannel: the node's subnet and the network's
packet size."""
LIST = f"{FOLDER}/10-hardway.conflist"
SUBNET_FILE = "/run/flannel/subnet.env"
"""The file to which flannel writes both values."""

RENDER = program("render-cni")


def after_flannel() -> str:
    """An ``ExecStartPost`` line that writes the list, unless the list is right already."""
    return f"{RENDER.path} {TEMPLATE} {SUBNET_FILE} {LIST}"


def template(spec: Cluster) -> dict[str, Any]:
    """A CNI network list 1.0.0 with the placeholders ``@SUBNET@`` and ``@MTU@``."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "isDefaultGateway": True,
        # A node that lost its subnet gets another one, and its bridge must take the new address.
        "forceAddress": True,
        "ipMasq": False,  # flannel does it
        "hairpinMode": True,
        "mtu": "@MTU@",
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "@SUBNET@"}]],
            # In /run, since the addresses must be gone after a reboot, as the pods' interfaces are.
            "dataDir": "/run/cni/addresses",
        },
    }
    portmap = {
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "backend": spec.proxy_mode,
    }
    return {"cniVersion": "1.0.0", "name": "hardway", "plugins": [bridge, portmap]}


def files(spec: Cluster) -> tuple[File, ...]:
    """The template and the program that fills it."""
    return (File(path=TEMPLATE, content=json.dumps(template(spec), indent=2) + "\n"), RENDER)


def directories() -> tuple[Directory, ...]:
    """The directory in which the container runtime looks for the list."""
    return (Directory(path=FOLDER),)


def programs(spec: Cluster) -> tuple[Artifact, ...]:
    """The plugins that the list names, and the one for a pod's own loopback interface."""
    return artifacts(spec, PROGRAMS)


def links(spec: Cluster) -> tuple[Link, ...]:
    """Links to the plugins in the directory in which the container runtime looks for them."""
    return tuple(
        Link(path=f"{PROGRAMS_FOLDER}/{plugin.name}", target=plugin.store_path)
        for plugin in programs(spec)
    )
