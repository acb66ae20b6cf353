"""A control plane that runs, pods in networks of their own, and the ways to ask them."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from probe.conditions import doors
from tests.engine.sshd import make_sshd, privilege_separation_directory, sshd
from tests.probe.asking import Asking
from tests.probe.cluster import RunningCluster
from tests.probe.network import PodNetwork

__all__ = ["make_sshd", "privilege_separation_directory", "sshd"]


@pytest.fixture(scope="session")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, privilege_separation_directory: None
) -> Iterator[RunningCluster]:
    with ExitStack() as stack:
        yield RunningCluster(tmp_path_factory.mktemp("cluster"), stack)


@pytest.fixture(scope="session")
def asked(cluster: RunningCluster) -> Iterator[Asking]:
    with asyncio.Runner() as runner:
        whole = doors(cluster.access)
        yield Asking(runner, runner.run(whole.__aenter__()))
        runner.run(whole.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def network(
    tmp_path_factory: pytest.TempPathFactory, cluster: RunningCluster
) -> Iterator[PodNetwork]:
    with ExitStack() as stack:
        yield PodNetwork(tmp_path_factory.mktemp("network"), cluster.keys, stack)
