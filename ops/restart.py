"""The command ``restart``, which reboots machines one at a time, after their pods have moved."""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lab.problem import Problem
from ops.display import agreed, option_of, progress, stdout
from ops.kubectl import as_admin
from ops.reach import Reached, reach
from ops.stacks import StackOption
from ops.validate import again, demand_held
from plan import layout
from plan.condition import ApiServers, Check, Condition, Restarted, Space, condition
from plan.conditions import conditions
from plan.limits import LIMITS, Limit
from probe import restarts
from probe.api import ApiError
from probe.conditions import ask, doors
from probe.failure import Unmet
from probe.machines import Machines, Unreachable
from probe.watch import run_watch
from spec.cluster import Cluster
from spec.refusal import listed

SCRIPT = Path(__file__).with_name("scripts") / "reboot.sh"

RESTARTING = "hardway/restarting"
"""Annotation of a node that this command has cordoned, and so uncordons afterwards."""

BOOT = Limit(900, "the machine ends its services and boots, and its kubelet reports that")

AGAIN = "run the same again"

PATIENCE = 60
"""Seconds for which the API may give no answer, as while its virtual address moves."""

MISSING = "(NotFound)"
"""What kubectl says of an object that is not there."""

BLOCKED = re.compile(r'pods/"(?P<name>[^"]+)" -n "(?P<namespace>[^"]+)".*disruption budget')
"""What kubectl says each time that a PodDisruptionBudget refuses an eviction."""

GONE = re.compile(r"^pod/(?P<name>\S+) evicted$", re.MULTILINE)
"""What kubectl says of a pod that has gone in the end."""

ALONE = re.compile(r"declare no controller[^:]*: (?P<pods>[^\n]+?)(?:, cannot delete|$)")
"""What kubectl says of pods that nobody would make again."""


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster")(restart)


def restart(
    machines: Annotated[list[str], typer.Argument(metavar="MACHINE...", help="In this order.")],
    stack: StackOption = "dev",
    timeout: Annotated[
        int,
        typer.Option(min=1, metavar="SECONDS", help="How long a machine's pods may take to go."),
    ] = 600,
    force: Annotated[
        bool, typer.Option("--force", help="Also end pods that no controller makes again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Restart without asking.")] = False,
) -> None:
    """Restart machines, one at a time, after their pods have moved to other nodes.

    A node is cordoned and drained, as PodDisruptionBudgets allow; then the machine reboots, its
    kubelet reports that, the node is uncordoned, and every condition of the cluster holds before
    the next machine's turn. Where a pod will not move, the node is uncordoned, nothing has
    restarted, and the pod is named. While etcd or an API server is ill on another machine, no
    healthy one is restarted. Cut off, run it again.

    Examples: `./hardway restart minion1`, all of them `./hardway restart master minion1 minion2`
    """
    reached = reach(stack)
    demand_machines(reached.spec, machines)
    lines, silent = asyncio.run(preview(reached, machines))
    for line in lines:
        stdout.print(line, markup=False, soft_wrap=True)
    unasked = f"Restart with ./hardway {' '.join(sys.argv[1:])} --yes"
    if not (yes or agreed("Restart?", unasked)):
        return
    for machine in machines:
        is_drained = machine not in silent
        Restart(reached, machine, timeout=timeout, force=force, is_drained=is_drained).run()
    stdout.print(f"restarted {listed(machines, 'and')}", markup=False)


def demand_machines(spec: Cluster, machines: Sequence[str]) -> None:
    """Raise a Problem where a name is no machine of the cluster, or stands twice."""
    for number, machine in enumerate(machines):
        if machine not in spec.machines:
            raise Problem(
                f"the cluster {spec.name} has no machine {machine}",
                f"name {listed(sorted(spec.machines))}",
            )
        if machine in machines[:number]:
            raise Problem(f"{machine} stands twice", "name each machine once")


# -- before anything is restarted ------------------------------------------------------------------


async def preview(reached: Reached, machines: Sequence[str]) -> tuple[list[str], set[str]]:
    """What a restart of these machines does, in lines, and the machines that no pod leaves first.

    No pod can move while the API gives no answer.
    """
    async with doors(reached.access) as through:
        lines: list[str] = []
        silent: set[str] = set()
        for machine in machines:
            try:
                pods = await through.api.json(
                    "/api/v1/pods", fieldSelector=f"spec.nodeName={machine}"
                )
                moving = [*_moving(pods["items"])]
            except (ApiError, Unmet) as error:
                lines.append(
                    f"no pod of {machine} moves first, as the API gives no answer: {error}"
                )
                moving = []
                silent.add(machine)
            lines += effects(reached.spec, machine, moving)
        return lines, silent


