"""A component for each role that a machine can have in the cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.machine import MachineComponent


@dataclass(frozen=True, kw_only=True)
class RoleArgs:
    """The machine that takes the role."""

    machine: MachineComponent
    after: Sequence[pulumi.Input[pulumi.Resource]] = ()
    """Resources that must exist before the role's last step, besides the machine's own steps."""
    founders: pulumi.Output[tuple[str, ...]] | None = None
    """The members of etcd that may begin the cluster; only a member needs them."""


class _Role(pulumi.ComponentResource):
    """Runs steps of the machine's plan one after the other, after the machine's own steps."""

    steps: tuple[str, ...]

    done: pulumi.Resource
    """The last step of the role. It ends when the role's services are healthy."""

    def __init__(
        self, name: str, args: RoleArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"hardway:index:{type(self).__name__}", name, None, opts)
        self.done = args.machine.identified
        for step in self.steps:
            others = args.after if step == self.steps[-1] else ()
            self.done = args.machine.step(
                step,
                parent=self,
                after=[self.done, *others],
                leaves=True,
                founders=args.founders,
            )
        self.register_outputs({})


class EtcdMember(_Role):
    """A member of etcd. All first members start at once, since no single one becomes healthy.

    Later ones join: their steps end once they have a vote, and have etcd remove those that leave.
    """

    steps = ("etcd",)


class ControlPlane(_Role):
    """A control plane: API server, controller manager and scheduler."""

    steps = ("control-plane",)


class BackupMaker(_Role):
    """The member that makes backups of etcd."""

    steps = ("backup",)


class Minion(_Role):
    """A node: container runtime, kubelet, kube-proxy and flannel. Every control plane is a node."""

    steps = ("runtime", "node")
