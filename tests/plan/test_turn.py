"""One at a time: real members of etcd that several runs want to restart at once."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from plan import etcd, render
from tests.certs.clusters import APART, SINGLE
from tests.engine.stack import PATIENCE, eventually
from tests.plan import inline
from tests.plan.golden import NAMES, golden_plan, golden_spec
from tests.plan.limited import limited
from tests.plan.running import LocalCluster, LocalMachine, programs

MEMBERS = ("e1", "e2", "e3")


class RestartedMember:
    """A member that runs until it is told to start again, and what a step does to it."""

    def __init__(self, cluster: LocalCluster, name: str, path: Path) -> None:
        self.machine = LocalMachine(cluster, name)
        self.path = path
        self.step = etcd.step(APART, name)
        self.machine.furnish(self.step)
        unit = etcd.unit(APART, name)
        quick = {"heartbeat-interval": "100", "election-timeout": "1000"}
        self.unit = replace(unit, flags={**unit.flags, **quick})
        self.wanted = self.machine.root / "restart"
        self.ended = False
        self._systemctl()
        self.running = self._start()
        threading.Thread(target=self._serve, daemon=True).start()

    def _systemctl(self) -> None:
        """Says of the member what systemd would."""
        program = self.path / "systemctl"
        program.write_text(
            f'#!/bin/sh\nif kill -0 "$(cat {self.pid})" 2>/dev/null; then echo active; '
            "else echo inactive; exit 3; fi\n"
        )
        program.chmod(0o755)

    @property
    def pid(self) -> Path:
        return self.machine.root / "pid"

    def _start(self) -> subprocess.Popen[bytes]:
        with self.machine.log.open("ab") as log:
            process = subprocess.Popen(
                self.machine.command_line(self.unit), stdout=log, stderr=log, cwd=self.machine.root
            )
        self.pid.write_text(str(process.pid))
        return process

    def _serve(self) -> None:
        while not self.ended:
            if self.wanted.exists():
                self.stop()
                self.running = self._start()
                self.wanted.unlink()
            time.sleep(0.05)

    def stop(self) -> None:
        self.running.kill()
        self.running.wait()

    def start(self) -> None:
        self.running = self._start()

    def script(
        self, work: str = "", others_wait: int = 300, before: str = "", patience: int = 300
    ) -> str:
        """The words of the step up to its turn, the restart, and what else is done in the turn."""
        scripts = [
            name
            for name in render.used(self.step)
            if name not in ("pace", self.step.begin, self.step.script)
        ]
        functions = limited(inline.functions(*scripts), others_wait, "others-well")
        functions = limited(functions, patience, "silent")
        records = [fields.split("\t") for fields in render.text(self.step).splitlines()]
        turns = [shlex.join(fields) for fields in records if fields[0] in ("lock_at", "shared")]
        functions = "\n".join([functions, *turns])
        asked = f"own[{etcd.UNIT}]={self.step.turns[0].own}"
        # Every run takes a second longer than it needs: who does not wait runs into it.
        restart = (
            f"{before}\nin_turn {etcd.UNIT}\necho began $EPOCHREALTIME\n{work}\n"
            f"touch {self.wanted}\nwhile [ -e {self.wanted} ]; do sleep 0.05; done\n"
            f"{asked}\nback {etcd.UNIT}\nsleep 1\necho ended $EPOCHREALTIME\n"
        )
        text = self.machine.here(f"{functions}\n{restart}")
        return text.replace("export LC_ALL=C PATH=", f"export LC_ALL=C PATH={self.path}:")

    def run(self, **more: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-s"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(self.script(**more))  # type: ignore[arg-type]
        process.stdin.close()
        process.stdin = None
        return process

    def ctl(self, line: str, *, errors: bool = False) -> str:
        """What etcdctl says on the machine."""
        beginning = self.script().partition(f"in_turn {etcd.UNIT}\n")[0]
        text = f'{beginning}\n"${{lock_words[@]}}" {line}'
        done = subprocess.run(["bash", "-c", text], capture_output=True, text=True)
        return done.stderr if errors else done.stdout

    def well(self) -> None:
        text = f"{self.script().partition('in_turn ' + etcd.UNIT)[0]}\nanswers {etcd.UNIT} "
        text += f'"${{own[{etcd.UNIT}]}}"'
        eventually(
            "the member is well",
            lambda: not subprocess.run(["bash", "-c", text], capture_output=True).returncode,
            reason=lambda: self.machine.log.read_text()[-2000:],
        )


def pgrep(text: str) -> bool:
    return subprocess.run(["pgrep", "--full", text], capture_output=True).returncode == 0


@pytest.fixture
def members(tmp_path: Path) -> Iterator[dict[str, RestartedMember]]:
    cluster = LocalCluster(APART, tmp_path)
    made = {
        name: RestartedMember(cluster, name, programs(tmp_path / "bin" / name, APART, ("etcdctl",)))
        for name in MEMBERS
    }
    try:
        for member in made.values():
            member.well()
        yield made
    finally:
        eventually("the last run gives its turn back", lambda: not pgrep(f"etcdctl.*{tmp_path}"))
        for member in made.values():
            member.ended = True
            member.stop()


def between(output: str) -> tuple[float, float]:
    times = dict(
        line.split() for line in output.splitlines() if line.split()[0] in ("began", "ended")
    )
    return float(times["began"]), float(times["ended"])


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, ""), out + err
    return out


def test_members_that_are_well_restart_one_after_the_other(
    members: dict[str, RestartedMember],
) -> None:
    with ThreadPoolExecutor() as pool:
        outputs = list(pool.map(finished, [member.run() for member in members.values()]))
    spans = sorted(map(between, outputs))
    for (_, ended), (began, _) in pairwise(spans):
        assert ended <= began, spans
    assert sum("until other machines had a turn" in output for output in outputs) >= 1


def test_who_is_not_well_disturbs_nobody_and_waits_for_nobody(
    members: dict[str, RestartedMember],
) -> None:
    holder = members["e2"].run(work="sleep 600")
    assert holder.stdout is not None
    assert holder.stdout.readline().startswith("began")
    members["e1"].stop()
    finished(members["e1"].run())
    assert holder.poll() is None
    os.killpg(holder.pid, signal.SIGKILL)
    holder.communicate()


def test_a_run_that_is_killed_gives_its_turn_back(members: dict[str, RestartedMember]) -> None:
    holder = members["e2"].run(work="sleep 600")
    assert holder.stdout is not None
    assert holder.stdout.readline().startswith("began")
    waiting = members["e3"].run()
    time.sleep(5)
    assert waiting.poll() is None
    holder.kill()
    holder.wait()
    finished(waiting)
    os.killpg(holder.pid, signal.SIGKILL)


def test_nobody_restarts_while_another_member_is_ill(members: dict[str, RestartedMember]) -> None:
    members["e3"].stop()
    process = members["e1"].run(others_wait=4)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "began" not in out
    assert f"{etcd.UNIT} of other machines" in err
    assert "/readyz" in err
    members["e3"].start()
    members["e3"].well()
    finished(members["e1"].run())


def restarted(member: RestartedMember, **flags: str) -> None:
    """The member with these flags, and well."""
    member.stop()
    member.unit = replace(member.unit, flags={**member.unit.flags, **flags})
    member.start()


def test_who_has_no_vote_is_not_well(members: dict[str, RestartedMember]) -> None:
    """A learner says at /health that it is."""
    voter, learner = members["e1"], members["e3"]
    learner.stop()
    (line,) = (line for line in voter.ctl("member list").splitlines() if ", e3, " in line)
    number, _, _, peer, *_ = line.split(", ")

    def added() -> bool:
        return "added" in voter.ctl(f"member add e3 --learner --peer-urls {peer}")

    voter.ctl(f"member remove {number}")
    eventually("another member is let in", added)
    shutil.rmtree(learner.machine.root / "var/lib/etcd/member")
    restarted(learner, **{"initial-cluster-state": "existing"})
    eventually("it is a learner", lambda: "true" in learner.ctl("endpoint status"))
    process = voter.run(others_wait=4)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "began" in out) == (1, False)
    assert "non_learner" in err
    (line,) = (line for line in voter.ctl("member list").splitlines() if ", e3, " in line)
    eventually(
        "it has a vote", lambda: "promoted" in voter.ctl(f"member promote {line.split(', ')[0]}")
    )
    finished(voter.run())


def test_where_etcd_is_full_the_reason_and_the_way_out_are_said(
    members: dict[str, RestartedMember],
) -> None:
    """A member with an alarm is well, so it does not restart as if it were broken."""
    for member in members.values():
        restarted(member, **{"quota-backend-bytes": str(2 * 1024**2)})
        member.well()
    first = members["e1"]
    eventually(
        "the database is full",
        lambda: "exceeded" in first.ctl(f"put x{time.time_ns()} {'x' * 30_000}", errors=True),
    )
    process = first.run(patience=6000)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "began" in out) == (1, False)
    assert "NOSPACE" in err
    assert err.index("compact") < err.index("defrag") < err.index("disarm")
    # The way out is one.
    revision = re.findall(r'"Revision" : (\d+)', first.ctl("endpoint status -w fields"))
    first.ctl(f"compact {revision[0]}")
    for member in members.values():
        member.ctl("defrag")
    first.ctl("alarm disarm")
    finished(first.run())


def before_lock(member: RestartedMember, lines: str) -> None:
    """The member's etcdctl does this before it asks for a lock."""
    program = member.path / "etcdctl"
    real = program.readlink()
    program.unlink()
    program.write_text(
        f'#!/bin/bash\ncase " $* " in *" lock "*)\n{lines} ;;\nesac\nexec {real} "$@"\n'
    )
    program.chmod(0o755)