def effects(spec: Cluster, machine: str, moving: Sequence[str]) -> Iterator[str]:
    """What a restart of a machine does to the cluster; ``moving`` names pods that move first."""
    if machine in spec.nodes and len(spec.nodes) == 1:
        yield f"{machine} is the only node: its pods stop and start with it"
    elif moving:
        yield (
            f"{machine}: pods move to other nodes, where volumes of their own begin empty: "
            f"{', '.join(moving)}"
        )
    yield f"{machine} reboots"
    if machine in spec.control_planes and len(spec.control_planes) == 1:
        yield "  the API is away until it is back: it is the only control plane"
    if machine in spec.etcd_members and len(spec.etcd_members) < 3:
        yield "  etcd is away until it is back: it takes more than half of its members"


def _moving(pods: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The pods of a node that a drain evicts: not those of DaemonSets, files, and ended ones."""
    for pod in pods:
        metadata = pod["metadata"]
        owners = {owner["kind"] for owner in metadata.get("ownerReferences", ())}
        if owners & {"DaemonSet", "Node"} or pod["status"].get("phase") in ("Succeeded", "Failed"):
            continue
        yield f"{metadata['namespace']}/{metadata['name']}"


# -- the restart of a machine ----------------------------------------------------------------------


@dataclass(frozen=True)
class Restart:
    """The restart of one machine."""

    reached: Reached
    machine: str
    timeout: int
    """Seconds for the machine's pods to go."""
    force: bool
    """Whether pods that have no controller are ended as well."""
    is_drained: bool = True
    """Whether pods have to leave before the machine restarts, as the person was told."""

    def run(self) -> None:
        """Raises a Problem with the next step where a part fails."""
        asyncio.run(self._demand_turn())
        cordoned = self._drained() if self._has_pods else False
        self._rebooted()
        if cordoned:
            self._uncordon()
            progress().say(f"{self.machine}: takes pods again")
        self._until(conditions(self.reached.spec))

    @property
    def _has_pods(self) -> bool:
        """Whether the machine is a node whose pods can go to another node first."""
        nodes = self.reached.spec.nodes
        return self.is_drained and self.machine in nodes and len(nodes) > 1

    # -- those who are left

    async def _demand_turn(self) -> None:
        """Raise a Problem where the restart would stop a service that others cannot do without."""
        async with doors(self.reached.access) as through:
            for service, checks in _shared(self.reached.spec):
                if self.machine not in checks:
                    continue
                answers = await asyncio.gather(*(ask(check, through) for check in checks.values()))
                faults = dict(zip(checks, answers, strict=True))
                own = faults.pop(self.machine)
                ill = {name: why for name, why in faults.items() if why is not None}
                if ill and own is None:
                    name, why = next(iter(ill.items()))
                    raise Problem(
                        f"{self.machine} is not restarted while {service} is ill on {name} ({why})",
                        f"restart or mend {name} first; nothing was restarted",
                    )

    # -- its pods

    def _drained(self) -> bool:
        """Move the node's pods; return whether this command cordoned the node.

        Raises a Problem where a pod does not go, or where the API gives no answer for ``PATIENCE``
        seconds; the node is then as it was before.
        """
        say, machine = progress().say, self.machine
        asked = self._kubectl("get", "node", machine, "--output=json")
        if MISSING in asked.stderr:
            say(f"{machine}: no pod moves first, as the cluster has no node of that name")
            return False
        if asked.returncode != 0:
            raise Problem(
                f"the pods of {machine} cannot move, as the API gives no answer ({_reason(asked)})",
                f"{AGAIN}; nothing was restarted",
            )
        node = json.loads(asked.stdout)
        ours = RESTARTING in node["metadata"].get("annotations", {})
        if node["spec"].get("unschedulable") and not ours:
            say(f"{machine}: it was cordoned before and stays so")
        else:
            ours = True
            self._patch(cordoned=True)
        try:
            self._drain()
        except BaseException:
            if ours:
                self._uncordon()
            raise
        return ours

    def _drain(self) -> None:
        arguments = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={self.timeout}s")
        forced = ("--force",) if self.force else ()
        lines: list[str] = []
        with (
            as_admin(self.reached.spec, self.reached.kubeconfig) as (program, environment),
            subprocess.Popen(
                [program, "drain", self.machine, *arguments, *forced],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as child,
        ):
            assert child.stdout is not None
            try:
                for line in map(str.strip, child.stdout):
                    if line and line not in lines:
                        progress().say(f"{self.machine}: {line}")
                        lines.append(line)
            except BaseException:
                child.terminate()
                raise
        if child.returncode != 0:
            raise self._stays("\n".join(lines))

    def _stays(self, output: str) -> Problem:
        """The Problem of a drain that failed."""
        option = self._option
        if alone := ALONE.search(output):
            return Problem(
                f"{self.machine} has pods that no controller makes again: {alone['pods']}",
                "delete them, or let them end with --force; nothing was restarted",
            )
        if blocked := [*_blocked(output)]:
            return Problem(
                f"{listed(blocked, 'and')} did not leave {self.machine} within {self.timeout} s, "
                "since a PodDisruptionBudget forbids it",
                "give the application more replicas, or more time with --timeout; "
                f"./hardway kubectl{option} get poddisruptionbudgets --all-namespaces shows them; "
                "nothing was restarted",
            )
        reason = output.splitlines()[-1] if output else "kubectl gave no reason"
        return Problem(
            f"the pods of {self.machine} do not move ({reason})",
            f"see ./hardway kubectl{option} get pods --all-namespaces --field-selector "
            f"spec.nodeName={self.machine}; nothing was restarted",
        )

    def _uncordon(self) -> None:
        self._patch(cordoned=False)

    def _patch(self, *, cordoned: bool) -> None:
        """Cordon the node and note that, or take both back. Raises a Problem."""
        mark = "true" if cordoned else None
        change = {
            "metadata": {"annotations": {RESTARTING: mark}},
            "spec": {"unschedulable": cordoned or None},
        }
        done = self._kubectl("patch", "node", self.machine, "--patch", json.dumps(change))
        if done.returncode != 0:
            raise Problem(
                f"the node {self.machine} cannot be "
                f"{'cordoned' if cordoned else 'uncordoned'} ({_reason(done)})",
                AGAIN if cordoned else f"./hardway kubectl{self._option} uncordon {self.machine}",
            )

    def _kubectl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Ask the API, again for ``PATIENCE`` seconds while it gives no answer."""
        end = time.monotonic() + PATIENCE
        while True:
            done = self._kubectl_once(*arguments)
            if done.returncode == 0 or MISSING in done.stderr or time.monotonic() > end:
                return done
            time.sleep(1)

    def _kubectl_once(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with as_admin(self.reached.spec, self.reached.kubeconfig) as (program, environment):
            return subprocess.run(
                [program, "--request-timeout=60s", *arguments],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )

    # -- the machine

    def _rebooted(self) -> None:
        """Reboot the machine and wait until it is back. Raises a Problem."""
        before = asyncio.run(self._reboot())
        spec, machine = self.reached.spec, self.machine
        back = condition(
            name="restarted",
            waits_for=f"{machine} is back" + (" and Ready" if machine in spec.nodes else ""),
            check=Restarted(machine=machine, before=before, is_node=machine in spec.nodes),
            limit=BOOT,
        )
        self._until([back])

    async def _reboot(self) -> str:
        """Reboot the machine; return the identifier of the boot that ends. Raises a Problem."""
        machine, seconds = self.machine, LIMITS["lock"].seconds
        script = SCRIPT.read_text()
        async with Machines(self.reached.access) as machines:
            try:
                before = await restarts.boot(machines, machine)
            except Unreachable as error:
                raise Problem(
                    str(error),
                    f"./hardway status{self._option} shows which machines run, and ./hardway up"
                    f"{self._option} starts those that are off",
                ) from error
            progress().say(f"{machine}: reboots")
            try:
                done = await machines.run(
                    machine, script, layout.STATE, str(seconds), timeout=seconds + 30
                )
            except Unreachable:  # the connection ends with the machine
                return before
        if done.status != 0:
            raise Problem(f"{machine}: {done.reason.removeprefix('failed: ')}", AGAIN)
        return before

    def _until(self, asked: Sequence[Condition]) -> None:
        """Wait until conditions hold. Raises a Problem."""
        outcomes = run_watch(asked, self.reached.access, say=progress().say)
        demand_held(asked, outcomes, f"{self.machine} was restarted; ", again(self._option))

    @property
    def _option(self) -> str:
        return option_of(self.reached.stack.name)


def _shared(spec: Cluster) -> Iterator[tuple[str, dict[str, Check]]]:
    """The services that machines share: name, and each machine to the check of its own."""
    members = dict(zip(spec.etcd_members, layout.etcd_urls(spec), strict=True))
    yield "etcd", {name: Space(members={name: url}, percent=100) for name, url in members.items()}
    servers = {name: layout.api_server_url(spec, name) for name in spec.control_planes}
    version = f"v{spec.versions.kubernetes}"
    yield (
        "the API server",
        {name: ApiServers(servers={name: url}, version=version) for name, url in servers.items()},
    )


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"


def _blocked(output: str) -> Iterator[str]:
    """The pods whose eviction a PodDisruptionBudget refused until the end."""
    gone = {match["name"] for match in GONE.finditer(output)}
    pods = {match["name"]: match["namespace"] for match in BLOCKED.finditer(output)}
    return (f"{pods[name]}/{name}" for name in sorted(pods.keys() - gone))
