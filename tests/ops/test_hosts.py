"""``./hardway hosts``: real OpenSSH servers on the loopback interface in the place of machines."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from certs.ssh import new_key_pair
from lab.paths import LabPaths
from lab.problem import Problem
from ops import hosts, lifecycle
from ops.display import stdout
from ops.exit_codes import ExitCode
from ops.hosts import STAND_IN, ScannedKey, exit_code, key_lines
from probe.access import MachineAccess
from probe.hosts import HostFinding
from spec.checks.places import KEY_KINDS
from spec.cluster import Cluster, parse
from spec.configuration import CLUSTER, configuration
from spec.hypervisor import Existing
from tests.engine.sshd import MakeSshd, Sshd, make_sshd, privilege_separation_directory
from tests.engine.stack import eventually
from tests.probe.machine import machine, one_key

__all__ = ["make_sshd", "privilege_separation_directory"]

pytestmark = pytest.mark.engine

STACK = """\
# The racks.
config:
  hardway:cluster:
    networks: {machines: 10.1.0.0/20}
    hypervisor:
      kind: existing # they are there
      user: ada
    machines:
      one: {address: 10.1.0.10, roles: eai}
      two: {address: 10.1.0.11}
"""
ALONE = """\
#!/bin/sh
exec unshare --net sh -c "$SSH_ORIGINAL_COMMAND"
"""
"""Commands run in a network of their own, from which they reach nobody. Needs root."""

ADDRESSES = {"one": "10.1.0.10", "two": "10.1.0.11"}


class Racks:
    """A stack's file, and a server for each machine in it."""

    def __init__(self, folder: Path, servers: dict[str, Sshd]) -> None:
        self.file = folder / "Pulumi.racks.yaml"
        self.file.write_text(STACK)
        self.servers = servers

    def server(self, spec: Cluster, name: str) -> MachineAccess:
        """Where a machine answers in truth, with the host key of the file."""
        where = spec.hypervisor_of(name)
        assert isinstance(where, Existing)
        key = where.host_keys[spec.machines[name].address]
        return replace(machine(self.servers[name]), host_key=key)

    def key(self, name: str) -> str:
        text = (self.servers[name].directory / "host_key.pub").read_text()
        return " ".join(text.split()[:2])

    def call(self, *arguments: str, answer: str = "") -> Result:
        app = typer.Typer()
        hosts.register(app)
        command = ["hosts", *arguments, "--stack", "racks"]
        # COLUMNS: a table has its cells in one line each.
        return CliRunner(env={"COLUMNS": "400"}).invoke(app, command, input=answer)

    @property
    def keys(self) -> dict[str, str]:
        """The host keys in the file."""
        value = configuration(self.file)[CLUSTER]["hypervisor"].get("host_keys", {})
        return dict(value)


@pytest.fixture
def racks(tmp_path: Path, make_sshd: MakeSshd, monkeypatch: pytest.MonkeyPatch) -> Racks:
    servers = {name: make_sshd() for name in ADDRESSES}
    one_key(servers)
    alone = tmp_path / "alone"
    alone.write_text(ALONE)
    alone.chmod(0o755)
    for server in servers.values():
        with (server.directory / "sshd_config").open("a") as configuration_file:
            configuration_file.write(f"ForceCommand {alone}\n")
        server.start()
    made = Racks(tmp_path, servers)
    for module in ("ops.hosts", "ops.stacks", "lab.stack"):
        monkeypatch.setattr(f"{module}.PROJECT", tmp_path)
    monkeypatch.setattr(hosts, "server", made.server)
    monkeypatch.setattr(stdout, "width", 400)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SSH_AUTH_SOCK", "PULUMI_BACKEND_URL"):
        monkeypatch.delenv(name, raising=False)
    return made


def in_default_file(racks: Racks) -> None:
    """Have the key of all machines where OpenSSH looks for it."""
    folder = Path(os.environ["HOME"], ".ssh")
    folder.mkdir(mode=0o700)
    (folder / "id_ed25519").write_bytes(
        (racks.servers["one"].directory / "client_key").read_bytes()
    )


# -- scan ------------------------------------------------------------------------------------------


