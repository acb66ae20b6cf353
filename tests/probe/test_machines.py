"""Commands on machines, against a real OpenSSH server."""

import asyncio
import hashlib
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from probe import machines as module
from probe.access import Access
from probe.machines import Done, Machines, Unreachable
from tests.engine.sshd import MakeSshd, Sshd, descendants, make_key, pid_runs
from tests.engine.stack import PATIENCE, eventually
from tests.probe.machine import access, behind

pytestmark = pytest.mark.engine


def within(opened: Access, act: Callable[[Machines], Awaitable[Done]], **more: int) -> Done:
    async def whole() -> Done:
        async with Machines(opened, **more) as there:
            return await act(there)

    return asyncio.run(whole())


def once(opened: Access, script: str, *arguments: str, given: str | None = None) -> Done:
    return within(
        opened, lambda there: there.run("m1", script, *arguments, timeout=PATIENCE, input=given)
    )


def refusal(opened: Access) -> str:
    with pytest.raises(Unreachable) as caught:
        once(opened, "true")
    return str(caught.value)


def changed(opened: Access, **changes: object) -> Access:
    return replace(opened, machines={"m1": replace(opened.machines["m1"], **changes)})  # type: ignore[arg-type]


def test_words_and_input_arrive_as_they_are_and_everything_comes_back(sshd: Sshd) -> None:
    arguments = ("", "two words", "$HOME `id` 'q' \"d\"", "new\nline", "--flag", "ä*?")
    script = "printf '%s\\0' \"$@\"; cat; echo oops >&2; exit 3"
    done = once(access(m1=sshd), script, *arguments, given="from\nhere")
    assert done.stdout == "".join(f"{word}\0" for word in arguments) + "from\nhere"
    assert (done.stderr, done.status, done.reason) == ("oops\n", 3, "oops")


def test_without_input_a_script_that_reads_finds_the_end(sshd: Sshd) -> None:
    assert once(access(m1=sshd), "cat; echo read").stdout == "read\n"


def test_a_script_stops_at_its_first_failure(sshd: Sshd) -> None:
    async def act(there: Machines) -> Done:
        for script in ("false; echo on", "false | true; echo on"):
            assert (await there.run("m1", script, timeout=PATIENCE)).stdout == ""
        return await there.run("m1", 'echo "$unset"; echo on', timeout=PATIENCE)

    done = within(access(m1=sshd), act)
    assert done.stdout == ""
    assert done.reason.endswith("unset: unbound variable")


def test_a_jump_host_passes_the_connection_on_and_closes_with_it(make_sshd: MakeSshd) -> None:
    machine, bastion = make_sshd(), make_sshd("DEBUG1")
    opened = behind(machine, bastion)
    machine.start()
    bastion.start()
    assert once(opened, "cat", given="through").stdout == "through"
    assert f"127.0.0.1 port {machine.port}" in bastion.log()
    for server in (machine, bastion):
        eventually("no connection is left", lambda server=server: not descendants(server.pid))  # type: ignore[misc]


def test_a_jump_host_that_refuses_is_named(make_sshd: MakeSshd) -> None:
    machine, bastion = make_sshd(), make_sshd()
    opened = behind(machine, bastion)
    assert refusal(opened).startswith("the jump host of m1 (127.0.0.1 port ")
    bastion.start()
    assert refusal(opened).startswith(f"m1 (127.0.0.1 port {machine.port}) cannot be reached")
    via = opened.machines["m1"].bastion
    assert via
    impostor = changed(opened, bastion=replace(via, host_key=opened.machines["m1"].host_key))
    assert "the jump host of m1" in refusal(impostor)
    assert "shows another SSH host key" in refusal(impostor)


def test_a_large_input_arrives_whole(sshd: Sshd) -> None:
    done = once(access(m1=sshd), "wc --bytes", given="x" * 1_000_000)
    assert done.stdout == "1000000\n"


def test_much_data_is_fed_as_it_is_and_a_script_may_end_before_it(sshd: Sshd) -> None:
    parts = [bytes([number]) * 300_000 for number in range(60)]

    async def content() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    def fed(script: str) -> Done:
        return within(
            access(m1=sshd),
            lambda there: there.feed("m1", script, content=content(), timeout=PATIENCE),
        )

    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    assert fed("sha256sum").stdout.split() == [digest, "-"]
    done = fed("head --bytes=1 >/dev/null; echo enough >&2; exit 4")
    assert (done.status, done.reason) == (4, "enough")
    assert fed("exec <&-; sleep 0.1; echo closed").stdout == "closed\n"


def test_a_script_may_print_any_amount_of_bytes(sshd: Sshd) -> None:
    taken: list[bytes] = []

    def fetched(script: str) -> Done:
        taken.clear()
        return within(
            access(m1=sshd),
            lambda there: there.fetch("m1", script, take=taken.append, timeout=PATIENCE),
        )

    done = fetched("head --bytes=3000000 /dev/zero; printf '\\377'; echo beside >&2")
    assert (done.status, done.stdout, done.stderr) == (0, "", "beside\n")
    assert b"".join(taken) == bytes(3_000_000) + b"\xff"
    assert len(taken) > 1
    done = fetched("echo part; echo why >&2; exit 4")
    assert (done.status, done.reason, taken) == (4, "why", [b"part\n"])


