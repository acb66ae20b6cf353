"""What all guards have in common: they keep in the state what differs, and have it mended."""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pulumi import dynamic

from certs.tracked import Checked
from components.cancellation import pause, run
from plan import render
from plan.contents import StepCommand, Unreadable
from plan.held import Difference

if TYPE_CHECKING:
    from probe.machines import Done, Machines

T = TypeVar("T")

Seen = dict[str, dict[str, str]]
"""An item that differs, by its key: its observed and its wanted state."""
IS, SHOULD_BE = "is", "shouldBe"

ATTEMPTS, PAUSE = 12, 5
"""Attempts to reach a machine or the API after a change, and the seconds between two attempts: it
may not answer at once right after a step. A refresh tries only once, since it may be gone."""

DIFFERS, REPAIRS = "differs", "repairs"


class Drifted(Exception):
    """What a guard compares differs and cannot be repaired; one line for each reason."""


class Guarding(Checked):
    """Keeps in the state which items differ from the plan, and repairs them.

    A refresh observes the items; a preview without a refresh contacts nobody. The program wants
    that nothing differs, so an item that does is an ordinary change. An update then runs only the
    steps that bring about the differing items. Only an update needs the steps, and it has them from
    the program, so the state has no more than their digest. A refresh needs what is compared, and
    has that from the outputs.
    """

    digested = frozenset({"steps"})

    def subject(self, props: Mapping[str, Any]) -> str:
        """Who is asked, for messages."""
        raise NotImplementedError

    def observe(self, props: Mapping[str, Any]) -> tuple[Difference, ...]:
        """What differs. Raises Unreadable, and any other exception where nobody answers."""
        raise NotImplementedError

    def mend(self, props: Mapping[str, Any], seen: Collection[str]) -> bool:
        """Repair what differs and return whether anything did. Raises Drifted.

        ``seen`` has the keys of the items that differed at the last refresh; it is empty on
        creation.
        """
        raise NotImplementedError

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        made = super().create(props)
        outputs = {**self.outputs(props), REPAIRS: int(self.mend(self.whole(props), ()))}
        return dynamic.CreateResult(made.id, outputs)

    def update(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.UpdateResult:
        del id_
        mended = self.mend(self.whole(news), olds.get(DIFFERS) or ())
        repairs = int(olds.get(REPAIRS, 0)) + int(mended)
        return dynamic.UpdateResult({**self.outputs(news), REPAIRS: repairs})

    def diff(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        own = {key: value for key, value in olds.items() if key != REPAIRS}
        return super().diff(id_, own, news)

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        # An exception here would end the whole refresh, even where a person wants to repair this
        # very machine. So an error is printed as a warning, is not drift and leaves the state as
        # it was.
        try:
            differing = self.observe(props)
        except Unreadable as error:
            print(
                f"warning: {self.subject(props)} was not asked, since {error}; the next update "
                "compares it with today's plan",
                flush=True,
            )
            return dynamic.ReadResult(id_, props)
        except Exception as error:
            why = " ".join(str(error).split()) or type(error).__name__
            print(
                f"warning: {why}, so nobody knows what {self.subject(props)} holds now", flush=True
            )
            return dynamic.ReadResult(id_, props)
        seen: Seen = {
            difference.item.key: {IS: difference.observed, SHOULD_BE: difference.item.wanted}
            for difference in differing
        }
        if seen == props[DIFFERS]:
            return dynamic.ReadResult(id_, props)
        # The inputs get the differences as well, since the engine shows a difference between the
        # inputs in the state and those of the program.
        inputs = {key: value for key, value in self.inputs(props).items() if key != REPAIRS}
        return dynamic.ReadResult(id_, {**props, DIFFERS: seen}, {**inputs, DIFFERS: seen})


def persevering(ask: Callable[[], T], silence: type[Exception], consequence: str) -> T:
    """The first answer of several attempts. Raises Drifted after the last one.

    ``silence`` is what ``ask`` raises where nobody answers; ``consequence`` follows on its sentence
    in the error.
    """
    left = ATTEMPTS
    while True:
        try:
            return ask()
        except silence as error:
            left -= 1
            if not left:
                raise Drifted(f"{error}, so {consequence}") from error
        pause(PAUSE)


def with_machine(login: str, act: "Callable[[Machines, str], Awaitable[T]]") -> T:
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


async def run_again(machines: "Machines", node: str, step: StepCommand) -> None:
    """Run a step on a machine. Raises Drifted where it fails."""
    print(f"{node}: the step {step.name} runs again", flush=True)
    done = await machines.run(node, step.line, timeout=step.seconds, input=step.data)
    demand(done, f"{node}: the step {step.name} fails", hidden=step.secret)


def demand(done: "Done", sentence: str, *, hidden: bool = False) -> None:
    """Raises Drifted where a command failed."""
    if done.status != 0:
        why = render.failure(done.stderr) or done.reason
        if hidden:
            why = "what it said is not told, since it has keys"
        raise Drifted(f"{sentence} ({why}); ./hardway diagnose collects the rest")