def refusing(member: RestartedMember, times: int) -> None:
    """So many times the member's etcdctl is refused a lock."""
    count = member.machine.root / "refusals"
    before_lock(
        member,
        f"echo >>{count}\n"
        f'[ "$(wc -l <{count})" -gt {times} ] || {{ echo leader changed >&2; exit 1; }}',
    )


def test_a_line_that_comes_in_two_parts_gives_the_lock(members: dict[str, RestartedMember]) -> None:
    """As on a busy host, where the time limit of a read hit after the first character: the step
    held the lock for hours, and waited for it."""
    rest = 'IFS= read -rN 1 first; printf %s "$first"; sleep 5; exec cat'
    before_lock(members["e1"], f"exec > >({rest})")
    finished(members["e1"].run())


def test_a_single_refusal_of_the_lock_is_no_verdict(members: dict[str, RestartedMember]) -> None:
    """As when a leader hands over: what is under way is dropped."""
    refusing(members["e1"], 2)
    finished(members["e1"].run())


def test_a_lock_that_is_always_refused_is_told_with_etcds_reason(
    members: dict[str, RestartedMember],
) -> None:
    refusing(members["e1"], 1000)
    out, err = members["e1"].run().communicate(timeout=PATIENCE)
    assert "began" not in out
    assert err == "failed: no turn to restart can be had from etcd: leader changed\n"


