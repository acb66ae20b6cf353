"""A whole stack: what ``__main__.py`` declares."""

import json
import os
from pathlib import Path
from typing import Any

import pulumi

from certs.tracked import TrackedSshKey
from components.machine import Machine, MachineArgs
from components.network import Network, NetworkArgs
from hypervisors.libvirt import LibvirtHypervisor
from spec.cluster import Cluster as ClusterSpec
from spec.cluster import SpecError, parse
from spec.hypervisor import OFFER_VARIABLE, Libvirt


class Cluster(pulumi.ComponentResource):
    """All machines of a cluster on their network."""

    def __init__(self, spec: ClusterSpec, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("hardway:index:Cluster", spec.name, None, opts)
        where = spec.hypervisor or offered()
        if not isinstance(where, Libvirt):
            raise SpecError(
                f"hypervisor.kind {where.kind} cannot be used yet: write libvirt, or leave it out"
            )
        hypervisor = LibvirtHypervisor(where, self)
        child = pulumi.ResourceOptions(parent=self)
        network = Network(
            "machines",
            NetworkArgs(name=spec.name, addresses=spec.networks.machines, hypervisor=hypervisor),
            child,
        )
        user_key = TrackedSshKey("ssh-key", child)
        machines = {
            name: Machine(
                name,
                MachineArgs(
                    cluster=spec.name,
                    spec=machine,
                    network=network.identifier,
                    addresses=spec.networks.machines,
                    hypervisor=hypervisor,
                    user_key=user_key,
                ),
                child,
            )
            for name, machine in spec.machines.items()
        }
        self.ssh_key = user_key.private
        self.nodes: dict[str, Any] = {
            name: {"address": str(spec.machines[name].address), "host_key": machine.host_key}
            for name, machine in machines.items()
        }
        self.register_outputs({"nodes": self.nodes})


def offered() -> Libvirt:
    """The libvirt that this host's lab offers."""
    place = os.environ.get(OFFER_VARIABLE)
    if not place or not Path(place).is_file():
        raise SpecError(
            "hypervisor is not given and no lab offers one: run this through ./hardway, "
            "or write hypervisor.uri and hypervisor.image into hardway:cluster"
        )
    return Libvirt.model_validate(json.loads(Path(place).read_text()))


def declare() -> None:
    """Declare the stack from its configuration; its mistakes end the run in plain sentences."""
    try:
        spec = parse(pulumi.Config("hardway").require_object("cluster"), name=pulumi.get_stack())
        cluster = Cluster(spec)
    except SpecError as error:
        raise pulumi.RunError(str(error)) from error
    pulumi.export("nodes", cluster.nodes)
    pulumi.export("ssh_private_key", pulumi.Output.secret(cluster.ssh_key))
