"""What every kind of thing goes through: it comes, goes, is cut off in between, and drifts."""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from plan import layout, render
from plan.contents import contents
from plan.held import GONE, THERE, secret_digests
from plan.model import Material, NodePlan, Source, Step
from tests.plan.container import Container
from tests.plan.guarded import NODE, GuardedMachine

STATE = layout.STATE
ROLE = "node"
"""The name of a step that a machine may have or not: its absence is observed as well."""
POINTS = 7
"""Commands at which a run is cut off, spread over all of them."""


def run(machine: Container, step: Step, material: Material | None = None) -> None:
    """Run a step, which prints nothing where it does its work."""
    done = machine.run(render.text(step, material))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def refused(machine: Container, step: Step, material: Material | None = None) -> str:
    """Run a step that cannot do its work, and return its sentence, or that of a program."""
    done = machine.run(render.text(step, material))
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr.removeprefix("failed: ")


def leaves(name: str = ROLE) -> str:
    """The text for a machine from whose plan a step of this name has gone."""
    return f"echo ready >{STATE}/plan\n{render.leaving(name)}\n"


def leave(machine: Container, name: str = ROLE) -> None:
    """Delete a step, as the engine does."""
    done = machine.run(leaves(name))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not machine.path(f"{STATE}/applied/{name}").exists()


def shell(machine: Container, text: str) -> subprocess.CompletedProcess[str]:
    """Do something to the machine by hand."""
    done = machine.run(text)
    assert done.returncode == 0, done.stderr
    return done


def touched(machine: Container, path: str) -> tuple[int, ...]:
    """What changes of a file whenever somebody writes to it, replaces it or gives it away."""
    status = machine.path(path).lstat()
    return status.st_ino, status.st_ctime_ns, status.st_mtime_ns


def no_material(source: Source) -> str:
    raise AssertionError(f"no secret is asked for: {source}")


def guarded(machine: Container, *steps: Step, material: Material = no_material) -> GuardedMachine:
    """The machine as the guard of a plan with these steps observes it."""
    plan = NodePlan(node=NODE, steps=steps)
    return GuardedMachine(machine, contents(plan, material), secret_digests(plan, material))


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Runs of a step that are cut off, on a machine that is brought back before each of them."""

    machine: Container
    step: Step
    before: str
    """A text for the machine's shell: from whatever state back to the one before the step."""
    state: Callable[[], object]
    """Reads what the step is about, and whatever a cut could leave there."""
    material: Material | None = None

    def end_alike(self) -> None:
        """See that the run after a cut ends where a run ends that was never cut off."""
        data = render.text(self.step, self.material)
        shell(self.machine, self.before)
        nothing = self.state()
        half = self.machine.run(data[: len(data) // 2])
        assert "did not come whole" in half.stderr
        assert self.state() == nothing, "data that did not come whole do nothing"
        commands = self.machine.commands(data)
        wanted = self.state()
        assert wanted != nothing
        self._each(data, data, commands, wanted)

    def leave_alike(self) -> None:
        """See the same of the step's end."""
        data, text = render.text(self.step, self.material), leaves(self.step.name)
        shell(self.machine, self.before)
        assert self.machine.run(data).returncode == 0
        commands = self.machine.commands(text)
        gone = self.state()
        self._each(text, text, commands, gone, first=data)

    def _each(
        self, cut: str, whole: str, commands: int, wanted: object, *, first: str | None = None
    ) -> None:
        killed = 0
        for point in range(POINTS):
            command = commands * (2 * point + 1) // (2 * POINTS)
            shell(self.machine, self.before)
            if first is not None:
                assert self.machine.run(first).returncode == 0
            killed += self.machine.run(cut, command=command).returncode != 0
            done = self.machine.run(whole)
            assert done.returncode == 0, f"command {command} of {commands}: {done.stderr}"
            assert self.state() == wanted, f"command {command} of {commands}"
        assert killed > POINTS // 2


def absence_is_observed(machine: Container, step: Step, material: Material = no_material) -> None:
    """See that a plan without the step differs as long as the machine has what the step brought."""
    assert step.name == ROLE
    run(machine, step, material)
    shell(machine, f"echo ready >{STATE}/plan")
    without = guarded(machine)
    key = f"role {ROLE}"
    assert without.observed() == {key: THERE}
    without.mend()
    assert without.observed() == {key: THERE}, "the engine may be about to delete the step"
    without.mend(seen=(key,))
    assert without.observed() == {}
    assert GONE not in without.observed().values()


def drift_is_mended(machine: GuardedMachine, drifts: Mapping[str, Mapping[str, str]]) -> None:
    """See that the guard observes what somebody did, and that its repair undoes it.

    ``drifts`` maps a text for the machine's shell to the keys of the items that differ afterwards,
    with what is observed.
    """
    machine.mend()
    assert machine.observed() == {}
    for done, observed in drifts.items():
        machine.shell(done)
        assert machine.observed() == observed, done
        machine.mend()
        assert machine.observed() == {}, done
