"""What pods use: the kubelets' own form of it, and what is missing."""

import asyncio
from collections.abc import Iterator

import pytest

from plan.addons.add_on import Workload
from plan.addons.coredns import NAMESPACE, SELECTOR
from probe.api import Api
from probe.usage import PodMemory, in_bytes, memory, readings
from tests.plan.stored import as_root
from tests.probe.cluster import RunningCluster, running

TEXT = """# HELP pod_memory_working_set_bytes [STABLE] Current working set of the pod in bytes
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{namespace="kube-system",pod="a"} 1.2345344e+07 1700000000000
pod_memory_working_set_bytes{namespace="other",pod="a"} 4096 1700000000000
pod_cpu_usage_seconds_total{namespace="kube-system",pod="b"} 5.1 1700000000000
node_memory_working_set_bytes 5.4e+08 1700000000000
"""


def test_a_kubelets_metrics_name_the_memory_of_each_pod() -> None:
    assert readings(TEXT) == {("kube-system", "a"): 12345344, ("other", "a"): 4096}
    assert readings("") == {}


@pytest.mark.parametrize(
    ("quantity", "size"), [("170Mi", 178257920), ("1Gi", 2**30), ("64Ki", 65536), ("5M", 5000000)]
)
def test_a_quantity_is_in_bytes(quantity: str, size: int) -> None:
    assert in_bytes(quantity) == size


@pytest.mark.parametrize("quantity", ["many", "5Ti", "1.5Gi", "Mi"])
def test_what_is_no_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match=r"quantity|invalid literal"):
        in_bytes(quantity)


@pytest.fixture
def empty(cluster: RunningCluster) -> Iterator[RunningCluster]:
    yield cluster
    cluster.remove_all()


@pytest.mark.engine
@as_root
def test_pods_whose_kubelet_is_silent_are_counted_and_their_memory_is_unknown(
    empty: RunningCluster,
) -> None:
    async def asked(**selector: str) -> PodMemory:
        async with Api(empty.kubeconfig()) as api:
            return await memory(api, [Workload(namespace=NAMESPACE, selector=selector)])

    empty.node("m1", "True")
    empty.pod("one-of-two", "m1", running("10.0.0.1"))
    assert asyncio.run(asked(**SELECTOR)) == PodMemory(pods=1, used=None, limit=None)
    assert asyncio.run(asked(app="nobody")) == PodMemory(pods=0, used=0, limit=0)
