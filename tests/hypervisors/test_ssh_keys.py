"""The SSH keys that log in turn over, on the real engine and with real servers that let keys in."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from certs.ssh import new_key_pair
from lab.paths import PROJECT
from ops.reach import kept_access, kept_logins
from plan import apiserver, layout, library, render
from plan.model import LoginKeys, Logins, Step
from plan.walk import walk
from spec.cluster import parse
from tests.engine.stack import CliRun, EngineStack, empty_stack, stack
from tests.hypervisors.answering import AnsweringMachine, answering
from tests.hypervisors.history import differing, home, listing, machine
from tests.machine.lab import at_length
from tests.plan.conftest import memory, new_machine
from tests.plan.container import Container
from tests.plan.golden import golden_spec

__all__ = ["empty_stack", "home", "machine", "memory", "new_machine", "stack"]

pytestmark = [pytest.mark.engine, pytest.mark.container]

PROGRAM = """
from tests.hypervisors.declared_logins import declare

declare(json.loads(Path("values.json").read_text()))
"""
ROOT_KEYS = "/root/.ssh/authorized_keys"
JUMP_KEYS = "/home/jump/.ssh/authorized_keys"


@dataclass
class TurningLogins:
    """A stack with a machine, and everybody's keys."""

    stack: EngineStack
    server: AnsweringMachine
    folder: Path
    home: Path
    bastion: AnsweringMachine | None = None
    """The jump host of a machine that exists already; None where the program makes it."""
    keys: dict[int, Path] = field(default_factory=dict)
    """Each key that the state had at any time."""
    role: bool = True

    @property
    def user(self) -> str:
        return "admin" if self.bastion else "root"

    @property
    def list_of_keys(self) -> str:
        return "/home/admin/.ssh/authorized_keys" if self.bastion else ROOT_KEYS

    def spec(self, numbers: list[int] | None) -> dict[str, Any]:
        value: dict[str, Any] = {
            "networks": {"machines": "192.168.1.0/24"},
            "machines": {"m1": {"address": "192.168.1.10", "roles": "eai"}},
        }
        if self.bastion:
            keys = {"192.168.1.10": self.server.host_key}
            value["hypervisor"] = {"kind": "existing", "user": "admin", "host_keys": keys}
        return value | ({"ssh_keys": numbers} if numbers else {})

    def write(self, numbers: list[int] | None) -> None:
        via = self.bastion
        jump = via and {
            "address": "127.0.0.1",
            "port": via.port,
            "user": "jump",
            "host_key": via.host_key,
        }
        values = {
            "spec": self.spec(numbers),
            "port": self.server.port,
            "host_key": self.server.host_key,
            "bastion": jump,
            "file": None if via else os.fspath(self.server.container.path(ROOT_KEYS)),
            "role": self.role,
        }
        file = self.stack.directory / "values.json"
        file.write_text(json.dumps(values))
        self.stack.write(PROGRAM)

    def environment(self, *, by_person: bool = False) -> dict[str, str]:
        """Nobody's own keys are needed but at the first login."""
        owner = os.fspath(self.home) if by_person else "/nonexistent"
        return {"PYTHONPATH": os.fspath(PROJECT), "HOME": owner}

    def up(self, *options: str, fails: bool = False, by_person: bool = False) -> CliRun:
        environment = self.environment(by_person=by_person)
        done = self.stack.up(*options, fails=fails, environment=environment)
        self._note_keys()
        return done

    def becomes(self, numbers: list[int] | None, *options: str, by_person: bool = False) -> CliRun:
        """An update to these numbers, after which nothing is left to be done."""
        self.write(numbers)
        done = self.up(*options, by_person=by_person)
        self.demand_empty_preview()
        for pair in self.keys.values():
            body = "".join(pair.read_text().splitlines()[1:-1])[:60]
            assert body not in self.stack.state() + done.text + done.logged()
        return done

    def demand_empty_preview(self) -> None:
        self.stack.preview("--expect-no-changes", environment=self.environment())

    def refused(self, numbers: list[int] | None, sentence: str) -> None:
        """Preview and update refuse it and nothing is changed."""
        before = self.let_in()
        self.write(numbers)
        for run in (self.stack.preview, self.stack.up):
            done = run(fails=True, environment=self.environment())
            assert sentence in " ".join(done.errors_of("specification").split()), done.text
        assert self.let_in() == before

    def _exported(self) -> Mapping[str, Any]:
        state: Mapping[str, Any] = json.loads(self.stack.export())
        return state

    def _note_keys(self) -> None:
        for resource in self._exported()["deployment"]["resources"]:
            name = resource["urn"].rpartition("::")[2]
            if resource["type"] != "pulumi:index:Stash" or not name.startswith("ssh-key"):
                continue
            number = int(name.removeprefix("ssh-key").removeprefix("-") or "1")
            kept = json.loads(resource["outputs"]["output"]["plaintext"])
            file = self.folder / f"key-{number}"
            file.touch(0o600)
            file.write_text(kept["private"])
            self.keys[number] = file

    def logs_in(self) -> tuple[Path, str | None]:
        """The key by which commands of the project log in, and the lines that they expect."""
        numbers = json.loads((self.stack.directory / "values.json").read_text())["spec"]
        spec = parse(numbers, name="dev")
        private = kept_access(spec, self._exported()).ssh_key
        (file,) = (file for file in self.keys.values() if file.read_text() == private)
        return file, kept_logins(spec, self._exported())

    def let_in(self) -> list[int]:
        """The numbers of the keys that log in really, on the machine and on its jump host alike."""
        every = [
            [number for number, key in self.keys.items() if self._lets_in(server, user, key)]
            for server, user in ((self.server, self.user), (self.bastion, "jump"))
            if server
        ]
        assert all(numbers == every[0] for numbers in every), every
        return sorted(every[0])

    def opens(self, number: int) -> bool:
        """Whether a key opens the machine itself."""
        return self._lets_in(self.server, self.user, self.keys[number])

    def _lets_in(self, server: AnsweringMachine, user: str, key: Path) -> bool:
        known = self.folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "IdentityFile": key,
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": known,
        }
        done = subprocess.run(
            ["ssh", "-F", "none", *(f"-o{name}={value}" for name, value in options.items())]
            + ["-p", str(server.port), f"{user}@127.0.0.1", "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        refused = done.returncode == 255 and "Permission denied" in done.stderr
        assert done.returncode == 0 or refused, done.stderr
        return done.returncode == 0

    def public(self, number: int) -> str:
        """The public half of a key, without a comment."""
        whole = subprocess.check_output(["ssh-keygen", "-y", "-f", self.keys[number]], text=True)
        return " ".join(whole.split()[:2])

    def service(self) -> str:
        """The process of the service that the role brought."""
        (unit,) = self.server.container.shown("x.service")
        assert unit["ActiveState"] == "active"
        return unit["InvocationID"]


@pytest.fixture
def made(
    stack: EngineStack, new_machine: Callable[..., Container], tmp_path: Path
) -> Iterator[TurningLogins]:
    """A machine that the program makes."""
    with answering(new_machine(), tmp_path) as server:
        yield TurningLogins(stack, server, tmp_path, tmp_path)


@pytest.fixture
def behind(
    stack: EngineStack,
    machine: AnsweringMachine,
    new_machine: Callable[..., Container],
    home: Path,
    tmp_path: Path,
) -> Iterator[TurningLogins]:
    """A machine that exists already, behind a jump host."""
    jump = new_machine()
    jump.call("useradd", "--create-home", "--password", "*", "--shell", "/bin/sh", "jump")
    with answering(jump, tmp_path, namespaces=("--mount", "--uts", "--ipc", "--pid")) as bastion:
        bastion.let_in("jump", (home / ".ssh/id_ed25519.pub").read_text().strip())
        yield TurningLogins(stack, machine, tmp_path, home, bastion)


@pytest.fixture(params=[pytest.param("made", marks=at_length), "behind"])
def logins(request: pytest.FixtureRequest) -> TurningLogins:
    turning: TurningLogins = request.getfixturevalue(request.param)
    return turning


def test_a_key_turns_over_without_losing_access(logins: TurningLogins) -> None:
    before = listing(logins.server.container) if logins.bastion else {}
    logins.becomes(None, by_person=True)
    assert logins.let_in() == [1]
    runs = logins.service()
    logins.refused([2], "is [1] and cannot become [2] at once")
    logins.refused([2, 1], "no machine would let number 2 in, which is to log in")

    done = logins.becomes([1, 2])
    assert logins.let_in() == [1, 2]
    assert "m1-role" not in done.steps()
    logins.becomes([1])
    assert logins.let_in() == [1], "the first stage was taken back"
    logins.becomes(None)
    logins.becomes([1, 2])
    assert logins.let_in() == [1, 2]
    assert logins.logs_in()[0] == logins.keys[1]
    logins.refused([2], "machines would refuse number 1, which logs in until then")
    logins.refused(None, "no step would see to it that machines refuse the other key")

    done = logins.becomes([2, 1])
    assert logins.let_in() == [1, 2]
    assert logins.logs_in()[0] == logins.keys[2]
    assert done.steps()["m1-role"] == ["update"], "it logs in by another key"
    logins.becomes([1, 2])
    assert logins.logs_in()[0] == logins.keys[1], "the second stage was taken back"
    logins.becomes([2, 1])

    done = logins.becomes([2])
    assert logins.let_in() == [2]
    assert "m1-role" not in done.steps()
    assert logins.service() == runs, "nothing was restarted"
    logins.refused([2, 1], "would be let in again")
    logins.refused(None, "would be let in again")

    logins.role = False
    logins.becomes([2])
    assert not logins.server.container.path("/etc/role/conf").exists(), "deleted by key 2"
    if not logins.bastion:
        for numbers in ([2, 3], [3, 2], [3]):
            logins.becomes(numbers)
        assert logins.let_in() == [3], "and once more"
    logins.stack.destroy(environment=logins.environment())
    if logins.bastion:
        assert logins.let_in() == []
        assert differing(before, listing(logins.server.container)) == {}


def test_what_somebody_changed_is_mended(logins: TurningLogins) -> None:
    logins.becomes([1, 2], by_person=True)
    container, path = logins.server.container, logins.list_of_keys
    whole = container.read(path)
    own = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMzz somebody"
    lines = [line for line in whole.splitlines() if line.endswith("hardway:dev")]
    (used,) = (line for line in lines if logins.public(1) in line)
    stranger = f"{new_key_pair().public} {layout.login_mark('dev')}"
    ours = "".join(f"{line}\n" for line in lines)
    others = whole.removesuffix(ours)
    for damaged in (f"{used}\n", f"{ours}{stranger}\n"):
        container.path(path).write_text(f"{others}{own}\n{damaged}")
        done = logins.up("--refresh")
        assert done.steps()["m1-guard"][-1] == "update", done.text
        assert container.read(path) == f"{others}{own}\n{ours}"
        logins.demand_empty_preview()


def test_an_update_that_failed_goes_on(logins: TurningLogins) -> None:
    logins.becomes([1], by_person=True)
    container = logins.server.container
    logins.write([1, 2])
    # A mount cannot be replaced, as where the disk has a fault.
    container.call("mount", "--bind", logins.list_of_keys, logins.list_of_keys)
    logins.up(fails=True)
    assert logins.opens(1)
    assert not logins.opens(2)
    container.call("umount", logins.list_of_keys)
    logins.becomes([1, 2])
    assert logins.let_in() == [1, 2]


def test_a_machine_that_is_made_anew_lets_in_what_is_current(made: TurningLogins) -> None:
    made.becomes(None)
    for numbers, current in (([1, 2], [1, 2]), ([2, 1], [1, 2]), ([2], [2])):
        made.becomes(numbers)
        made.server.container.path(ROOT_KEYS).unlink()
        machine = next(
            resource["urn"]
            for resource in json.loads(made.stack.export())["deployment"]["resources"]
            if resource["urn"].endswith("FirstBoot::m1")
        )
        done = made.becomes(numbers, "--replace", machine)
        assert "create-replacement" in done.steps()["m1-role"]
        assert made.let_in() == current


def test_a_list_of_keys_is_whole_wherever_its_step_is_cut_off(
    new_machine: Callable[..., Container],
) -> None:
    container = new_machine()
    mark = layout.login_mark("dev")
    plane = golden_spec("default")
    # On a control plane the step also has the scripts by which keys turn over.
    step = Step(
        name="identity",
        logins=Logins(user="root", keys=LoginKeys(mark)),
        walk=walk(plane, plane.control_planes[0], apiserver.UNIT),
    )
    keys = sorted(new_key_pair().public for _ in range(2))
    old = f"{keys[0]}\n"
    new = "".join(f"{key} {mark}\n" for key in keys)
    text = render.text(step, lambda _: new)
    assert container.run(library.laid_down()).returncode == 0

    def begin() -> None:
        container.call("mkdir", "-p", "/root/.ssh")
        container.write(ROOT_KEYS, f"# mine\n{old}", 0o600)

    begin()
    count = container.commands(text)
    assert container.read(ROOT_KEYS) == f"# mine\n{new}"
    for cut in range(15, count, max(1, count // 20)):
        begin()
        assert container.run(text, command=cut).returncode < 0
        assert container.read(ROOT_KEYS) in (f"# mine\n{old}", f"# mine\n{new}"), cut
        assert container.run(text).returncode == 0
        assert container.read(ROOT_KEYS) == f"# mine\n{new}"
