"""Compares a machine with its plan and repairs the differences."""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pulumi
from pulumi import dynamic

from certs.tracked import Checked
from components.cancellation import pause, run
from plan import library, render
from plan.contents import ITEMS, STEPS, Contents, Unreadable, packed, unpacked
from plan.held import Difference, mending, secret_digests
from plan.item import RESTARTS, Item, Kind
from plan.limits import HARD
from plan.model import Material, NodePlan

if TYPE_CHECKING:
    from probe.machines import Done, Machines

T = TypeVar("T")

Seen = dict[str, dict[str, str]]
"""An item that differs, by its key: its observed and its wanted state."""
IS, SHOULD_BE = "is", "shouldBe"

ROUNDS = 3
"""The most rounds of mending in one update. A round can reveal further differences: a service that
runs a wrong artifact still runs it after a step has corrected the file, and needs a restart."""

ATTEMPTS, PAUSE = 12, 5
"""Attempts to reach a machine after a change, and the seconds between two attempts: a machine may
not answer at once right after a step. A refresh tries only once, since the machine may be gone."""

BACK = "cd /var/lib/hardway && find aside -type f -exec mv -t running {} + && rmdir aside"
"""Moves back the notes on running services that ``scripts/mend.sh`` has moved aside. If the notes
are lost, the services restart once more."""
RELOAD = "systemctl daemon-reload"
SHORT = 120 * HARD
"""Time limit in seconds of a quick command on the slowest machine."""
DIFFERS, REPAIRS = "differs", "repairs"


class Drifted(Exception):
    """A machine differs from its plan and cannot be repaired; one line for each reason."""