def test_without_consent_fingerprints_are_shown_and_nothing_is_written(racks: Racks) -> None:
    done = racks.call("scan")
    assert done.exit_code == 0, done.output
    for name, address in ADDRESSES.items():
        (row,) = (line for line in done.output.splitlines() if address in line)
        assert name in row
        assert racks.servers[name].fingerprint in row
    assert "./hardway hosts scan --yes --stack racks" in done.output
    assert racks.file.read_text() == STACK


def test_a_fingerprint_is_whole_on_a_narrow_terminal_and_a_copied_key_is_named() -> None:
    pair = new_key_pair()
    shown = [
        ScannedKey(
            machine=name,
            address=address,
            key=pair.public,
            fingerprint=f"SHA256:{'x' * 43}",
            is_known=False,
        )
        for name, address in ADDRESSES.items()
    ]
    first, second, note = key_lines(shown)
    assert f"one 10.1.0.10  SHA256:{'x' * 43} (ssh-ed25519)" in first
    assert "two 10.1.0.11" in second
    assert "two has the same key as one" in note


def test_keys_are_written_once_and_known_from_then_on(racks: Racks) -> None:
    assert racks.call("scan", "--yes").exit_code == 0
    assert racks.keys == {address: racks.key(name) for name, address in ADDRESSES.items()}
    text = racks.file.read_text()
    assert [line for line in text.splitlines() if line in STACK.splitlines()] == STACK.splitlines()
    parse(configuration(racks.file)[CLUSTER], name="racks")
    again = racks.call("scan", "--json")
    assert [key["is_known"] for key in json.loads(again.output)] == [True, True]
    assert racks.call("scan", "--yes").exit_code == 0
    assert racks.file.read_text() == text


@pytest.mark.parametrize(("answer", "count"), [("y\n", 2), ("n\n", 0)])
def test_a_person_is_asked(
    racks: Racks, monkeypatch: pytest.MonkeyPatch, answer: str, count: int
) -> None:
    monkeypatch.setattr("ops.display.at_terminal", lambda: True)
    assert "the machines' own fingerprints?" in racks.call("scan", answer=answer).output
    assert len(racks.keys) == count


def test_another_key_than_that_of_the_file_is_refused(racks: Racks) -> None:
    racks.call("scan", "--yes")
    stranger = " ".join(new_key_pair().public.split()[:2])
    text = racks.file.read_text().replace(racks.key("two"), stranger)
    racks.file.write_text(text)
    done = racks.call("scan", "--yes")
    assert isinstance(done.exception, Problem)
    assert "two (10.1.0.11) shows another host key" in str(done.exception)
    assert racks.file.read_text() == text


def test_a_machine_that_does_not_answer_keeps_no_others_from_their_keys(racks: Racks) -> None:
    racks.servers["two"].stop()
    done = racks.call("scan", "--yes")
    assert isinstance(done.exception, Problem)
    assert "two (10.1.0.11) shows no host key" in str(done.exception)
    assert racks.keys == {"10.1.0.10": racks.key("one")}


def test_a_mistake_in_the_file_is_said_before_anything_is_asked(racks: Racks) -> None:
    racks.file.write_text(STACK.replace("10.1.0.11", "10.9.0.11"))
    done = racks.call("scan")
    assert isinstance(done.exception, Problem)
    assert "machines.two.address 10.9.0.11 is outside" in str(done.exception)
    assert "host_keys" not in str(done.exception)


@pytest.mark.parametrize("verb", ["scan", "check"])
def test_a_stack_whose_machines_are_made_has_nothing_to_look_at(racks: Racks, verb: str) -> None:
    racks.file.write_text(
        STACK.replace(
            "    hypervisor:\n      kind: existing # they are there\n      user: ada\n", ""
        )
    )
    done = racks.call(verb)
    assert isinstance(done.exception, Problem)
    assert "has no machines that exist already" in str(done.exception)


def test_the_stand_in_is_a_key_of_nobody() -> None:
    kind, _ = STAND_IN.split()
    assert kind in KEY_KINDS


# -- check -----------------------------------------------------------------------------------------


def test_the_stack_needs_host_keys_first(racks: Racks) -> None:
    done = racks.call("check")
    assert isinstance(done.exception, Problem)
    assert "hypervisor.host_keys has no key of one" in str(done.exception)