SILENT = f"own[{etcd.UNIT}]=https://127.0.0.1:1/health"
"""As if its process ran and did not answer."""


def test_who_runs_and_is_slow_to_answer_waits_for_its_turn(
    members: dict[str, RestartedMember],
) -> None:
    holder = members["e2"].run(work="sleep 15")
    assert holder.stdout is not None
    first = holder.stdout.readline()
    assert first.startswith("began")
    slow = finished(members["e1"].run(before=SILENT))
    assert between(first + finished(holder))[1] <= between(slow)[0]


def test_who_stays_silent_for_long_is_broken_and_waits_for_nobody(
    members: dict[str, RestartedMember],
) -> None:
    holder = members["e2"].run(work="sleep 600")
    assert holder.stdout is not None
    assert holder.stdout.readline().startswith("began")
    finished(members["e1"].run(before=SILENT, patience=3))
    # Nor for others that are ill while it has the turn.
    os.killpg(holder.pid, signal.SIGKILL)
    holder.communicate()
    members["e3"].stop()
    finished(members["e1"].run(before=SILENT, patience=3))


def test_a_turn_that_was_lost_is_taken_anew(members: dict[str, RestartedMember]) -> None:
    """As a machine loses it that stands still for longer than its lease: here it is revoked."""
    members["e3"].stop()
    waiting = members["e1"].run()
    lease = ""
    while not lease:
        lease = members["e2"].ctl("lease list").partition("\n")[2].strip()
        time.sleep(0.2)
    while "/hardway/turn" not in members["e2"].ctl("get --prefix --keys-only /hardway/turn"):
        time.sleep(0.2)
    members["e2"].ctl(f"lease revoke {lease}")
    second_run = members["e2"].run(work="sleep 5")
    members["e3"].start()
    first, second = finished(second_run), finished(waiting)
    spans = sorted(map(between, (first, second)))
    assert spans[0][1] <= spans[1][0], spans


# -- who takes turns -------------------------------------------------------------------------------


def steps_with_turns(name: str) -> dict[str, set[str]]:
    """Machine to the steps that take turns."""
    nodes = golden_plan(name).nodes.items()
    return {node: {step.name for step in plan.steps if step.turns} for node, plan in nodes}


@pytest.mark.parametrize("name", NAMES)
def test_turns_are_taken_exactly_where_several_run_the_same(name: str) -> None:
    spec = golden_spec(name)
    for node, with_turns in steps_with_turns(name).items():
        member = node in spec.etcd_members and len(spec.etcd_members) > 1
        plane = node in spec.control_planes and len(spec.control_planes) > 1
        expected = ({"etcd"} if member else set()) | ({"control-plane"} if plane else set())
        assert with_turns == (expected | {"identity"} if expected else set())


def test_a_step_without_turns_does_not_use_their_script() -> None:
    assert "turn" not in render.used(etcd.step(SINGLE, "master"))
    assert "turn" in render.used(etcd.step(APART, "e1"))


def test_whoever_takes_turns_has_the_program_for_it() -> None:
    for name in NAMES:
        for plan in golden_plan(name).nodes.values():
            if any(step.turns for step in plan.steps):
                assert "etcdctl" in {
                    link.path.rpartition("/")[2] for s in plan.steps for link in s.links
                }
