"""What is measured on machines that exist: their stack's file, the person's key, both times."""

import io
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from certs.ssh import new_key_pair
from lab.connection import LibvirtConnection
from lab.paths import PROJECT
from lab.stack import offer_path
from ops import bench_lab
from ops.bench_existing import agent, configuration_of, existing, table
from ops.bench_lab import BenchLab, Update
from ops.critical_path import Span
from probe.access import Access, MachineAccess
from spec.cluster import parse
from spec.configuration import CLUSTER, configuration

INSIDE = LibvirtConnection(
    uri="test:///default",
    private=True,
    namespace=Path("/nonexistent/namespace"),
    domain_type="qemu",
    reason="a test",
    pool="none",
    disks=Path("/nonexistent"),
)
ADDRESSES = ("192.168.1.10", "192.168.1.11", "192.168.1.12")
ACCESS = Access(
    machines={
        f"m{number}": MachineAccess(address=address, host_key=new_key_pair().public)
        for number, address in enumerate(ADDRESSES)
    },
    ssh_key="",
)


def test_the_default_stack_stands_on_machines_that_exist() -> None:
    spec = parse(configuration_of(ACCESS)[CLUSTER], name="bench-existing")
    assert [str(machine.address) for machine in spec.machines.values()] == [*ADDRESSES]
    made = parse(bench_lab.default_stack()[CLUSTER], name="bench")
    for name, machine in spec.machines.items():
        assert machine.roles == made.machines[name].roles
        assert spec.login_of(name).host_key is not None


def test_its_agent_has_the_key_and_ends(tmp_path: Path) -> None:
    pair = new_key_pair()
    lists = ["ssh-add", "-L"]
    with agent(pair.private):
        done = subprocess.run(lists, capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == pair.public.split()[:2]
    assert subprocess.run(lists, capture_output=True).returncode != 0


def test_its_stack_goes_whatever_ends_the_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = configuration(PROJECT / "Pulumi.dev.yaml")
    monkeypatch.setattr(bench_lab, "PROJECT", tmp_path)
    monkeypatch.setattr("ops.bench_existing.default_stack", lambda: default)
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(BenchLab, "run", lambda _self, *command: commands.append(command))
    lab = BenchLab(tmp_path)
    offer = offer_path(lab.paths, lab.stack)
    offer.parent.mkdir(parents=True)
    offer.write_text("{}")
    there: list[bool] = []
    file = tmp_path / "Pulumi.bench-existing.yaml"

    def measure() -> None:
        with existing(lab, INSIDE, ACCESS):
            there.append(file.is_file())
            raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        measure()
    assert there == [True]
    assert commands == [("down", "--keep-lab")]
    assert not file.exists()


@pytest.mark.parametrize(("seconds", "verdict"), [(60, "0.60"), (76, "0.76 (more than 0.75)")])
def test_both_times_are_compared(seconds: float, verdict: str) -> None:
    spans = {
        "master": Span("urn::master", 0, 40),
        "master-ready": Span("urn::master-ready", 39, 40),
        "end": Span("urn::end", 40, 100),
    }
    made, taken = Update(spans, ()), Update({"end": Span("urn::end", 0, seconds)}, ())
    printed = io.StringIO()
    Console(file=printed, width=100).print(table(made, taken))
    assert verdict in printed.getvalue()
