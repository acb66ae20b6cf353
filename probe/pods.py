"""The pods that conditions are about, and the requests that are made from their networks."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from plan import layout
from plan.condition import Known, NameResolves, Pods, PodsReach, ServiceAnswers, WayIn
from probe import dns, pulls
from probe.api import Api
from probe.failure import Unmet, demand
from probe.machines import Machines, Unreachable

DNS_PORT = 53
IDENTIFIER = 0x4857
"""The identifier of all DNS queries. One is enough, since the socket accepts answers only from the
server that was queried."""

LIMIT = 30
"""The time limit of a script in a pod's network, in seconds; the script's own tries take ten at
most."""


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod as the API reports it."""

    name: str
    node: str | None
    address: str | None
    unready: str | None
    """Why the pod is not Ready; None where it is Ready."""

    def __str__(self) -> str:
        return f"{self.name} on {self.node}" if self.node else self.name


@cache
def script(name: str) -> str:
    """The text of a file in ``probe/scripts``."""
    return (Path(__file__).with_name("scripts") / f"{name}.sh").read_text()


async def of(api: Api, wanted: Pods) -> tuple[Pod, ...]:
    """The pods with these labels that are not being deleted, sorted by name. Raises ApiError."""
    listed = await api.json(
        f"/api/v1/namespaces/{wanted.namespace}/pods", labelSelector=_selector(wanted)
    )
    pods = (_pod(item) for item in listed["items"] if "deletionTimestamp" not in item["metadata"])
    return tuple(sorted(pods, key=lambda pod: pod.name))


async def run(api: Api, wanted: Pods) -> None:
    """Raises Unmet where fewer pods are Ready than the check demands."""
    pods = await of(api, wanted)
    unready = [pod for pod in pods if pod.unready]
    ready = len(pods) - len(unready)
    if ready < wanted.count:
        demand(
            [
                f"{ready} of {wanted.count} pods {_selector(wanted)} are Ready",
                *(f"{pod}: {pod.unready}" for pod in unready),
            ],
            wholly=not ready,
        )


async def resolve(machines: Machines, api: Api, check: NameResolves) -> None:
    """Query the name from the network of the first Ready pod.

    Raises Unmet where the answer is not exactly the address.
    """
    pod = (await _ready(api, check.inside))[0]
    question = b64encode(dns.query(check.name, IDENTIFIER)).decode()
    output = await _inside(machines, pod, "resolve", check.server, str(DNS_PORT), question)
    try:
        answer = dns.read(b64decode(output.strip(), validate=True), IDENTIFIER)
    except (ValueError, dns.NoDns) as error:
        raise Unmet(f"the answer of {check.server} to {pod} is no DNS ({error})") from error
    addresses = ", ".join(map(str, answer.addresses)) or "no address"
    if answer.code != "NOERROR" or addresses != check.address:
        raise Unmet(
            f"{pod} asked {check.server} for {check.name} and got {answer.code} with {addresses} "
            f"and not {check.address}"
        )


async def reach_from_nodes(machines: Machines, api: Api, check: PodsReach) -> None:
    """Raises Unmet with each node that does not reach a pod of another node.

    A node that runs all Ready pods cannot be checked. Where there should be more than one pod, this
    raises Unmet as well; otherwise the check leaves the node out.
    """
    pods = await _ready(api, check.pods)
    alone = pods[0].node if len({pod.node for pod in pods}) < 2 else None
    if alone and check.pods.count > 1:
        raise Unmet(
            f"all Ready pods {_selector(check.pods)} are on {alone}, so it cannot be seen whether "
            "it reaches a pod of another node"
        )

    async def failures(number: int, node: str) -> str | None:
        own = next((pod for pod in pods if pod.node == node), None)
        others = [pod for pod in pods if pod.node != node]
        # The nodes request different pods, since the machine of a single pod could be cut off.
        target = others[number % len(others)]
        url = f"http://{target.address}:{check.port}{check.path}"
        try:
            if own:
                output = await _inside(machines, own, "reach", url)
            else:
                output = await _on(machines, node, "reach", url)
        except (Unmet, Unreachable) as error:
            return str(error)
        _, _, why = output.strip().partition(" ")
        return f"{own or node} does not reach {target} at {url} ({why})" if output else None

    nodes = [node for node in check.nodes if node != alone]
    sentences = await asyncio.gather(*(failures(*numbered) for numbered in enumerate(nodes)))
    demand(sentence for sentence in sentences if sentence)


