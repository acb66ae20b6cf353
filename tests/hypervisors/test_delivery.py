"""Artifacts arrive in the store of a machine that exists, over SSH and as a user with sudo."""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from certs.ssh import new_key_pair
from lab.delivery import Parcel, deliver
from lab.problem import Problem
from plan.library import script
from plan.model import STORE
from probe.access import Access
from tests.engine.sshd import MakeSshd, make_sshd, privilege_separation_directory
from tests.hypervisors.answering import AnsweringMachine
from tests.hypervisors.history import home, machine
from tests.plan.conftest import memory, new_machine
from tests.plan.container import Container
from tests.ports import free_port
from tests.probe.machine import jump_host

__all__ = [
    "home",
    "machine",
    "make_sshd",
    "memory",
    "new_machine",
    "privilege_separation_directory",
]

pytestmark = pytest.mark.container

MEBIBYTE = 1 << 20

KILL = """
for process in /proc/[0-9]*; do
    case $(cat $process/comm 2>/dev/null) in
    sshd*) kill -KILL ${process#/proc/} ;;
    esac
done
"""
"""Kills the machine's own servers of connections."""


class SeenProgress:
    """Keeps what is shown, and does something at the first note that the test waits for."""

    def __init__(self) -> None:
        self.facts: list[str] = []
        self.notes: list[str] = []
        self.at_note: Callable[[str], object] = lambda _: None

    def say(self, text: str) -> None:
        self.facts.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.at_note(text)

    @contextmanager
    def task(self, title: str) -> Iterator["SeenProgress"]:
        self.facts.append(title)
        yield self

    @contextmanager
    def asking(self) -> Iterator[None]:
        yield

    @property
    def sent(self) -> int:
        """MiB that were sent."""
        return int(self.notes[-1].split()[0]) if self.notes else 0


def parcel(folder: Path, name: str, size: int, mode: int = 0o555) -> Parcel:
    content = random.Random(name).randbytes(size)
    path = folder / name
    path.write_bytes(content)
    return Parcel(name=name, digest=hashlib.sha256(content).hexdigest(), mode=mode, path=path)


@pytest.fixture
def wanted(tmp_path: Path) -> tuple[Parcel, ...]:
    return (
        parcel(tmp_path, "kubelet", 5 * MEBIBYTE),
        parcel(tmp_path, "coredns", 24 * MEBIBYTE + 5, 0o444),
    )


def access_to(machine: AnsweringMachine, ssh_key: str = "") -> Access:
    return Access(machines={"m1": machine.access("admin")}, ssh_key=ssh_key)


def brought(access: Access, wanted: tuple[Parcel, ...]) -> SeenProgress:
    progress = SeenProgress()
    deliver(access, dict.fromkeys(access.machines, wanted), progress)
    return progress


def demand_stored(container: Container, wanted: tuple[Parcel, ...]) -> None:
    """The steps find all files by themselves, and nothing else is in the store."""
    for artifact in wanted:
        path = f"{STORE}/sha256/{artifact.digest}"
        assert container.path(path).read_bytes() == artifact.path.read_bytes()
        status = container.path(path).stat()
        assert (status.st_mode & 0o7777, status.st_uid) == (artifact.mode, 0)
        asks = f"\nverified {path} {artifact.digest}\n"
        asks += f"artifact {artifact.name} {artifact.digest} {artifact.mode:04o}\n"
        assert container.run(script("prelude") + asks).returncode == 0
    left = {path.name for path in container.path(STORE).iterdir()}
    assert left == {"sha256", "verified"}


def test_files_arrive_once_and_a_damaged_one_again(
    machine: AnsweringMachine, wanted: tuple[Parcel, ...]
) -> None:
    container, access = machine.container, access_to(machine)
    progress = brought(access, wanted)
    assert progress.facts == ["bring artifacts to m1", "artifacts: 29 MiB brought to m1"]
    assert progress.notes[-1] == "29 MiB sent"
    demand_stored(container, wanted)
    assert brought(access, wanted).notes == []

    damaged = container.path(f"{STORE}/sha256/{wanted[0].digest}")
    damaged.chmod(0o755)
    with damaged.open("r+b") as file:
        file.write(b"other bytes")
    assert brought(access, wanted).sent == 5
    demand_stored(container, wanted)