def test_machines_are_asked_with_the_persons_key_of_the_default_file(racks: Racks) -> None:
    in_default_file(racks)
    racks.call("scan", "--yes")
    done = racks.call("check", "--json")
    result = json.loads(done.output)
    assert [value["asked"] for value in result["machines"].values()] == [True, True]
    for value in result["machines"].values():
        # This computer does not have these addresses.
        refused = [it["check"] for it in value["findings"] if it["refuses"]]
        assert "address" in refused
        assert "login" not in refused
    assert result["verdict"] == "wrong"
    assert done.exit_code == ExitCode.WRONG
    table = racks.call("check").output
    assert "10.1.0.10 is on none of its interfaces" in table
    assert "./hardway hosts check --stack racks again" in table


@contextmanager
def agent(folder: Path, key: Path) -> Iterator[str]:
    """An SSH agent with a key; the path of its socket."""
    path = str(folder / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        eventually("the agent listens", lambda: Path(path).exists())
        key.chmod(0o600)
        subprocess.run(
            ["ssh-add", "-q", key], env={**os.environ, "SSH_AUTH_SOCK": path}, check=True
        )
        yield path
    finally:
        process.terminate()
        process.wait()


def test_machines_are_asked_with_the_persons_key_of_the_agent(
    racks: Racks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    racks.call("scan", "--yes")
    with agent(tmp_path, racks.servers["one"].directory / "client_key") as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        result = json.loads(racks.call("check", "--json").output)
    assert [value["asked"] for value in result["machines"].values()] == [True, True]


def test_the_stacks_key_opens_those_that_have_it_and_the_persons_the_rest(
    racks: Racks, monkeypatch: pytest.MonkeyPatch
) -> None:
    racks.call("scan", "--yes")
    in_default_file(racks)
    pair = new_key_pair()
    (racks.servers["two"].directory / "client_key.pub").write_text(f"{pair.public}\n")
    monkeypatch.setattr(hosts, "_kept", lambda _: (pair.private, []))
    result = json.loads(racks.call("check", "--json").output)
    assert [value["asked"] for value in result["machines"].values()] == [True, True]


def test_a_login_that_is_refused_says_whose_keys_were_tried(racks: Racks) -> None:
    racks.call("scan", "--yes")
    done = racks.call("check")
    assert done.exit_code == ExitCode.UNASKED
    assert "let root in with your own SSH keys (an agent's and ~/.ssh/id_*)" in done.output


def test_an_impostor_is_not_logged_in_to(racks: Racks) -> None:
    in_default_file(racks)
    racks.call("scan", "--yes")
    stranger = " ".join(new_key_pair().public.split()[:2])
    racks.file.write_text(racks.file.read_text().replace(racks.key("two"), stranger))
    done = racks.call("check", "--json")
    assert done.exit_code == ExitCode.UNASKED
    result = json.loads(done.output)["machines"]["two"]
    assert not result["asked"]
    assert "shows another SSH host key" in result["findings"][0]["sentence"]


def test_up_is_refused_with_the_table_before_anything_is_made(
    racks: Racks, paths: LabPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    in_default_file(racks)
    racks.call("scan", "--yes")
    with pytest.raises(Problem) as caught:
        lifecycle.up("racks", refresh=False)
    assert "one and two cannot become part of the cluster" in str(caught.value)
    assert "10.1.0.10 is on none" in capsys.readouterr().out
    assert not paths.state.exists()


def test_up_asks_nobody_where_all_machines_are_made() -> None:
    machines = {"m": {"address": "192.168.1.10"}}
    value = {"networks": {"machines": "192.168.1.0/24"}, "machines": machines}
    hosts.demand_fit("nosuch", parse(value, name="made"))


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        ({}, ExitCode.WELL),
        ({"swap": False}, ExitCode.WARNED),
        ({"swap": False, "ports": True}, ExitCode.WRONG),
        ({"ports": True, "login": True}, ExitCode.UNASKED),
    ],
)
def test_the_exit_code_is_that_of_the_worst(checks: dict[str, bool], code: ExitCode) -> None:
    judged = [
        HostFinding(machine="m", check=check, refuses=refuses, sentence="s", remedy="r")
        for check, refuses in checks.items()
    ]
    assert exit_code(judged) is code