async def reach_service(machines: Machines, api: Api, check: ServiceAnswers) -> None:
    """Raises Unmet with each pod to which the Service presents no valid certificate."""
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


async def know(machines: Machines, api: Api, check: Known) -> None:
    """Raises Unmet with each value of which the program in the first Ready pod knows nothing."""
    pod = (await _ready(api, check.inside))[0]
    query = urlencode({"query": check.query})
    url = f"http://127.0.0.1:{check.port}{check.path}?{query}"
    output = await _inside(machines, pod, "answer", url)
    try:
        known = {row["metric"].get(check.label) for row in json.loads(output)["data"]["result"]}
    except (ValueError, KeyError, TypeError) as error:
        raise Unmet(f"{pod} does not answer a query as it should ({output[:200]})") from error
    missing = [value for value in check.values if value not in known]
    demand(
        [f"{pod} has nothing new of {value}" for value in missing],
        wholly=len(missing) == len(check.values),
    )


async def come_in(machines: Machines, api: Api, check: WayIn) -> None:
    """Raises Unmet with each address that does not answer a node by http and https."""
    balanced = await _balanced(api, check.balanced_by) if check.balanced_by else None
    addresses = list(check.nodes.values())
    # A node asks another one, if there is one: what it sends to itself takes another way.
    targets = [balanced or address for address in (*addresses[1:], addresses[0])]
    ports = str(check.http or "-"), str(check.https)

    async def failures(node: str, address: str) -> list[str]:
        try:
            output = await _on(
                machines, node, "way-in", address, *ports, check.name, layout.AUTHORITY
            )
        except (Unmet, Unreachable) as error:
            return [str(error)]
        return [f"{line}, as {node} asked" for line in output.splitlines()]

    asked = map(failures, check.nodes, targets)
    demand(chain.from_iterable(await asyncio.gather(*asked)))


async def _balanced(api: Api, service: str) -> str:
    """The load balancer's address of a Service. Raises Unmet where it has none, and ApiError."""
    namespace, _, name = service.partition("/")
    whole = await api.json(f"/api/v1/namespaces/{namespace}/services/{name}")
    for row in whole.get("status", {}).get("loadBalancer", {}).get("ingress") or ():
        if "ip" in row:
            return str(row["ip"])
    raise Unmet(f"the Service {service} has no load balancer's address yet", wholly=True)


async def _ready(api: Api, wanted: Pods) -> tuple[Pod, ...]:
    """The pods that are Ready. Raises Unmet where there are none."""
    ready = tuple(pod for pod in await of(api, wanted) if not pod.unready)
    if not ready:
        raise Unmet(f"no pod {_selector(wanted)} in {wanted.namespace} is Ready", wholly=True)
    return ready


async def _inside(machines: Machines, pod: Pod, name: str, *arguments: str) -> str:
    """The output of a script that runs in a pod's network. Raises Unmet or Unreachable."""
    assert pod.node is not None
    assert pod.address is not None
    done = await machines.run(
        pod.node, script("pod"), pod.address, script(name), *arguments, timeout=LIMIT
    )
    if done.status != 0:
        raise Unmet(f"{pod} ({done.reason})")
    return done.stdout


async def _on(machines: Machines, node: str, name: str, *arguments: str) -> str:
    """The output of a script that runs in a node's own network. Raises Unmet or Unreachable."""
    done = await machines.run(node, script(name), *arguments, timeout=LIMIT)
    if done.status != 0:
        raise Unmet(f"{node} ({done.reason})")
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
    """Why a pod is not Ready: a container's reason, else the scheduler's, else the pod's."""
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting")
        if waiting and (problem := pulls.problem(waiting)):
            return problem
        if waiting:
            return ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
    for kind in ("PodScheduled", "Ready"):
        state = condition(status, kind)
        if state.get("status") == "False":
            return str(state.get("message") or state.get("reason") or f"{kind} is False")
    return str(status.get("phase", "no status yet"))


def without_images(items: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """A sentence for each of these pods, of any namespace, that waits for an image in vain."""
    return tuple(
        f"{item['metadata']['namespace']}/{item['metadata']['name']}: {problem}"
        for item in items
        for kind in ("initContainerStatuses", "containerStatuses")
        for container in item.get("status", {}).get(kind) or ()
        if (problem := pulls.problem(container.get("state", {}).get("waiting") or {}))
    )


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The condition of this type in an object's status; empty where there is none."""
    return next((row for row in status.get("conditions", ()) if row["type"] == kind), {})