def test_a_script_is_ended_when_its_time_is_over(sshd: Sshd) -> None:
    slow = "sleep 677 & sleep 678"
    done = within(access(m1=sshd), lambda there: there.run("m1", slow, timeout=1))
    assert (done.status, done.reason) == (124, "it did not end in its time")
    eventually(
        "nothing of it runs on",
        lambda: not [pid for pid in descendants(sshd.pid) if "sleep" in _command(pid)],
    )


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_a_machine_with_another_host_key_is_told_nothing(sshd: Sshd, tmp_path: Path) -> None:
    another_key = make_key(tmp_path / "other").with_suffix(".pub").read_text()
    sentence = refusal(changed(access(m1=sshd), host_key=another_key))
    assert "another SSH host key" in sentence
    assert "Accepted" not in sshd.log()


def test_only_the_stacks_key_is_offered_whatever_the_person_has(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an agent nor files in ~/.ssh help or harm."""
    good = sshd.directory / "client_key"
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "id_ed25519").write_text(good.read_text())
    (home / "id_ed25519").chmod(0o600)
    (home / "config").write_text("Host *\n  Port 1\n  ProxyCommand false\n  User nobody\n")
    monkeypatch.setenv("HOME", str(home.parent))
    stranger = make_key(tmp_path / "stranger").read_text()
    with Agent(tmp_path / "agent", good) as socket_path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
        sentence = refusal(replace(access(m1=sshd), ssh_key=stranger))
        assert "does not let" in sentence
        assert once(access(m1=sshd), "echo in").stdout == "in\n"


class Agent:
    """An agent that holds a key."""

    def __init__(self, path: Path, key: Path) -> None:
        self.path, self.key = path, key

    def __enter__(self) -> Path:
        self.process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", self.path], stdout=subprocess.DEVNULL
        )
        while not self.path.exists():
            assert self.process.poll() is None
            time.sleep(0.01)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(self.path)}
        subprocess.run(
            ["ssh-add", "-q", self.key], env=environment, check=True, capture_output=True
        )
        return self.path

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def test_a_closed_port_and_a_bad_key_are_told_in_a_sentence(make_sshd: MakeSshd) -> None:
    opened = access(m1=make_sshd())
    assert refusal(opened).endswith("cannot be reached over SSH (Connection refused)")
    assert "cannot be read" in refusal(replace(opened, ssh_key="no key"))
    assert "cannot be read" in refusal(changed(opened, host_key="no key"))
    with pytest.raises(Unreachable, match="m9 is no machine"):
        within(opened, lambda there: there.run("m9", "true", timeout=1))


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where everybody is let in and nobody answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_machine_that_says_nothing_is_given_up(
    sshd: Sshd, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT", 1)
    sentence = refusal(changed(access(m1=sshd), port=silent))
    assert sentence.endswith("does not answer over SSH in time")


def test_a_machine_that_has_much_to_do_may_be_silent_for_longer(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEPALIVE", 1)
    monkeypatch.setattr(module, "MISSED", 1)
    # The script's parent is `timeout`, whose parent is the server of this connection.
    script = """
        read -r _ _ _ server _ </proc/$PPID/stat
        kill -STOP "$server"
        sleep 5
        kill -CONT "$server"
        echo done
    """
    done = within(access(m1=sshd), lambda there: there.run("m1", script, timeout=60), factor=60)
    assert done.stdout == "done\n"


def test_one_connection_serves_all_and_more_than_a_server_allows_at_once(sshd: Sshd) -> None:
    async def act(there: Machines) -> Done:
        await asyncio.gather(*(there.run("m1", "sleep 0.2", timeout=PATIENCE) for _ in range(12)))
        return await there.run("m1", "true", timeout=PATIENCE)

    assert within(access(m1=sshd), act).status == 0
    assert sshd.log().count("Accepted publickey") == 1


def test_so_many_commands_and_no_more_are_under_way_at_once(sshd: Sshd, tmp_path: Path) -> None:
    script = f"touch {tmp_path}/$1; until [ -e {tmp_path}/go ]; do sleep 0.1; done"

    async def act(there: Machines) -> Done:
        runs = asyncio.gather(
            *(there.run("m1", script, f"{n}.on", timeout=PATIENCE) for n in range(5))
        )
        while len(list(tmp_path.glob("*.on"))) < 3:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        assert len(list(tmp_path.glob("*.on"))) == 3
        (tmp_path / "go").touch()
        return (await runs)[-1]

    assert within(access(m1=sshd), act, at_once=3).status == 0


def test_a_lost_connection_is_told_at_once_and_made_again(sshd: Sshd, tmp_path: Path) -> None:
    """At once is before the command's own end, which nothing else would tell either."""
    begun = tmp_path / "begun"

    async def act(there: Machines) -> Done:
        assert (await there.run("m1", "true", timeout=PATIENCE)).status == 0
        lost = asyncio.create_task(there.run("m1", f"touch {begun}; sleep 600", timeout=PATIENCE))
        while not begun.exists():
            await asyncio.sleep(0.05)
        for pid in descendants(sshd.pid):
            if "sshd" in _command(pid) and pid_runs(pid):
                os.kill(pid, 9)
        with pytest.raises(Unreachable, match="m1"):
            await lost
        return await there.run("m1", "echo again", timeout=PATIENCE)

    assert within(access(m1=sshd), act).stdout == "again\n"
    assert sshd.log().count("Accepted publickey") == 2


def test_a_machine_that_was_down_is_reached_once_it_is_up(make_sshd: MakeSshd) -> None:
    server = make_sshd()

    async def act(there: Machines) -> Done:
        with pytest.raises(Unreachable):
            await there.run("m1", "true", timeout=PATIENCE)
        server.start()
        return await there.run("m1", "echo up", timeout=PATIENCE)

    assert within(access(m1=server), act).stdout == "up\n"
