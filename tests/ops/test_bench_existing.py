"""What is measured on machines that exist: their stack's file, the person's key, both times."""

import io
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from certs.ssh import new_key_pair
from lab.connection import LibvirtConnection
from lab.paths import PROJECT
from lab.stack import offer_path
from ops import bench_lab
from ops.bench_existing import agent, bench_existing, configuration_of, existing, table
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


def test_the_lab_offers_its_things_to_machines_that_boot_after_the_first_stack_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = configuration(PROJECT / "Pulumi.dev.yaml")
    monkeypatch.setattr(bench_lab, "PROJECT", tmp_path)
    for module in ("bench_lab", "bench_existing"):
        monkeypatch.setattr(f"ops.{module}.default_stack", lambda: default)
    key = new_key_pair().private
    booted: list[str] = []
    happened: list[str] = []

    def offer(lab: BenchLab) -> Path:
        return offer_path(lab.paths, lab.stack)

    def prepare(lab: BenchLab) -> LibvirtConnection:
        offer(lab).parent.mkdir(parents=True, exist_ok=True)
        offer(lab).write_text("{}")
        return INSIDE

    def update(lab: BenchLab) -> Update:
        prepare(lab)
        happened.append(f"update of {lab.stack}")
        return update_of(60)

    @contextmanager
    def priority(_lab: BenchLab) -> Iterator[None]:
        happened.append("machines go first")
        yield
        happened.append("machines yield")

    def run(lab: BenchLab, *arguments: str) -> str:
        if arguments[0] == "down":
            offer(lab).unlink()  # as lab.stack.Stack.remove does
        return ""

    for name, function in {
        "prepare": prepare,
        "update": update,
        "priority": priority,
        "run": run,
        "boot": lambda lab, _where: booted.append(offer(lab).read_text()),
        "access": lambda _lab: replace(ACCESS, ssh_key=key),
    }.items():
        monkeypatch.setattr(BenchLab, name, function)
    printed = io.StringIO()
    bench_existing(Console(file=printed, width=100))
    assert booted == ["{}"]
    # The first update sees to that itself.
    second = ["machines go first", "update of bench-existing", "machines yield"]
    assert happened == ["update of bench", *second]
    assert "up, on machines that exist" in printed.getvalue()
    assert not list(tmp_path.glob("Pulumi.bench*"))


def update_of(seconds: float) -> Update:
    """An update of so many seconds whose machines boot in 40."""
    spans = {
        "master": Span("urn::master", 0, 40),
        "master-ready": Span("urn::master-ready", 39, 40),
        "end": Span("urn::end", 40, seconds),
    }
    return Update(spans, ())


@pytest.mark.parametrize(("seconds", "verdict"), [(60, "0.60"), (76, "0.76 (more than 0.75)")])
def test_both_times_are_compared(seconds: float, verdict: str) -> None:
    made, taken = update_of(100), Update({"end": Span("urn::end", 0, seconds)}, ())
    printed = io.StringIO()
    Console(file=printed, width=100).print(table(made, taken))
    assert verdict in printed.getvalue()
