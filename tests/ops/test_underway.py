"""How far an update is, from events as the engine writes them."""

import pytest

from hypervisors.libvirt.resources import DOMAIN
from ops.underway import REMINDER, WIDTH, Lines, Steps
from plan.cluster import outcomes
from preview import kinds
from tests.plan.golden import NAMES, golden_plan, golden_spec

URN = "urn:pulumi:dev::hardway::hardway:index:Cluster$command:remote:Command::"
READY = f"urn:pulumi:dev::hardway::hardway:index:Cluster${kinds.READY}::ready"
OUTCOMES = {
    "master-ready": "booted",
    "master-etcd": "etcd 3.7.1, healthy",
    "master-identity": "",
    "ready": "all conditions hold",
}


class SetClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class RecordedUpdate:
    """An update whose events a test writes, and what was told of it."""

    def __init__(self, before: float | None = None) -> None:
        self.lines: list[str] = []
        self.clock = SetClock()
        self.steps = Steps(OUTCOMES, before=before, ended=self.lines.append, clock=self.clock)

    def begin(self, name: str, op: str = "create") -> None:
        self._event("resourcePreEvent", name, op)

    def end(self, name: str, op: str = "create") -> None:
        self._event("resOutputsEvent", name, op)

    def fail(self, name: str) -> None:
        self._event("resOpFailedEvent", name, "create")

    def say(self, name: str, message: str) -> None:
        self.steps.see({"diagnosticEvent": {"urn": URN + name, "message": message}})

    def _event(self, kind: str, name: str, op: str) -> None:
        urn = READY if name == "ready" else URN + name
        self.steps.see({kind: {"metadata": {"urn": urn, "op": op}}})


def test_each_step_that_ends_is_a_line_with_what_it_did_and_its_time() -> None:
    update = RecordedUpdate()
    for name in ("master-disk", "master-ready", "master-identity"):
        update.begin(name)
    update.clock.now += 57.4
    for name in ("master-disk", "master-ready"):
        update.end(name)
    update.clock.now += 3
    update.end("master-identity")
    update.begin("master-etcd")
    update.fail("master-etcd")
    assert update.lines == [
        "1 of 4  master-ready: booted (57 s)",
        "2 of 4  master-identity: done (60 s)",
        "2 of 4  master-etcd failed after 0 s",
    ]


def test_a_step_that_stays_as_it_is_counts_and_is_no_line() -> None:
    update = RecordedUpdate()
    for op in ("refresh", "same"):
        update.begin("master-ready", op)
        update.end("master-ready", op)
    assert update.lines == []
    assert update.steps.line() == "1 of 4 steps, 0 s"


def test_one_line_says_what_is_waited_for_and_how_long_it_took_last_time() -> None:
    update = RecordedUpdate(before=226.4)
    update.begin("master-ready")
    update.say("master-ready", "<{%reset%}>boots, no SSH yet (20 s)<{%reset%}>\n")
    update.clock.now += 31
    assert update.steps.line() == (
        "0 of 4 steps, 31 s (last time 226 s), waiting for master-ready "
        "(31 s, boots, no SSH yet (20 s))"
    )
    update.end("master-ready")
    update.begin("master-identity")
    update.clock.now += 2
    update.begin("master-etcd")
    assert update.steps.line() == (
        "1 of 4 steps, 33 s (last time 226 s), waiting for master-identity (2 s), master-etcd (0 s)"
    )


def test_the_published_plugins_failures_of_a_machine_that_boots_are_put_into_the_same_words() -> (
    None
):
    update = RecordedUpdate()
    update.begin("master-ready")
    update.say("master-ready", "Dial 14/240 failed: retrying")
    assert update.steps.line().endswith("master-ready (0 s, boots, no SSH yet)")


def test_what_the_conditions_are_waited_for_is_said_by_the_last_step() -> None:
    """What a dynamic resource prints reaches the engine without its name."""
    update = RecordedUpdate()
    waiting = {"diagnosticEvent": {"message": "waiting until the nodes are Ready\n"}}
    update.steps.see(waiting)
    assert update.steps.line() == "0 of 4 steps, 0 s"
    update.begin("ready")
    update.steps.see(waiting)
    assert update.steps.line().endswith("waiting for ready (0 s, until the nodes are Ready)")


@pytest.mark.parametrize("kind", [kinds.MACHINE, "hardway:index:EtcdMember", DOMAIN])
def test_what_is_called_as_a_step_is_and_is_another_kind_is_none(kind: str) -> None:
    """People choose the names of machines."""
    update = RecordedUpdate()
    for name in ("ready", "master-etcd"):
        urn = f"urn:pulumi:dev::hardway::hardway:index:Cluster${kind}::{name}"
        for event in ("resourcePreEvent", "resOutputsEvent"):
            update.steps.see({event: {"metadata": {"urn": urn, "op": "create"}}})
    assert (update.lines, update.steps.line()) == ([], "0 of 4 steps, 0 s")


def test_the_line_has_room_for_some_of_many_and_says_how_many_more() -> None:
    names = [f"a-machine-with-a-long-name-{number}-control-plane" for number in range(9)]
    steps = Steps(dict.fromkeys(names, ""), before=1000, ended=print, clock=SetClock())
    for name in names:
        steps.see({"resourcePreEvent": {"metadata": {"urn": URN + name, "op": "create"}}})
        steps.see({"diagnosticEvent": {"urn": URN + name, "message": "x" * 200}})
        assert len(steps.line()) <= WIDTH, steps.line()
    assert steps.line().startswith("0 of 9 steps, 0 s (last time 1000 s), waiting for a-machine")


def test_an_update_that_is_begun_again_counts_from_its_beginning() -> None:
    update = RecordedUpdate()
    update.begin("master-ready")
    update.end("master-ready")
    update.clock.now += 40
    update.steps.see({"preludeEvent": {"config": {}}})
    assert update.steps.line() == "0 of 4 steps, 0 s"


def test_nothing_but_the_tree_is_taken_out_of_what_pulumi_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines()
    before = ["Updating (dev):"]
    tree = [" +  pulumi:pulumi:Stack hardway-dev creating (0s) ", "@ Updating....", ""]
    after = [
        "Diagnostics:",
        "  command:remote:Command (master-etcd):",
        "    error: the reason",
        "",
        "Resources:",
        "    + 52 created",
        "",
        "Duration: 5m17s",
    ]
    for line in [*before, *tree, "warning: said between", *tree, *after]:
        lines.pass_on(line)
    assert capsys.readouterr().out.splitlines() == [*before, "warning: said between", *after]


def test_where_nothing_ends_for_a_while_what_is_waited_for_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = SetClock()
    lines = Lines(clock)
    for _ in range(4):
        clock.now += REMINDER - 1
        lines.remind(lambda: "waiting")
        lines.remind(lambda: "waiting")
    assert capsys.readouterr().out.splitlines() == ["waiting", "waiting"]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_a_cluster_is_a_step(name: str) -> None:
    plan = golden_plan(name)
    steps = {
        f"{node}-{step.name}" for node, machine in plan.nodes.items() for step in machine.steps
    }
    first = golden_spec(name).control_planes[0]
    steps |= {f"{first}-{step.name}" for step in plan.add_ons}
    steps |= {f"{node}-scripts" for node in plan.nodes}
    assert outcomes(golden_spec(name)).keys() == steps
