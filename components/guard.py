"""Compares a machine with its plan and repairs the differences."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi import dynamic

from components.guarding import (
    DIFFERS,
    REPAIRS,
    Drifted,
    Guarding,
    demand,
    persevering,
    run_again,
    with_machine,
)
from plan import library, render
from plan.contents import ITEMS, STEPS, Contents, packed, unpacked
from plan.held import Difference, mending, secret_digests
from plan.item import RESTARTS, Item, Kind
from plan.limits import HARD
from plan.model import Material, NodePlan

if TYPE_CHECKING:
    from probe.machines import Machines

ROUNDS = 3
"""The most rounds of mending in one update. A round can reveal further differences: a service that
runs a wrong artifact still runs it after a step has corrected the file, and needs a restart."""

BACK = "cd /var/lib/hardway && find aside -type f -exec mv -t running {} + && rmdir aside"
"""Moves back the notes on running services that ``scripts/mend.sh`` has moved aside. If the notes
are lost, the services restart once more."""
RELOAD = "systemctl daemon-reload"
SHORT = 120 * HARD
"""Time limit in seconds of a quick command on the slowest machine."""


class GuardProvider(Guarding):
    """Compares the items of a machine with its plan over SSH."""

    digested_inputs = frozenset({"login", "items", "steps", "secrets"})

    def subject(self, props: Mapping[str, Any]) -> str:
        try:
            return str(json.loads(props["login"])["node"])
        except (KeyError, ValueError):
            return "a machine"

    def observe(self, props: Mapping[str, Any]) -> tuple[Difference, ...]:
        items = _items(props)

        async def look(machines: "Machines", node: str) -> tuple[Difference, ...]:
            from probe.observation import drifted

            return await drifted(machines, node, items, json.loads(props["secrets"]))

        return with_machine(props["login"], look)

    def mend(self, props: Mapping[str, Any], seen: Collection[str]) -> bool:
        from probe.machines import Unreachable

        contents = Contents(items=_items(props), steps=unpacked(STEPS, props["steps"]))
        secrets = json.loads(props["secrets"])

        async def work(machines: "Machines", node: str) -> bool:
            return bool(await mended(machines, node, contents, secrets, seen))

        return persevering(
            lambda: with_machine(props["login"], work),
            Unreachable,
            "it cannot be compared with its plan",
        )


# -- observing and mending a machine -------------------------------------------------------------


def _items(props: Mapping[str, Any]) -> tuple[Item, ...]:
    """The items in a guard's inputs or outputs. Raises Unreadable for another checkout's."""
    return unpacked(ITEMS, props.get("items", ""))


async def mended(
    machines: "Machines",
    node: str,
    contents: Contents,
    secrets: Mapping[str, str],
    seen: Collection[str] = (),
) -> tuple[Difference, ...]:
    """Mend the differing items and return them. Raises Drifted where an item still differs.

    Whether a VXLAN device leads to other nodes depends on those nodes, which may not be up yet, and
    a role may be about to leave. So a difference of these is mended only where a refresh has
    ``seen`` it, and only once. The readiness conditions check later whether that helped.
    """
    from probe.observation import drifted

    every: tuple[Difference, ...] = ()
    differing = await drifted(machines, node, contents.items, secrets)
    differing = tuple(
        difference
        for difference in differing
        if not _of_others(difference) or difference.item.key in seen
    )
    for _ in range(ROUNDS):
        if not differing:
            return every
        for difference in differing:
            print(f"{node}: {difference.sentence}", flush=True)
        await _mended(machines, node, differing, contents)
        every, before = every + differing, differing
        differing = await drifted(machines, node, contents.items, secrets)
        differing = tuple(difference for difference in differing if not _of_others(difference))
        if differing == before:  # the same again would not help
            break
    # No step can mend a service that systemd starts again and again. Such a service may also wait
    # for a later step, so the readiness conditions check it.
    if all(RESTARTS in difference.observed for difference in differing):
        return every
    raise Drifted(
        "\n".join(
            f"{node}: {difference.sentence}, after its step ran again" for difference in differing
        )
    )


def _of_others(difference: Difference) -> bool:
    return difference.item.kind in (Kind.VXLAN, Kind.ROLE)


async def _mended(
    machines: "Machines", node: str, differing: Sequence[Difference], contents: Contents
) -> None:
    """Run exactly the steps that bring about the differing items."""
    plan = mending(
        differing, contents.items, (library.NAME, *(step.name for step in contents.steps))
    )
    if plan.restarts or plan.marks or plan.aside:
        arguments = (*plan.restarts, "--", *plan.marks, "--", *plan.aside)
        done = await machines.run(node, library.script("mend"), *arguments, timeout=SHORT)
        demand(done, f"{node}: what was put beside its plan cannot be taken away")
    if library.NAME in plan.steps:
        print(f"{node}: the scripts of the steps are laid down again", flush=True)
        done = await machines.run(
            node, f"exec {library.LAY_DOWN}", timeout=SHORT, input=library.laid_down()
        )
        demand(done, f"{node}: the scripts of the steps cannot be laid down")
    for role in (
        difference.item.name for difference in differing if difference.item.kind is Kind.ROLE
    ):
        print(f"{node}: the role {role} is taken away", flush=True)
        done = await machines.run(node, render.leaving(role), timeout=SHORT)
        demand(done, f"{node}: the role {role} cannot be taken away")
    for step in (step for step in contents.steps if step.name in plan.steps):
        await run_again(machines, node, step)
        if plan.aside and step.secret:
            done = await machines.run(node, BACK, timeout=SHORT)
            demand(done, f"{node}: what its services run with is not noted again")
    if plan.reload:
        done = await machines.run(node, RELOAD, timeout=SHORT)
        demand(done, f"{node}: systemd does not read its units again")


# -- the guard's inputs --------------------------------------------------------------------------


def secrets(plan: NodePlan, material: Material) -> str:
    """The digests of the plan's secret files by path, as JSON."""
    return json.dumps(secret_digests(plan, material), sort_keys=True)


def login(node: str, access: Mapping[str, Any], ssh_key: str) -> str:
    """The login as JSON; ``access`` has the fields of ``probe.access.MachineAccess``."""
    return json.dumps({"node": node, "access": dict(access), "ssh_key": ssh_key})


class Guard(dynamic.Resource, module="hardway", name="Guard"):
    """Compares a machine with its plan at each refresh and after each change of the plan."""

    repairs: pulumi.Output[int]
    """How many updates mended something. ``Ready`` takes this number as an input, so that it waits
    for the conditions again after a repair."""

    def __init__(
        self,
        name: str,
        *,
        login: pulumi.Input[str],
        contents: pulumi.Input[Contents],
        secrets: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        """All inputs are secret; previews can show what differs after a refresh."""
        whole = pulumi.Output.secret(contents)
        super().__init__(
            GuardProvider(),
            name,
            {
                DIFFERS: {},
                "login": pulumi.Output.secret(login),
                "items": whole.apply(lambda whole: packed(ITEMS, whole.items)),
                "steps": whole.apply(lambda whole: packed(STEPS, whole.steps)),
                "secrets": pulumi.Output.secret(secrets),
                REPAIRS: None,
            },
            opts,
        )
