"""The pods that conditions speak of, and what is asked from their networks."""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from plan import layout
from plan.conditions import NameResolves, Pods, PodsReach, ServiceAnswers
from probe import dns
from probe.api import Api
from probe.failure import Unmet, demand
from probe.machines import Machines, Unreachable

DNS_PORT = 53
IDENTIFIER = 0x4857
"""Of our DNS messages: the socket takes answers from the one server only."""

LIMIT = 30
"""Seconds for a script in a pod's network; its own tries take ten at most."""


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod as the API tells it."""

    name: str
    node: str | None
    address: str | None
    unready: str | None
    """Why it is not Ready; None where it is."""

    def __str__(self) -> str:
        return f"{self.name} on {self.node}" if self.node else self.name


@cache
def script(name: str) -> str:
    """A file of ``probe/scripts``."""
    return (Path(__file__).with_name("scripts") / f"{name}.sh").read_text()


async def of(api: Api, wanted: Pods) -> tuple[Pod, ...]:
    """The pods with these labels that are not about to go, by name. Raises ApiError."""
    listed = await api.json(
        f"/api/v1/namespaces/{wanted.namespace}/pods", labelSelector=_selector(wanted)
    )
    pods = (_pod(item) for item in listed["items"] if "deletionTimestamp" not in item["metadata"])
    return tuple(sorted(pods, key=lambda pod: pod.name))


async def run(api: Api, wanted: Pods) -> None:
    """Raises Unmet where fewer of them are Ready than should be."""
    found = await of(api, wanted)
    unready = [pod for pod in found if pod.unready]
    ready = len(found) - len(unready)
    if ready < wanted.count:
        demand(
            [
                f"{ready} of {wanted.count} pods {_selector(wanted)} are Ready",
                *(f"{pod}: {pod.unready}" for pod in unready),
            ],
            wholly=not ready,
        )


async def resolve(machines: Machines, api: Api, check: NameResolves) -> None:
    """From the first of the pods. Raises Unmet where the name has not exactly the address."""
    pod = (await _ready(api, check.inside))[0]
    question = b64encode(dns.query(check.name, IDENTIFIER)).decode()
    told = await _inside(machines, pod, "resolve", check.server, str(DNS_PORT), question)
    try:
        answer = dns.read(b64decode(told.strip(), validate=True), IDENTIFIER)
    except (ValueError, dns.NoDns) as error:
        raise Unmet(f"the answer of {check.server} to {pod} is no DNS ({error})") from error
    addresses = ", ".join(map(str, answer.addresses)) or "no address"
    if answer.code != "NOERROR" or addresses != check.address:
        raise Unmet(
            f"{pod} asked {check.server} for {check.name} and got {answer.code} with {addresses} "
            f"and not {check.address}"
        )


async def reach_each_other(machines: Machines, api: Api, check: PodsReach) -> None:
    """Raises Unmet with each pair of pods of which one does not reach the other."""
    pods = await _ready(api, check.pods)
    if len({pod.node for pod in pods}) < 2:
        raise Unmet(
            f"all Ready pods {_selector(check.pods)} are on {pods[0].node}, so none can reach a "
            "pod of another machine"
        )

    async def failures(source: Pod) -> list[str]:
        targets = {
            f"http://{pod.address}:{check.port}{check.path}": pod for pod in pods if pod != source
        }
        try:
            told = await _inside(machines, source, "reach", *targets)
        except (Unmet, Unreachable) as error:
            return [str(error)]
        return [
            f"{source} does not reach {targets[url]} at {url} ({why})"
            for url, _, why in (line.partition(" ") for line in told.splitlines())
        ]

    demand(chain.from_iterable(await asyncio.gather(*map(failures, pods))))


async def reach_service(machines: Machines, api: Api, check: ServiceAnswers) -> None:
    """Raises Unmet with each pod to which the Service shows no good certificate."""
    url = f"https://{check.address}:{check.port}/"

    async def failures(pod: Pod) -> list[str]:
        try:
            await _inside(machines, pod, "service", url, layout.AUTHORITY)
        except Unmet as error:
            return [f"{url} does not answer {error}"]
        except Unreachable as error:
            return [str(error)]
        return []

    pods = await _ready(api, check.inside)
    demand(chain.from_iterable(await asyncio.gather(*map(failures, pods))))


async def _ready(api: Api, wanted: Pods) -> tuple[Pod, ...]:
    """Those that are Ready. Raises Unmet where there are none."""
    found = tuple(pod for pod in await of(api, wanted) if not pod.unready)
    if not found:
        raise Unmet(f"no pod {_selector(wanted)} in {wanted.namespace} is Ready", wholly=True)
    return found


async def _inside(machines: Machines, pod: Pod, name: str, *words: str) -> str:
    """What a script prints in a pod's network. Raises Unmet or Unreachable."""
    assert pod.node is not None
    assert pod.address is not None
    done = await machines.run(
        pod.node, script("pod"), pod.address, script(name), *words, timeout=LIMIT
    )
    if done.status != 0:
        raise Unmet(f"{pod} ({done.said})")
    return done.stdout


def _selector(wanted: Pods) -> str:
    return ",".join(f"{key}={value}" for key, value in wanted.selector.items())


def _pod(item: Mapping[str, Any]) -> Pod:
    status = item.get("status", {})
    node, address = item["spec"].get("nodeName"), status.get("podIP")
    ready = condition(status, "Ready").get("status") == "True" and node and address
    return Pod(
        name=item["metadata"]["name"],
        node=node,
        address=address,
        unready=None if ready else _why(status),
    )


def _why(status: Mapping[str, Any]) -> str:
    """The container's own reason, else the scheduler's, else the pod's."""
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            return ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
    for kind in ("PodScheduled", "Ready"):
        told = condition(status, kind)
        if told.get("status") == "False":
            return str(told.get("message") or told.get("reason") or f"{kind} is False")
    return str(status.get("phase", "no status yet"))


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition in the status of an object; empty where it has none of this kind."""
    return next((one for one in status.get("conditions", ()) if one["type"] == kind), {})
