"""Declares machines that exist already: nothing makes them, and they are handed back."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi import dynamic

from certs.tracked import Checked
from hypervisors.port import ClusterKey, Seed, Subnet
from probe.access import MachineAccess, login_values
from spec.cluster import Machine
from spec.hypervisor import Existing

if TYPE_CHECKING:
    from hypervisors.existing.attachment import Attachment


OTHERS = "otherKeys"
"""The input with the keys that are let in as well, as JSON; secret."""


class ExistingMachineProvider(Checked):
    """Attaches a machine to a cluster, and hands it back when the resource is deleted.

    The resource's ID is the machine's identifier, which stays as long as its installation.
    """

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        from hypervisors.existing.attachment import attached

        return dynamic.CreateResult(attached(_member(props)), dict(props))

    def update(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.UpdateResult:
        from hypervisors.existing.attachment import moved

        moved(_member(olds), _member(news), id_, lambda line: print(line, flush=True))
        return dynamic.UpdateResult(dict(news))

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        from hypervisors.existing.attachment import identifier_of
        from probe.machines import Unreachable

        # An exception here would end the whole refresh, as in components/guard.py.
        try:
            identifier = identifier_of(_member(props))
        except Unreachable as error:
            print(f"warning: {error}, so nobody knows whether it is a member still", flush=True)
            return dynamic.ReadResult(id_, props)
        # A resource without an ID is gone: the next update attaches the machine again.
        return dynamic.ReadResult(id_ if identifier == id_ else "", props)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        from hypervisors.existing.attachment import handed_back

        handed_back(_member(_props), lambda line: print(line, flush=True))


def _member(props: Mapping[str, Any]) -> "Attachment":
    # Imported here, since SSH is a quarter of what a preview would import.
    from certs.ssh import SshKeyPair
    from hypervisors.existing.attachment import Attachment

    return Attachment(
        cluster=props["cluster"],
        machine=props["machine"],
        access=MachineAccess.read(props["access"]),
        public_key=props["publicKey"],
        private_key=props["privateKey"],
        others=tuple(SshKeyPair(**pair) for pair in json.loads(props.get(OTHERS) or "[]")),
    )


class ExistingMachine(dynamic.Resource, module="hardway", name="ExistingMachine"):
    """A machine's membership in a cluster, from the first login to the last."""

    def __init__(
        self,
        name: str,
        *,
        cluster: str,
        access: Mapping[str, Any],
        key: ClusterKey,
        others: Sequence[ClusterKey] = (),
        opts: pulumi.ResourceOptions,
    ) -> None:
        """``access`` has the fields of ``probe.access.MachineAccess``."""
        pairs = [{"public": pair.public, "private": pair.private} for pair in others]
        # A single key leaves no input, as in states from before there could be another one.
        more: dict[str, pulumi.Output[str]] = {}
        if pairs:
            more[OTHERS] = pulumi.Output.secret(pulumi.Output.json_dumps(pairs).apply(str))
        super().__init__(
            ExistingMachineProvider(),
            name,
            {
                "cluster": cluster,
                "machine": name,
                "access": access,
                "publicKey": key.public,
                "privateKey": pulumi.Output.secret(key.private),
                **more,
            },
            opts,
        )


class ExistingMachines:
    """The machines that exist already and are reached in the same way."""

    def __init__(self, spec: Existing, parent: pulumi.Resource, label: str = "") -> None:
        del label, parent  # there is no provider that its machines share
        self._spec = spec

    def network(self, subnet: Subnet, parent: pulumi.Resource) -> pulumi.Output[str]:
        """Make nothing: the machines have their network; its addresses identify it."""
        del parent
        return pulumi.Output.from_input(str(subnet.addresses))

    def machine(
        self,
        name: str,
        spec: Machine,
        *,
        domain: str,
        network: pulumi.Input[str],
        bridge: str | None = None,
        mac: str,
        seed: Seed,
        key: ClusterKey,
        others: Sequence[ClusterKey] = (),
        parent: pulumi.Resource,
    ) -> pulumi.CustomResource:
        """Attach the machine to the cluster; its hostname and its network stay as they are."""
        settings = self._spec.login(spec.address)
        return ExistingMachine(
            name,
            cluster=domain.removesuffix(f"-{name}"),
            access={
                "address": str(spec.address),
                "host_key": settings.host_key,
                **login_values(settings),
            },
            key=key,
            others=others,
            opts=pulumi.ResourceOptions(parent=parent),
        )
