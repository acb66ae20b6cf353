"""Checks whether a condition of ``plan.condition`` holds, with one check for each kind."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, assert_never

from plan.condition import (
    ApiServers,
    ApiServices,
    Backups,
    Check,
    Clocks,
    CurrentKeys,
    Known,
    Members,
    NameResolves,
    NodeProblems,
    Nodes,
    Pods,
    PodsReach,
    ProgrammedGateway,
    Restarted,
    Room,
    ServiceAnswers,
    Services,
    Space,
    TrustedAuthorities,
    WayIn,
)
from plan.roll import ROLLING
from probe import authorities, backups, clocks, keys, pods, restarts, room, services, space
from probe.access import Access
from probe.api import Api, ApiError
from probe.failure import Unmet, demand
from probe.machines import Machines, Unreachable

MEMBERS_LIMIT = 40
"""The time limit of two requests to etcd, in seconds; an emulated machine needs many to start
etcdctl."""


ALARM = "Active Alarm(s)"
"""The beginning of the error that etcdctl's ``endpoint health`` prints for a member that only has
an alarm."""


@dataclass(frozen=True)
class Doors:
    """The connections through which a cluster is checked."""

    machines: Machines
    kubernetes: Api | None
    """None before the cluster has a kubeconfig."""

    def slow_by(self, factor: float) -> None:
        """Multiply the time limits of all answers by the slowness of the machines."""
        self.machines.factor = factor
        if self.kubernetes is not None:
            self.kubernetes.factor = factor

    @property
    def api(self) -> Api:
        """The API. Raises Unmet where there is no kubeconfig yet."""
        if self.kubernetes is None:
            raise Unmet(
                "there is no kubeconfig yet, so the API cannot be asked; ./hardway up makes it",
                wholly=True,
            )
        return self.kubernetes


@asynccontextmanager
async def doors(access: Access) -> AsyncIterator[Doors]:
    """Connections to a cluster, closed at the end.

    Raises ApiError for a kubeconfig that cannot be used.
    """
    async with AsyncExitStack() as stack:
        machines = await stack.enter_async_context(Machines(access))
        api = Api(access.kubeconfig) if access.kubeconfig else None
        if api is not None:
            await stack.enter_async_context(api)
        yield Doors(machines, api)


async def ask(check: Check, through: Doors) -> Unmet | None:
    """None where the check holds now, else why it does not; each check limits its own time."""
    try:
        await _demand(check, through)
    except Unmet as unmet:
        return unmet
    except (ApiError, Unreachable) as error:
        return Unmet(str(error), wholly=True)
    return None


async def _demand(check: Check, through: Doors) -> None:
    """Raises Unmet, ApiError or Unreachable where the check does not hold."""
    match check:
        case Clocks():
            await _clocks(check, through.machines)
        case Members():
            await _members(check, through.machines)
        case Space():
            await space.demand_space(check, through.machines)
        case CurrentKeys():
            await keys.demand_keys(check, through.machines)
        case TrustedAuthorities():
            await authorities.demand_authorities(check, through.api)
        case ApiServers():
            await _api_servers(check, through.api)
        case Nodes():
            await _nodes(check, through.api)
        case NodeProblems():
            await _node_problems(check, through.api)
        case Pods():
            await pods.run(through.api, check)
        case PodsReach():
            await pods.reach_from_nodes(through.machines, through.api, check)
        case ServiceAnswers():
            await pods.reach_service(through.machines, through.api, check)
        case NameResolves():
            await pods.resolve(through.machines, through.api, check)
        case ApiServices():
            await _api_services(check, through.api)
        case Known():
            await pods.know(through.machines, through.api, check)
        case WayIn():
            await pods.come_in(through.machines, through.api, check)
        case ProgrammedGateway():
            await _gateway(check, through.api)
        case Backups():
            await backups.demand_backups(check, through.machines)
        case Room():
            await room.demand_room(check, through.machines)
        case Restarted():
            api = through.api if check.is_node else None
            await restarts.demand_restarted(check, through.machines, api)
        case Services():
            await services.demand_services(check, through.machines)
        case _:
            assert_never(check)


# -- clocks --------------------------------------------------------------------------------------


async def _clocks(check: Clocks, machines: Machines) -> None:
    answers = await clocks.ask(machines, check.machines)
    lost = [str(answer) for answer in answers.values() if isinstance(answer, Unreachable)]
    # Clocks that differ come first, since they may explain why other machines do not answer.
    demand([*clocks.differences(answers), *lost], wholly=len(lost) == len(answers))


# -- etcd ----------------------------------------------------------------------------------------


async def _members(check: Members, machines: Machines) -> None:
    node, done = await space.first_answer(check.members, machines, "members", timeout=MEMBERS_LIMIT)
    if done.status != 0:
        raise Unmet(f"etcd cannot be asked on {node} ({done.reason})")
    try:
        listed, health = map(json.loads, done.stdout.splitlines())
    except ValueError as error:
        raise Unmet(f"etcdctl on {node} does not say what it should ({done.reason})") from error
    if listed is not None:
        # Before health, since a learner reports no health.
        demand(_differences(check.members, listed["members"]))
    names = {url: name for name, url in check.members.items()}
    demand(
        f"etcd's member {names.get(row['endpoint'], '?')} ({row['endpoint']}) is not healthy "
        f"({row.get('error', 'no reason given')})"
        for row in health or ()
        # Alarms belong to another condition: a member with an alarm answers, and has a quorum.
        if not row["health"] and not row.get("error", "").startswith(ALARM)
    )
    if listed is None or health is None:
        raise Unmet(f"etcd does not answer on {node} ({done.reason})")


def _differences(wanted: Mapping[str, str], listed: list[Mapping[str, Any]]) -> Iterator[str]:
    # A member has no name before its first start.
    members = {member.get("name") or f"at {member['peerURLs'][0]}": member for member in listed}
    for name in wanted.keys() - members.keys():
        yield f"etcd has no member {name}"
    for name, member in sorted(members.items()):
        urls = member.get("clientURLs", [])
        if "name" not in member:
            yield f"etcd's member {name} was never started"
        elif name not in wanted:
            yield f"etcd has a member {name}, which is none of this cluster's"
        elif member.get("isLearner"):
            yield f"etcd's member {name} is still a learner"
        elif urls != [wanted[name]]:
            yield f"etcd's member {name} says it is at {', '.join(urls)} and not {wanted[name]}"


# -- the API -------------------------------------------------------------------------------------


async def _api_servers(check: ApiServers, api: Api) -> None:
    async def failure(name: str, url: str) -> str | None:
        try:
            await api.text("/readyz", at=url)
            version = (await api.json("/version", at=url)).get("gitVersion")
        except ApiError as error:
            return f"the API server of {name} is not ready: {error}"
        if version != check.version:
            return f"the API server of {name} is {version} and not {check.version}"
        return None

    answers = await asyncio.gather(*(failure(*server) for server in check.servers.items()))
    failures = [answer for answer in answers if answer]
    demand(failures, wholly=len(failures) == len(check.servers))


async def _nodes(check: Nodes, api: Api) -> None:
    listed = await api.json("/api/v1/nodes")
    statuses = {item["metadata"]["name"]: item.get("status", {}) for item in listed["items"]}
    unready = {name: why for name in check.nodes if (why := _unready(statuses.get(name)))}
    failures = [f"{name} {why}" for name, why in unready.items()]
    for name in sorted(statuses.keys() - set(check.nodes)):
        failures.append(f"there is a Node {name}, which is no machine of this cluster")
    for item in listed["items"]:
        if stage := item["metadata"].get("annotations", {}).get(ROLLING):
            failures.append(
                f"the change of {item['metadata']['name']} to another version has not ended "
                f"(it {stage}): ./hardway up --refresh goes on with it"
            )
    for name in check.nodes:
        version = statuses.get(name, {}).get("nodeInfo", {}).get("kubeletVersion")
        if name not in unready and version != check.version:
            failures.append(f"the kubelet of {name} is {version} and not {check.version}")
    demand(failures, wholly=len(unready) == len(check.nodes))


def _unready(status: Mapping[str, Any] | None) -> str | None:
    """Why a node is not Ready; None where it is Ready."""
    if status is None:
        return "has no Node object (./hardway up --refresh has its kubelet register it)"
    ready = pods.condition(status, "Ready")
    if ready.get("status") == "True":
        return None
    why = ready.get("message") or ready.get("reason") or "its kubelet has not said why"
    return f"is not Ready ({why})"


async def _node_problems(check: NodeProblems, api: Api) -> None:
    listed = await api.json("/api/v1/nodes")
    statuses = {item["metadata"]["name"]: item.get("status", {}) for item in listed["items"]}
    failures = []
    for name in check.nodes:
        for kind in check.types:
            state = pods.condition(statuses.get(name, {}), kind)
            if state.get("status") == "True":
                why = ": ".join(filter(None, (state.get("reason"), state.get("message"))))
                failures.append(f"{name} has the problem {kind} ({why})")
            elif state.get("status") != "False":
                failures.append(f"nobody says yet whether {name} has the problem {kind}")
    demand(failures)


async def _api_services(check: ApiServices, api: Api) -> None:
    failures = []
    for name in check.names:
        found_object = await api.json(f"/apis/apiregistration.k8s.io/v1/apiservices/{name}")
        available = pods.condition(found_object.get("status", {}), "Available")
        if available.get("status") != "True":
            why = available.get("message") or "no API server has asked it yet"
            failures.append(f"the API {name} is not available ({why})")
    demand(failures, wholly=len(failures) == len(check.names))


async def _gateway(check: ProgrammedGateway, api: Api) -> None:
    whole = await api.json(check.path)
    name, status = whole["metadata"]["name"], whole.get("status", {})
    listeners = {row["name"]: row for row in status.get("listeners", ())}
    states = {
        f"the Gateway {name}": status,
        **{
            f"the listener {row['name']} of the Gateway {name}": listeners.get(row["name"], {})
            for row in whole["spec"]["listeners"]
        },
    }
    generation = whole["metadata"]["generation"]
    reasons = {subject: _unprogrammed(state, generation) for subject, state in states.items()}
    failures = [f"{subject} {reason}" for subject, reason in reasons.items() if reason]
    demand(failures, wholly=len(failures) == len(states))


def _unprogrammed(state: Mapping[str, Any], generation: int) -> str | None:
    """Why a Gateway or a listener serves no routes; None where it does so as it is wanted now."""
    current = [
        row for row in state.get("conditions", ()) if row.get("observedGeneration") == generation
    ]
    holding = {row["type"] for row in current if row["status"] == "True"}
    for kind in ("Accepted", "Programmed"):
        if kind not in holding:
            wrong = [row for row in current if row["status"] != "True"] or current
            why = ", ".join(row["message"] or row["reason"] for row in wrong)
            return f"is not {kind} ({why or 'nothing has looked at it yet'})"
    return None
