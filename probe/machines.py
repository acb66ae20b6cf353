"""Commands on the cluster's machines, over SSH."""

import asyncio
import os
import shlex
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, TypeVar

import asyncssh

from probe.access import Access, MachineAccess, SshServer
from probe.sudo import as_root, refusal

T = TypeVar("T")

AT_ONCE = 50
"""The number of commands that run at the same time, on all machines together."""

SESSIONS = 8
"""The number of commands that run at the same time on one machine: OpenSSH's server refuses the
eleventh (MaxSessions)."""

CONNECT = 30
"""Seconds for the connection, and as many for the login: a quiet emulated machine needs two."""

KEEPALIVE, MISSED = 5, 3
"""Seconds between two keepalive messages, and how many of them may stay unanswered."""

CLOSE = 1
"""Seconds in which all connections must close."""

PART = 1 << 18
"""The most bytes of a command's output that are read at once."""

GRACE = 10
"""Seconds by which a command's answer may exceed the time limit of the command."""


class Unreachable(Exception):
    """A machine does not answer; the text is one sentence without its full stop."""


class NotLetIn(Unreachable):
    """A machine answers and does not let the key in, or it is another machine."""


class NotRoot(Unreachable):
    """A machine lets the user in, who may not become root there."""


def is_refused(error: Unreachable, machine: MachineAccess) -> bool:
    """Whether another key may open a machine.

    A jump host that refuses a key is as good as a machine that does.
    """
    if isinstance(error, NotRoot):
        return False
    return isinstance(error, NotLetIn) or machine.bastion is not None


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that ended."""

    status: int
    """124 where the time limit ended the command (as timeout(1) has it), negative where a signal
    did."""
    stdout: str
    stderr: str

    @property
    def reason(self) -> str:
        """Why the command failed: the last line that it printed."""
        if self.status == 124:
            return "it did not end in its time"
        lines = [line.strip() for line in f"{self.stdout}\n{self.stderr}".splitlines()]
        return next((line for line in reversed(lines) if line), f"exit status {self.status}")


@dataclass
class _Line:
    """The connection to one machine, and the limits of its use."""

    connection: asyncssh.SSHClientConnection | None = None
    tunnel: asyncssh.SSHClientConnection | None = None
    """The connection to the jump host through which ``connection`` leads."""
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    sessions: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SESSIONS))


class Machines:
    """The machines of a cluster, each with one SSH connection. An async context manager.

    A connection opens when it is first needed, is kept, and opens again after it was lost. Scripts
    run as root, by ``sudo`` where another user logs in.
    """

    def __init__(self, access: Access, *, at_once: int = AT_ONCE, factor: float = 1.0) -> None:
        self._access = access
        self.factor = factor
        """Multiplies the time limits of scripts and logins and the number of keepalive messages
        that may stay unanswered: more than 1 where machines are slow."""
        self._slots = asyncio.Semaphore(at_once)
        self._lines = {name: _Line() for name in access.machines}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._lines)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lines = self._lines.values()
        opened = (connection for line in lines for connection in (line.connection, line.tunnel))
        made = [connection for connection in opened if connection is not None]
        for connection in made:
            connection.close()
        # A dead machine never confirms that its connection is closed.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                await asyncio.gather(*(connection.wait_closed() for connection in made))

    async def run(
        self,
        node: str,
        script: str,
        *arguments: str,
        timeout: float,
        input: str | None = None,  # noqa: A002  # as subprocess has it
        root: bool = True,
    ) -> Done:
        """Run a bash script on a machine, which ends the script after ``timeout`` seconds.

        It runs as root, or else as the user who logs in.

        These are seconds of a machine that is not slow; ``factor`` multiplies them.

        All users of the machine can see the script and its arguments while it runs, and both
        together must stay below 100 kB: secret or large data belongs in ``input``. Raises
        Unreachable where the machine cannot be reached, does not answer in time, or where the
        connection breaks off before the script ends.
        """
        timeout *= self.factor
        line = _command(script, arguments, timeout)
        command = self._by_root(node, line) if root else line
        async with self._session(node, timeout) as connection:
            done = await _done(connection, command, input)
        return self._as_root(node, done)

    async def feed(
        self,
        node: str,
        script: str,
        *arguments: str,
        content: AsyncIterable[bytes],
        timeout: float,
    ) -> Done:
        """The same as ``run``, with any amount of data as the script's input.

        ``content`` is read no faster than the script reads it. Of a script that ends before it has
        read everything the rest is not read.
        """
        timeout *= self.factor
        command = self._by_root(node, _command(script, arguments, timeout))
        async with self._session(node, timeout) as connection:
            done = await _fed(connection, command, content)
        return self._as_root(node, done)

    async def fetch(
        self,
        node: str,
        script: str,
        *arguments: str,
        take: Callable[[bytes], object],
        timeout: float,
    ) -> Done:
        """The same as ``run``, for a script with any amount of output, which ``take`` gets.

        The output is read no faster than ``take`` takes it, and is not in the result.
        """
        timeout *= self.factor
        command = self._by_root(node, _command(script, arguments, timeout))
        async with self._session(node, timeout) as connection:
            done = await _taken(connection, command, take)
        return self._as_root(node, done)

    def _by_root(self, node: str, line: str) -> str:
        machine = self._access.machines.get(node)
        return as_root(machine.user, line) if machine else line

    def _as_root(self, node: str, done: Done) -> Done:
        """The result of a command. Raises NotRoot where it could not run as root."""
        if done.status and (why := refusal(self._access.machines[node].user, done.stderr)):
            raise NotRoot(f"{node}: {why}")
        return done

    @asynccontextmanager
    async def _session(
        self, node: str, timeout: float
    ) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """The connection to a machine for a command that ends within ``timeout`` seconds."""
        if node not in self._lines:
            raise Unreachable(f"{node} is no machine of this stack, so it cannot be asked")
        line = self._lines[node]
        async with line.sessions, self._slots:
            connection = await self._connection(node, line)
            try:
                async with asyncio.timeout(timeout + GRACE):
                    yield connection
            except (OSError, asyncssh.Error) as error:
                # A connection without an answer in time counts as lost, too.
                connection.abort()
                raise Unreachable(_lost(node, error)) from error

    async def _connection(self, node: str, line: _Line) -> asyncssh.SSHClientConnection:
        async with line.opening:
            if line.connection is None or line.connection.is_closed():
                await self._open(node, line)
            assert line.connection is not None
            return line.connection

    async def _open(self, node: str, line: _Line) -> None:
        machine: MachineAccess = self._access.machines[node]
        steps: list[SshServer] = [machine.bastion, machine] if machine.bastion else [machine]
        if line.tunnel is not None:
            line.tunnel.abort()
            line.tunnel = None
        for server in steps:
            try:
                opened = await _opened(server, self._access.ssh_key, self.factor, line.tunnel)
            except (OSError, asyncssh.Error, ValueError) as error:
                who = node if server is machine else f"the jump host of {node}"
                refused = isinstance(
                    error, asyncssh.HostKeyNotVerifiable | asyncssh.PermissionDenied
                )
                kind = NotLetIn if refused and server is machine else Unreachable
                raise kind(_refused(who, server, error, self._access.ssh_key)) from error
            if server is machine:
                line.connection = opened
            else:
                line.tunnel = opened


class EitherKey:
    """Machines by the stack's key, and by the person's own where that is refused.

    A machine does not take the stack's key before its first update, and a jump host may not take
    it either.
    """

    def __init__(self, access: Access, by_stack: Machines, by_person: Machines) -> None:
        self._access = access
        self._by_stack, self._by_person = by_stack, by_person

    @classmethod
    @asynccontextmanager
    async def of(cls, access: Access) -> AsyncIterator[Self]:
        """Those of an access; connections are closed at the end."""
        person = replace(access, ssh_key="")
        async with Machines(access) as by_stack, Machines(person) as by_person:
            yield cls(access, by_stack, by_person)

    async def on(self, node: str, act: Callable[[Machines], Awaitable[T]]) -> T:
        """Act on a machine by the key that opens it. Raises Unreachable where neither does."""
        try:
            return await act(self._by_stack)
        except Unreachable as error:
            if not self._access.ssh_key or not is_refused(error, self._access.machines[node]):
                raise
            first = error
        try:
            return await act(self._by_person)
        except Unreachable as second:
            raise (second if isinstance(first, NotLetIn) else _both(first, second)) from first


def _both(first: Unreachable, second: Unreachable) -> Unreachable:
    """Why neither the stack's key nor the person's opens a machine; once where that is the same."""
    return first if str(first) == str(second) else Unreachable(f"{first}; {second}")


async def _opened(
    server: SshServer, key: str, factor: float, tunnel: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHClientConnection:
    """A connection to exactly this server, made without the user's own SSH configuration."""
    return await asyncssh.connect(
        server.address,
        server.port,
        tunnel=tunnel or (),
        username=server.user,
        client_keys=[asyncssh.import_private_key(key)] if key else (),
        known_hosts=([asyncssh.import_public_key(server.host_key)], [], []),
        preferred_auth="publickey",
        agent_path=None if key else (),
        config=None,
        gss_host=None,
        connect_timeout=CONNECT * factor,
        login_timeout=CONNECT * factor,
        keepalive_interval=KEEPALIVE,
        keepalive_count_max=round(MISSED * factor),
    )


