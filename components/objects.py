"""Compares the objects in the API with those that are declared, and has them applied again."""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi import dynamic

from components.cancellation import run
from components.guarding import (
    DIFFERS,
    REPAIRS,
    Drifted,
    Guarding,
    persevering,
    run_again,
    with_machine,
)
from plan.contents import OBJECTS, STEPS, StepCommand, packed, unpacked
from plan.declared import DeclaredObject
from plan.held import Difference

if TYPE_CHECKING:
    from probe.machines import Machines


class ObjectsProvider(Guarding):
    """Compares the objects through the API, and repairs them by their step on a control plane."""

    digested_inputs = frozenset({"objects", "kubeconfig", "login", "steps"})

    def subject(self, props: Mapping[str, Any]) -> str:
        del props
        return "the API"

    def observe(self, props: Mapping[str, Any]) -> tuple[Difference, ...]:
        # Imported here, since a preview asks no API.
        from probe.objects import differing

        declared = unpacked(OBJECTS, props["objects"])
        return run(differing(props["kubeconfig"], declared))

    def mend(self, props: Mapping[str, Any], seen: Collection[str]) -> bool:
        from probe.api import ApiError
        from probe.machines import Unreachable

        (step,) = unpacked(STEPS, props["steps"])

        def differences() -> tuple[Difference, ...]:
            return persevering(
                lambda: self.observe(props), ApiError, "its objects cannot be compared"
            )

        async def work(machines: "Machines", node: str) -> None:
            await run_again(machines, node, step)

        try:
            differing = differences()
        except Drifted as error:
            if seen:
                raise
            # Their step has applied them, and Ready has more patience with a busy API.
            print(f"warning: {error}; ./hardway drift compares them later", flush=True)
            return False
        if not differing:
            return False
        for difference in differing:
            print(f"{self.subject(props)}: {difference.sentence}", flush=True)
        persevering(
            lambda: with_machine(props["login"], work),
            Unreachable,
            f"the step {step.name} cannot run again",
        )
        if differing := differences():
            raise Drifted(
                "\n".join(
                    f"{self.subject(props)}: {difference.sentence}, after its step ran again"
                    for difference in differing
                )
            )
        return True


class Objects(dynamic.Resource, module="hardway", name="Objects"):
    """Compares the cluster's objects at each refresh and after each change of what is declared."""

    repairs: pulumi.Output[int]
    """How many updates mended something, as ``Guard.repairs``."""

    def __init__(
        self,
        name: str,
        *,
        declared: Iterable[DeclaredObject],
        kubeconfig: pulumi.Input[str],
        login: pulumi.Input[str],
        step: pulumi.Input[StepCommand],
        opts: pulumi.ResourceOptions,
    ) -> None:
        """All inputs are secret, as those of a ``Guard``.

        ``kubeconfig`` must give rights that no object gives, or whoever deletes that object is not
        noticed. ``login`` is that of the control plane on which ``step`` applies the objects.
        """
        super().__init__(
            ObjectsProvider(),
            name,
            {
                DIFFERS: {},
                "objects": pulumi.Output.secret(packed(OBJECTS, tuple(declared))),
                "kubeconfig": pulumi.Output.secret(kubeconfig),
                "login": pulumi.Output.secret(login),
                "steps": pulumi.Output.secret(step).apply(lambda step: packed(STEPS, (step,))),
                REPAIRS: None,
            },
            opts,
        )