class GuardProvider(Checked):
    """Keeps in the state which items of a machine differ from its plan, and repairs them.

    A refresh reads the items from the machine; a preview without a refresh contacts no machine. The
    program wants that nothing differs, so an item that does is an ordinary change. An update then
    runs only the steps that bring about the differing items. Only an update needs the steps, and it
    has them from the program, so the outputs have no more than their digest.
    """

    digested = frozenset({"steps"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        made = super().create(props)
        outputs = {**self.outputs(props), REPAIRS: _made_so(props, ())}
        return dynamic.CreateResult(made.id, outputs)

    def update(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.UpdateResult:
        del id_
        repairs = int(olds.get(REPAIRS, 0)) + _made_so(news, olds.get(DIFFERS) or ())
        return dynamic.UpdateResult({**self.outputs(news), REPAIRS: repairs})

    def diff(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        own = {key: value for key, value in olds.items() if key != REPAIRS}
        return super().diff(id_, own, news)

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        # An exception here would end the whole refresh, even where a person wants to repair this
        # very machine. So an error is printed as a warning, is not drift and leaves the state as
        # it was.
        try:
            seen = _seen(props)
        except Unreadable as error:
            print(
                f"warning: {_node(props)} was not asked, since {error}; the next update compares "
                "it with today's plan",
                flush=True,
            )
            return dynamic.ReadResult(id_, props)
        except Exception as error:
            why = " ".join(str(error).split()) or type(error).__name__
            print(f"warning: {why}, so nobody knows what {_node(props)} holds now", flush=True)
            return dynamic.ReadResult(id_, props)
        if seen == props[DIFFERS]:
            return dynamic.ReadResult(id_, props)
        # The inputs get the differences as well, since the engine shows a difference between the
        # inputs in the state and those of the program. The digest of the steps replaces the steps
        # there until the next update.
        inputs = {key: value for key, value in props.items() if key != REPAIRS}
        return dynamic.ReadResult(id_, {**props, DIFFERS: seen}, {**inputs, DIFFERS: seen})


def _node(props: Mapping[str, Any]) -> str:
    """The machine's name, or "a machine" where the login in the state cannot be read."""
    try:
        return str(json.loads(props["login"])["node"])
    except (KeyError, ValueError):
        return "a machine"


# -- observing and mending a machine -------------------------------------------------------------


def _seen(props: Mapping[str, Any]) -> Seen:
    """What each item that differs is and should be, by the item's key. Raises Unreachable."""
    items = _items(props)

    async def look(machines: "Machines", node: str) -> Seen:
        from probe.observation import drifted

        differing = await drifted(machines, node, items, json.loads(props["secrets"]))
        return {
            difference.item.key: {IS: difference.observed, SHOULD_BE: difference.item.wanted}
            for difference in differing
        }

    return _with_machine(props["login"], look)


def _items(props: Mapping[str, Any]) -> tuple[Item, ...]:
    """The items in a guard's inputs or outputs. Raises Unreadable for another checkout's."""
    return unpacked(ITEMS, props.get("items", ""))


def _made_so(props: Mapping[str, Any], seen: Collection[str]) -> int:
    """Mend the differing items; return 1 if any item differed, else 0. Raises Drifted.

    ``seen`` has the keys of the items that differed at the last refresh; it is empty on creation.
    """
    from probe.machines import Unreachable

    contents = Contents(items=_items(props), steps=unpacked(STEPS, props["steps"]))
    secrets = json.loads(props["secrets"])

    async def mend(machines: "Machines", node: str) -> int:
        return int(bool(await mended(machines, node, contents, secrets, seen)))

    left = ATTEMPTS
    while True:
        try:
            return _with_machine(props["login"], mend)
        except Unreachable as error:
            left -= 1
            if not left:
                raise Drifted(f"{error}, so it cannot be compared with its plan") from error
        pause(PAUSE)


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
        _demand(done, f"{node}: what was put beside its plan cannot be taken away")
    if library.NAME in plan.steps:
        print(f"{node}: the scripts of the steps are laid down again", flush=True)
        done = await machines.run(
            node, f"exec {library.LAY_DOWN}", timeout=SHORT, input=library.laid_down()
        )
        _demand(done, f"{node}: the scripts of the steps cannot be laid down")
    for role in (
        difference.item.name for difference in differing if difference.item.kind is Kind.ROLE
    ):
        print(f"{node}: the role {role} is taken away", flush=True)
        done = await machines.run(node, render.leaving(role), timeout=SHORT)
        _demand(done, f"{node}: the role {role} cannot be taken away")
    for step in (step for step in contents.steps if step.name in plan.steps):
        print(f"{node}: the step {step.name} runs again", flush=True)
        done = await machines.run(node, step.line, timeout=step.seconds, input=step.data)
        _demand(done, f"{node}: the step {step.name} fails", hidden=step.secret)
        if plan.aside and step.secret:
            done = await machines.run(node, BACK, timeout=SHORT)
            _demand(done, f"{node}: what its services run with is not noted again")
    if plan.reload:
        done = await machines.run(node, RELOAD, timeout=SHORT)
        _demand(done, f"{node}: systemd does not read its units again")


def _demand(done: "Done", sentence: str, *, hidden: bool = False) -> None:
    """Raises Drifted where a command failed."""
    if done.status != 0:
        why = render.failure(done.stderr) or done.reason
        if hidden:
            why = "what it said is not told, since it has keys"
        raise Drifted(f"{sentence} ({why}); ./hardway diagnose collects the rest")


def _with_machine(login: str, act: "Callable[[Machines, str], Awaitable[T]]") -> T:
    """Connect to the machine of a login and call ``act`` with it."""
    # Imported here, since SSH is a quarter of what a preview would import, and a preview contacts
    # no machine.
    from probe.access import Access, MachineAccess
    from probe.machines import Machines

    values = json.loads(login)
    node, machine = values["node"], MachineAccess.read(values["access"])
    access = Access(machines={node: machine}, ssh_key=values["ssh_key"])

    async def whole() -> T:
        async with Machines(access) as machines:
            return await act(machines, node)

    return run(whole())


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