def _command(script: str, arguments: Iterable[str], timeout: float) -> str:
    return shlex.join(
        ["timeout", "--kill-after=5", f"{timeout:g}"]
        # Where sshd starts bash, bash would first read the user's startup files (bash(1),
        # INVOCATION).
        + ["bash", "--norc", "-euo", "pipefail", "-c", script, "probe", *arguments]
    )


async def _fed(
    connection: asyncssh.SSHClientConnection, command: str, content: AsyncIterable[bytes]
) -> Done:
    process = await connection.create_process(command, encoding=None)
    # Where the script has ended, its input is closed.
    with suppress(BrokenPipeError):
        async for part in content:
            process.stdin.write(part)
            await process.stdin.drain()
        process.stdin.write_eof()
    return _result(await process.wait())


async def _taken(
    connection: asyncssh.SSHClientConnection, command: str, take: Callable[[bytes], object]
) -> Done:
    process = await connection.create_process(command, stdin=asyncssh.DEVNULL, encoding=None)
    while part := await process.stdout.read(PART):
        take(part)
    return _result(await process.wait())


async def _done(connection: asyncssh.SSHClientConnection, command: str, given: str | None) -> Done:
    result = await connection.run(
        command,
        input=given,
        stdin=asyncssh.DEVNULL if given is None else asyncssh.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    return _result(result)


def _result(result: asyncssh.SSHCompletedProcess) -> Done:
    if result.returncode is None:
        raise asyncssh.ConnectionLost("the command's end was not told")
    return Done(
        status=result.returncode, stdout=_decoded(result.stdout), stderr=_decoded(result.stderr)
    )


def _decoded(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _refused(node: str, machine: SshServer, error: Exception, key: str) -> str:
    host = f"{node} ({machine.host})"
    keys = "the stack's SSH key" if key else "your own SSH keys (an agent's and ~/.ssh/id_*)"
    match error:
        case TimeoutError():
            return f"{host} does not answer over SSH in time"
        case asyncssh.HostKeyNotVerifiable():
            return f"{host} shows another SSH host key than the stack's: it is another machine"
        case asyncssh.PermissionDenied():
            return f"{host} does not let {machine.user} in with {keys}"
        case asyncssh.KeyImportError():
            return f"the stack's SSH keys for {node} cannot be read ({error})"
        case _:
            return f"{host} cannot be reached over SSH ({_text(error)})"


def _lost(node: str, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"{node} gave no answer in time"
    return f"the SSH connection to {node} broke off ({_text(error)})"


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # asyncio replaces this text with its own
    return str(error) or type(error).__name__
