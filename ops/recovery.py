"""Cleans up after an interrupted update, before the next update begins.

Pulumi's engine records each operation in the state before it begins. After an interrupted update
the record stays in the state as a pending operation, and the lock of the state stays. libvirt may
have a disk, a machine or a network that the state does not contain; its name would then be taken.
"""

import json
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypervisors.libvirt import removal
from hypervisors.virtualbox import removal as virtualbox
from hypervisors.virtualbox.vboxmanage import VirtualBoxError
from lab import namespace
from lab.connection import LibvirtConnection
from lab.consoles import Consoles
from lab.paths import PROJECT
from lab.problem import Problem
from lab.process import started_at
from lab.stack import Stack

Say = Callable[[str], None]

ENDS_WITHIN = 3.0
"""Seconds that a killed process may take to disappear."""

CLOCK_STEP = 60.0
"""Seconds by which the host's clock may be adjusted while an update runs."""


def recover(stack: Stack, host: LibvirtConnection | None, say: Say) -> None:
    """Clean up after an update that died.

    Removes its lock, ends the processes that its engine left behind, removes the half-made
    resources from their hypervisor and clears the pending operations from the state. Raises a
    Problem where an update still runs, a resource stays or the state cannot be written.
    """
    _unlock(stack, say)
    if left := namespace.orphans(stack.paths):
        say(f"an engine that was killed has left {len(left)} processes; they are ended")
        namespace.end(stack.paths, left)
    exported = stack.pulumi("stack", "export", capture=True)
    if exported.returncode != 0:
        return
    state = json.loads(exported.stdout)
    pending = state["deployment"].get("pending_operations") or []
    if not pending:
        return
    for operation in pending:
        if operation["type"] == "creating":
            _remove(operation["resource"], _uri_of(operation["resource"], state), host, say)
    state["deployment"]["pending_operations"] = []
    say(f"an earlier update was cut off in {len(pending)} operations; they are begun again")
    with tempfile.TemporaryDirectory(dir=stack.paths.state) as folder:
        file = Path(folder, "state.json")
        file.touch(mode=0o600)
        file.write_text(json.dumps(state))
        done = stack.pulumi("stack", "import", "--file", str(file), capture=True)
    if done.returncode != 0:
        raise Problem(
            f"the pending operations of the stack '{stack.name}' cannot be cleared "
            f"({' '.join(done.stderr.split())})",
            "see ./hardway pulumi refresh --clear-pending-creates",
        )


def going_on(update: Callable[[], int], consoles: Consoles, say: Say) -> int:
    """Run an update and return its exit status; repeat it once if it failed and a kernel panicked.

    After the runtime step has set ``kernel.panic``, a kernel that panicked reboots by itself, and
    the work done on its machine is not lost.
    """
    status = update()
    if status == 0 or not (panics := consoles.panics()):
        return status
    for domain, reason in panics.items():
        say(f"the kernel of {domain} ended itself ({reason}) and boots again")
    say("the update goes on from there, once")
    return update()


def _unlock(stack: Stack, say: Say) -> None:
    """Remove the stack's locks in the lab's own backend whose processes on this host have ended.

    Raises a Problem where an update still runs: ``recover`` would take its unfinished resources for
    left-overs.
    """
    for lock in (stack.paths.backend / ".pulumi" / "locks").rglob("*.json"):
        if lock.parent.name != stack.name:
            continue
        try:
            holder = json.loads(lock.read_text())
            host, pid = str(holder["hostname"]), int(holder["pid"])
        except (OSError, ValueError, KeyError):
            continue
        if host != socket.gethostname() or not _ended(pid, lock.stat().st_mtime):
            raise Problem(
                f"an update of the stack '{stack.name}' runs (process {pid} on {host})",
                "wait until it has ended; if it has, say ./hardway pulumi cancel",
            )
        say(f"the update with the process {pid} has died; its lock is taken away")
        lock.unlink(missing_ok=True)


def _ended(pid: int, locked_at: float) -> bool:
    """Whether the process that holds a lock has ended; waits up to ``ENDS_WITHIN`` for that.

    After a reboot the PID may belong to another process. A process that is not ``pulumi``, or that
    started after the lock was made, does not hold the lock.
    """
    end = time.monotonic() + ENDS_WITHIN
    while _holds(pid, locked_at):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _holds(pid: int, locked_at: float) -> bool:
    started = started_at(pid)
    if started is None or started > locked_at + CLOCK_STEP:
        return False
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "pulumi\n"
    except OSError:
        return False


def _uri_of(resource: Mapping[str, Any], state: Mapping[str, Any]) -> str | None:
    """The URI of the libvirt whose provider was making a resource, from an exported state."""
    urn = str(resource.get("provider", "")).rpartition("::")[0]
    for known in state["deployment"].get("resources") or ():
        if known["urn"] == urn and isinstance(uri := known.get("inputs", {}).get("uri"), str):
            return uri
    return None


def _remove(
    resource: Mapping[str, Any], uri: str | None, host: LibvirtConnection | None, say: Say
) -> None:
    """Remove a resource that its hypervisor may have and the state does not contain.

    Raises a Problem where VirtualBox does not remove its own.
    """
    kind, inputs = resource["type"], resource.get("inputs", {})
    if where := uri or (host.uri if host else None):
        pool = host.pool if host and host.uri == where else "default"
        for line in removal.remove(where, pool, kind, inputs):
            say(line)
    try:
        for line in virtualbox.remove(kind, inputs, PROJECT):
            say(line)
    except VirtualBoxError as error:
        raise Problem(
            f"{inputs['name']} was left half-made by an earlier update and cannot be removed "
            f"({error.reason or error})",
            "mend that and run the same again",
        ) from error
