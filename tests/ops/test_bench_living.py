"""What is measured of a living cluster: which clusters follow each other, and what is compared."""

import io
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from ops import bench_lab
from ops.bench_lab import BenchLab, Update
from ops.bench_living import ADDED, bench_living, table
from ops.critical_path import Span
from spec.change import refused_changes
from spec.cluster import Cluster, parse
from spec.configuration import CLUSTER, configuration
from spec.versions import catalogue, minor_of


@pytest.fixture
def clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Cluster]:
    """Runs the measurement with updates that only note their cluster; returns these in order."""
    noted: list[Cluster] = []
    lost: list[str] = []
    default = bench_lab.default_stack()
    monkeypatch.setattr(bench_lab, "PROJECT", tmp_path)
    for module in ("bench_lab", "bench_living"):
        monkeypatch.setattr(f"ops.{module}.default_stack", lambda: deepcopy(default))
    monkeypatch.setattr(BenchLab, "run", lambda _self, *_command: "")

    monkeypatch.setattr(BenchLab, "lose", lambda _self, machine: lost.append(machine))

    def update(lab: BenchLab, *_options: str) -> Update:
        noted.append(parse(configuration(lab.file)[CLUSTER], name=lab.stack))
        return update_of(60)

    monkeypatch.setattr(BenchLab, "update", update)
    bench_living(Console(file=io.StringIO()))
    assert lost == [noted[-1].etcd_members[1]], "a member that is not the first one"
    assert not list(tmp_path.iterdir()), "the stack's file goes"
    return noted


def update_of(seconds: float) -> Update:
    """An update that ends after so many seconds, and whose added machine has joined after 100."""
    spans = {
        f"{ADDED}-node": Span(f"urn::{ADDED}-node", 0, 100),
        "end": Span("urn::end", 0, seconds),
    }
    return Update(spans, ())


def test_each_cluster_may_follow_the_one_before(clusters: list[Cluster]) -> None:
    for before, after in pairwise(clusters):
        assert not refused_changes(before, after)


def test_a_minor_version_rises_and_one_member_of_three_is_replaced(clusters: list[Cluster]) -> None:
    versions = [minor_of(cluster.versions.kubernetes) for cluster in clusters]
    assert versions == [versions[1] - 1, *[minor_of(catalogue()[0].kubernetes)] * 5]
    members = [len(cluster.etcd_members) for cluster in clusters]
    assert members == [1, 1, 3, 3, 3, 3]
    *_, added, replaced, made_anew = (set(cluster.machines) for cluster in clusters)
    assert ADDED in added & replaced
    assert (len(added - replaced), len(replaced - added)) == (1, 1)
    assert made_anew == replaced


@pytest.mark.parametrize(("seconds", "verdict"), [(130, "1.30"), (140, "1.40 (more than 1.3)")])
def test_changes_are_compared_with_a_machine_that_joins(seconds: float, verdict: str) -> None:
    printed = io.StringIO()
    replaced, made_anew = update_of(seconds), update_of(120)
    shown = table(update_of(450), 3, update_of(110), replaced, made_anew)
    Console(file=printed, width=120).print(shown)
    lines = [line for line in printed.getvalue().splitlines() if "│" in line]
    last = [line.rstrip(" │").rpartition("│")[2].strip() for line in lines]
    assert last == ["1.00", "1.10", verdict, "1.20", "4.50", "1.50"]
