"""The component of a whole cluster, from its network to the readiness conditions."""

from collections.abc import Mapping
from typing import Any

import pulumi

from certs.table import FOR_PEOPLE, authority_numbers, held_by
from certs.tracked import (
    TrackedAuthorities,
    TrackedBackupKeys,
    TrackedBundle,
    TrackedPasswordSeed,
    TrackedSshKeys,
)
from components.machine import MachineArgs, MachineComponent, together
from components.network import Network, NetworkArgs
from components.objects import Objects
from components.ready import Ready
from components.roles import BackupMaker, ControlPlane, EtcdMember, Minion, RoleArgs
from components.specification import Specification
from hypervisors.makers import makers
from hypervisors.port import Hypervisor
from plan import backup
from plan.addons import ADMIN, declared
from plan.addons.catalogue import certificates, has_passwords
from plan.cluster import cluster_plan
from plan.held import compared
from plan.material import admin_kubeconfig
from spec import resource_names
from spec.cluster import Cluster as ClusterSpec


class ClusterComponent(pulumi.ComponentResource):
    """Machines on their network, etcd, control planes, nodes and add-ons, ready to be used."""

    kubeconfig: pulumi.Output[str]
    """The kubeconfig of the cluster's admin: secret, and available once the cluster is ready."""

    def __init__(
        self,
        spec: ClusterSpec,
        opts: pulumi.ResourceOptions | None = None,
        *,
        passwords: pulumi.Input[str] = "{}",
        bucket_key: pulumi.Input[str] = "{}",
    ) -> None:
        super().__init__("hardway:index:Cluster", spec.name, None, opts)
        self.spec = spec
        self._passwords = pulumi.Output.secret(passwords)
        self._bucket_key = pulumi.Output.secret(bucket_key)
        self.plan = cluster_plan(spec)
        specification = Specification(spec, pulumi.ResourceOptions(parent=self))
        self._child = pulumi.ResourceOptions(parent=self, depends_on=[specification])
        self._authorities = TrackedAuthorities(
            resource_names.AUTHORITIES,
            self._child,
            encryption=spec.key_numbers.encryption,
            service_accounts=spec.key_numbers.service_accounts,
            authorities=authority_numbers(spec),
        )
        self._people = TrackedBundle(
            resource_names.PEOPLE_KEYS,
            (*FOR_PEOPLE, *certificates(spec)),
            self._authorities,
            self._child,
        )
        self._ssh_keys = TrackedSshKeys(resource_names.SSH_KEY, self._child, spec.ssh_key_numbers)
        self.ssh_key = self._ssh_keys.private
        self._backup_keys = TrackedBackupKeys(resource_names.BACKUP_KEYS, self._child)
        self._password_seed = self._seed()
        machines = self._machines(makers(spec, self))
        roles = self._roles(machines, specification)
        self.nodes: dict[str, Any] = {
            name: {
                "address": str(spec.machines[name].address),
                "roles": sorted(spec.machines[name].roles),
                **machine.access,
            }
            for name, machine in machines.items()
        }
        self.kubeconfig = self._ready(machines, roles).kubeconfig
        self.register_outputs({"nodes": self.nodes})

    def _seed(self) -> pulumi.Output[str]:
        """The seed of passwords, which only a stack with an add-on that has a login keeps."""
        if not has_passwords(self.spec):
            return pulumi.Output.secret("")
        return TrackedPasswordSeed(resource_names.PASSWORD_SEED, self._child).kept

    def _machines(self, hypervisors: Mapping[str, Hypervisor]) -> dict[str, MachineComponent]:
        spec = self.spec
        networks = self._networks(hypervisors)
        return {
            name: MachineComponent(
                name,
                MachineArgs(
                    cluster=spec.name,
                    spec=machine,
                    login=spec.login_of(name),
                    plan=self.plan.nodes[name],
                    certificates=held_by(spec, name),
                    network=networks[name].identifier,
                    addresses=spec.subnet_of(name),
                    bridge=spec.networks.bridge,
                    gateway=spec.networks.gateway_of(spec.subnet_of(name)),
                    hypervisor=hypervisors[name],
                    ssh_keys=self._ssh_keys,
                    authorities=self._authorities,
                    passwords=self._passwords,
                    backup_keys=self._backup_keys,
                    bucket_key=self._bucket_key,
                    password_seed=self._password_seed,
                ),
                self._child,
            )
            for name, machine in spec.machines.items()
        }

    def _networks(self, hypervisors: Mapping[str, Hypervisor]) -> dict[str, Network]:
        """The network of each machine: one for each subnet in each place."""
        spec = self.spec
        made: dict[str, Network] = {}
        for name, hypervisor in hypervisors.items():
            label = spec.network_label_of(name)
            if label not in made:
                made[label] = Network(
                    NetworkArgs(
                        cluster=spec.name,
                        addresses=spec.subnet_of(name),
                        label=label,
                        is_routed=bool(spec.networks.routed),
                        bridge=spec.networks.bridge,
                        hypervisor=hypervisor,
                    ),
                    self._child,
                )
        return {name: made[spec.network_label_of(name)] for name in hypervisors}

    def _roles(
        self,
        machines: Mapping[str, MachineComponent],
        specification: Specification,
    ) -> list[pulumi.Resource]:
        """Give the machines their roles; return the steps after which all machines have them."""
        spec = self.spec
        founders = specification.founding
        members = [
            EtcdMember(name, RoleArgs(machine=machines[name], founders=founders), self._child).done
            for name in spec.etcd_members
        ]
        # The members that stay answer for etcd. So API servers do not wait until a member that
        # joins has its machine, and they stop asking a member that leaves before it goes. They do
        # wait for one with a control plane, which has to be well before the others restart.
        answering = [
            step if name in spec.control_planes else specification.unless_joining(name, step)
            for name, step in zip(spec.etcd_members, members, strict=True)
        ]
        first = spec.control_planes[0]
        # An API server that starts may use a new key only once all that run know it, which the
        # steps with keys of all control planes see to.
        identified = [machines[name].identified for name in spec.control_planes]
        planes = {
            name: ControlPlane(
                name, RoleArgs(machine=machines[name], after=[*answering, *identified]), self._child
            ).done
            for name in spec.control_planes
        }
        apply, labels = self.plan.add_ons
        applied = machines[first].run(
            apply, parent=self, after=[planes[first]], bundle=self._people
        )
        # On a control plane the API server starts before the kubelet, since all other nodes wait
        # for the API. flanneld reads its network only when it starts, so where etcd stores the
        # network, etcd comes before the nodes.
        network = members if spec.flannel.store == "etcd" else []
        before: dict[str, list[pulumi.Input[pulumi.Resource]]] = {
            name: [plane] for name, plane in planes.items()
        }
        nodes = [
            Minion(
                name, RoleArgs(machine=machines[name], after=before.get(name, network)), self._child
            ).done
            for name in spec.nodes
        ]
        backups = [
            BackupMaker(name, RoleArgs(machine=machines[name], after=members), self._child).done
            for name in spec.machines
            if name == backup.member(spec)
        ]
        self._guards = {
            name: machine.guard(compared(spec, self.plan.nodes[name]))
            for name, machine in machines.items()
        }
        self._objects = Objects(
            resource_names.OBJECTS,
            declared=declared(spec),
            kubeconfig=self._kubeconfig(ADMIN),
            login=machines[first].login,
            step=machines[first].command(apply, self._people),
            # The machine is mended first, since the step uses the scripts there.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[applied, self._guards[first]]),
        )
        # One step labels all nodes after they have registered, so that no node waits for the step
        # of another.
        labelled = machines[first].run(
            labels, parent=self, after=[*nodes, applied], bundle=self._people
        )
        return [*members, *planes.values(), *nodes, *backups, labelled]

    def _ready(
        self, machines: Mapping[str, MachineComponent], roles: list[pulumi.Resource]
    ) -> Ready:
        kubeconfig = self._kubeconfig("admin")
        access = pulumi.Output.json_dumps(
            {"nodes": self.nodes, "ssh_private_key": self.ssh_key, "kubeconfig": kubeconfig}
        )
        registers = {name: machine.certificates.register for name, machine in machines.items()}
        repairs = {name: guard.repairs for name, guard in self._guards.items()}
        return Ready(
            resource_names.READY,
            conditions=self.plan.conditions,
            changes={
                # A lost machine is created again with the same size, but with another ID.
                "machines": {name: machine.resource.id for name, machine in machines.items()},
                # Another size replaces the machine, or grows its disk.
                "sizes": {
                    name: f"{machine.cpus} CPU, {machine.memory} MiB, {machine.disk} GiB"
                    for name, machine in self.spec.machines.items()
                },
                "steps": {name: machine.digest for name, machine in machines.items()},
                "certificates": registers,
                "authorities": self._authorities.register,
                "repairs": repairs,
                "objects": self._objects.repairs,
            },
            access=access,
            kubeconfig=kubeconfig,
            opts=pulumi.ResourceOptions.merge(
                self._child, pulumi.ResourceOptions(depends_on=roles)
            ),
        )

    def _kubeconfig(self, certificate: str) -> pulumi.Output[str]:
        def text(authorities: str, people: str) -> str:
            return admin_kubeconfig(self.spec, authorities, people, certificate)

        return together(text, self._authorities.kept, self._people.kept)
