"""How much memory pods use, as the kubelets of their nodes measure it."""

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from plan.addons.add_on import Workload
from probe.api import Api, ApiError

MEASURE = "pod_memory_working_set_bytes"
"""The kubelet's measure of what a pod's limit counts (``/metrics/resource``)."""

_LINE = re.compile(rf"^{MEASURE}\{{(?P<labels>[^}}]*)\}} (?P<value>\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
"""The suffixes of quantities of memory that pods name."""


@dataclass(frozen=True, kw_only=True)
class PodMemory:
    """What pods use, in bytes."""

    pods: int
    used: int | None
    """None where a kubelet does not say it, as of a pod that has just been started."""
    limit: int | None
    """None where a container has no limit."""


async def memory(api: Api, workloads: Iterable[Workload]) -> PodMemory:
    """The memory of these workloads' pods. Raises ApiError where the API does not list them."""
    listed = await asyncio.gather(*(_pods(api, workload) for workload in workloads))
    pods = [pod for pods in listed for pod in pods if "nodeName" in pod["spec"]]
    nodes = sorted({pod["spec"]["nodeName"] for pod in pods})
    measured: dict[tuple[str, str], int] = {}
    for readings in await asyncio.gather(*(_readings(api, node) for node in nodes)):
        measured |= readings
    used = [measured.get(_name(pod)) for pod in pods]
    limits = [limit for pod in pods for limit in _limits(pod)]
    return PodMemory(pods=len(pods), used=_sum(used), limit=_sum(limits))


def _sum(values: list[int | None]) -> int | None:
    """The sum; None where one of the values is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


async def _pods(api: Api, workload: Workload) -> list[Mapping[str, Any]]:
    selector = ",".join(f"{key}={value}" for key, value in workload.selector.items())
    path = f"/api/v1/namespaces/{workload.namespace}/pods"
    items: list[Mapping[str, Any]] = (await api.json(path, labelSelector=selector))["items"]
    return items


def _name(pod: Mapping[str, Any]) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _limits(pod: Mapping[str, Any]) -> Iterator[int | None]:
    for container in pod["spec"]["containers"]:
        written = container.get("resources", {}).get("limits", {}).get("memory")
        yield None if written is None else in_bytes(written)


async def _readings(api: Api, node: str) -> dict[tuple[str, str], int]:
    """Namespace and name of a node's pods to their memory; empty where its kubelet is silent."""
    try:
        text = await api.text(f"/api/v1/nodes/{node}/proxy/metrics/resource")
    except ApiError:
        return {}
    return readings(text)


def readings(text: str) -> dict[tuple[str, str], int]:
    """Namespace and name of pods to their memory, as a kubelet's metrics have it."""
    found_in: dict[tuple[str, str], int] = {}
    for line in _LINE.finditer(text):
        labels = dict(_LABEL.findall(line["labels"]))
        found_in[labels["namespace"], labels["pod"]] = int(float(line["value"]))
    return found_in


def in_bytes(quantity: str) -> int:
    """A quantity of memory such as ``128Mi``. Raises ValueError for one that is none."""
    number = quantity.rstrip("kKMGi")
    unit = quantity.removeprefix(number)
    if unit not in UNITS:
        raise ValueError(f"{quantity} is no quantity of memory")
    return int(number) * UNITS[unit]
