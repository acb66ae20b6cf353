"""What a machine is in the cluster: a component for each of its roles."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.machine import MachineComponent


@dataclass(frozen=True, kw_only=True)
class RoleArgs:
    """The machine that takes the role."""

    machine: MachineComponent
    after: Sequence[pulumi.Resource] = ()
    """What must be done before the last of the steps, beside the machine's own steps."""


class _Role(pulumi.ComponentResource):
    """Steps of the machine's plan, one after the other, once the machine knows who it is."""

    steps: tuple[str, ...]

    done: pulumi.Resource
    """The last of its steps: its component is healthy."""

    def __init__(
        self, name: str, args: RoleArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"hardway:index:{type(self).__name__}", name, None, opts)
        self.done = args.machine.identified
        for step in self.steps:
            others = args.after if step == self.steps[-1] else ()
            self.done = args.machine.step(step, parent=self, after=[self.done, *others])
        self.register_outputs({})


class EtcdMember(_Role):
    """A member of etcd. All first members start at once: none of them is healthy alone."""

    steps = ("etcd",)


class ControlPlane(_Role):
    """API server, controller manager and scheduler."""

    steps = ("control-plane",)


class Minion(_Role):
    """A node: container runtime, kubelet, kube-proxy and flannel; every control plane is one."""

    steps = ("runtime", "node")