def test_the_persons_keys_open_a_machine_that_does_not_know_the_stacks(
    machine: AnsweringMachine, wanted: tuple[Parcel, ...]
) -> None:
    brought(access_to(machine, new_key_pair().private), wanted)
    demand_stored(machine.container, wanted)


def test_files_pass_through_a_jump_host(
    machine: AnsweringMachine, wanted: tuple[Parcel, ...], make_sshd: MakeSshd
) -> None:
    bastion = make_sshd("DEBUG1")
    bastion.start()
    key = bastion.directory / "client_key"
    machine.let_in("admin", key.with_suffix(".pub").read_text().strip())
    behind = replace(machine.access("admin"), bastion=jump_host(bastion))
    brought(Access(machines={"m1": behind}, ssh_key=key.read_text()), wanted)
    demand_stored(machine.container, wanted)
    assert f"127.0.0.1 port {machine.port}" in bastion.log()


def test_what_was_cut_off_goes_on(machine: AnsweringMachine, wanted: tuple[Parcel, ...]) -> None:
    container, access = machine.container, access_to(machine)
    progress = SeenProgress()

    def cut(text: str) -> None:
        if int(text.split()[0]) >= 20:
            progress.at_note = lambda _: None
            container.call("sh", "-c", KILL)

    progress.at_note = cut
    with pytest.raises(Problem, match=r"^the SSH connection to m1 broke off .* goes on from here"):
        deliver(access, {"m1": wanted}, progress)
    part = container.path(f"{STORE}/coredns.{wanted[1].digest}.part")
    assert 0 < part.stat().st_size < 24 * MEBIBYTE
    assert not container.path(f"{STORE}/sha256/{wanted[1].digest}").exists()
    missing = 24 - part.stat().st_size // MEBIBYTE
    assert brought(access, wanted).sent in (missing, missing + 1)
    demand_stored(container, wanted)


def test_a_beginning_with_other_bytes_is_sent_again(
    machine: AnsweringMachine, wanted: tuple[Parcel, ...]
) -> None:
    part = f"{STORE}/coredns.{wanted[1].digest}.part"
    for size in (1000, 30 * MEBIBYTE):
        machine.container.call("rm", "-rf", STORE)
        machine.container.write(part, bytes(size))
        brought(access_to(machine), wanted)
        demand_stored(machine.container, wanted)


def test_a_full_disk_is_a_sentence_and_leaves_room(
    machine: AnsweringMachine, wanted: tuple[Parcel, ...]
) -> None:
    container = machine.container
    container.call("mkdir", "-p", STORE)
    container.call("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", STORE)
    with pytest.raises(Problem) as caught:
        brought(access_to(machine), wanted)
    assert str(caught.value) == (
        f"m1: coredns cannot be kept in {STORE} (No space left on device): mend that and run the "
        "same again, which goes on from here."
    )
    demand_stored(container, wanted[:1])
    container.call("mount", "-o", "remount,size=64m", STORE)
    assert brought(access_to(machine), wanted).sent == 24
    demand_stored(container, wanted)


def test_machines_that_do_not_answer_or_give_no_rights_are_named_and_the_rest_gets_its_files(
    machine: AnsweringMachine, wanted: tuple[Parcel, ...]
) -> None:
    access = access_to(machine)
    silent = replace(access.machines["m1"], port=free_port())
    both = replace(access, machines={"m2": silent, **access.machines})
    with pytest.raises(Problem, match=r"^m2 \(127\.0\.0\.1 port \d+\) cannot be reached over SSH"):
        brought(both, wanted)
    demand_stored(machine.container, wanted)
    machine.container.write("/etc/sudoers.d/admin", "admin ALL=(ALL:ALL) ALL\n", 0o440)
    with pytest.raises(Problem, match=r"^m1: sudo refuses root's rights to admin without a pass"):
        brought(access, wanted)
