"""Runs VBoxManage, VirtualBox's own command.

VBoxManage starts the server VBoxSVC where it does not run, and calls that start it side by side
fail. So a lock of the user's VirtualBox is around each call, also for other updates on this host.
"""

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hypervisors.program import outcome

PROGRAM = "VBoxManage"
WRAPPED = Path("/usr/lib/virtualbox") / PROGRAM
"""The program behind the script in ``/usr/bin``, which prints warnings to the standard output where
the kernel's module is missing."""

PATIENCE = 300.0
"""The time limit in seconds for an answer."""

LOCKED, PAUSE = 120.0, 0.3
"""The seconds for which a machine may be locked: after its end VirtualBox has it locked for up to
two seconds, and longer on a busy host. The pause before the next try."""

TRIES = 3
"""Attempts to call a server that has ended, or that ends meanwhile."""

SERVER_ENDED = (
    "Failed to create the VirtualBox object",
    "NS_ERROR_FACTORY_NOT_REGISTERED",
    "NS_ERROR_SOCKET_FAIL",
    "NS_ERROR_ABORT",
)
MACHINE_ENDED = ("terminated unexpectedly during startup because of signal",)
"""A machine's process died at its start, as it now and then does (7.2.22, its driverless mode)."""

REPEATED = (*SERVER_ENDED, *MACHINE_ENDED)

IS_LOCKED = (
    *("already locked", "lock request pending"),
    *("The session is not locked", "from the direct session"),
)
IS_GONE = ("VBOX_E_OBJECT_NOT_FOUND", "The object functionality is limited")
"""Texts of answers. The last two for a machine that is locked are of one that ends while it is
asked. A machine whose file is missing has limited functionality."""

INSTALL = "install VirtualBox 7.1 or later (https://www.virtualbox.org/wiki/Linux_Downloads)"


class VirtualBoxError(Exception):
    """VirtualBox does not do what it should; the text is one sentence with the next step.

    ``reason`` is VirtualBox's own message, where there is one.
    """

    def __init__(self, sentence: str, reason: str = "") -> None:
        super().__init__(sentence)
        self.reason = reason


class Gone(VirtualBoxError):
    """VirtualBox has no such machine or medium, or has lost its file."""


def program() -> Path | None:
    """VBoxManage, as ``PATH`` has it; None where VirtualBox is not installed."""
    name = shutil.which(PROGRAM)
    if name is None:
        return None
    return WRAPPED if Path(name).parent == Path("/usr/bin") and WRAPPED.is_file() else Path(name)


def call(*arguments: object) -> str:
    """What a command of VBoxManage prints.

    It is repeated while a machine is locked, and where VBoxSVC or a machine's process has ended
    meanwhile: it may then have been carried out already. Raises Gone and VirtualBoxError.
    """
    end, tries = time.monotonic() + LOCKED, 1
    while True:
        done = _called(*arguments)
        if done.returncode == 0:
            return done.stdout
        if any(text in done.stderr for text in REPEATED) and tries < TRIES:
            tries += 1
        elif not any(text in done.stderr for text in IS_LOCKED) or time.monotonic() > end:
            raise _failure(arguments, done)
        time.sleep(PAUSE)


def _called(*arguments: object) -> subprocess.CompletedProcess[str]:
    path = program()
    if path is None:
        raise VirtualBoxError(f"there is no program {PROGRAM}; {INSTALL}")
    with _alone():
        done = outcome([path, *map(str, arguments)], timeout=PATIENCE)
    if done is None:
        raise VirtualBoxError(
            f"VBoxManage {arguments[0]} gives no answer within {PATIENCE:.0f} s; see that "
            "VirtualBox works (VBoxManage list vms) and run the update again"
        )
    return done


def home() -> Path:
    """The folder in which VirtualBox keeps the user's settings."""
    if given := os.environ.get("VBOX_USER_HOME"):
        return Path(given)
    settings = os.environ.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "VirtualBox"


@contextmanager
def _alone() -> Iterator[None]:
    file = home() / "hardway.lock"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _failure(
    arguments: tuple[object, ...], done: subprocess.CompletedProcess[str]
) -> VirtualBoxError:
    lines = [line.removeprefix(f"{PROGRAM}: error: ") for line in done.stderr.splitlines()]
    reasons = [line for line in lines if line and not re.match(r"\d+%|Details:|Context:", line)]
    reason = " ".join(reasons) or f"exit status {done.returncode}"
    if any(text in done.stderr for text in IS_GONE):
        return Gone(f"VirtualBox has no such thing ({reason}); run the update again", reason)
    code = re.search(r"\b(VBOX_E_\w+|NS_ERROR_\w+|E_[A-Z]+|VERR_\w+)", done.stderr)
    known = f", {code[1]}" if code and code[1] not in reason else ""
    return VirtualBoxError(
        f"VBoxManage {arguments[0]} fails ({reason}{known}); mend that and run the update again",
        f"{reason}{known}",
    )


def facts(text: str) -> dict[str, str]:
    """Keys and values of ``--machinereadable``; lines in another form are left out."""
    pairs = {}
    for line in text.splitlines():
        if match := re.fullmatch(r'("?)([^"=]+)\1=("?)(.*)\3', line):
            pairs[match[2]] = re.sub(r"\\(.)", r"\1", match[4])
    return pairs


def blocks(text: str) -> list[dict[str, str]]:
    """The paragraphs of a list such as ``hostonlyifs``, each with its keys and values."""
    paragraphs = (part.splitlines() for part in re.split(r"\n\s*\n", text.strip()))
    return [dict(pairs(lines)) for lines in paragraphs if lines]


def pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Key and value of each line ``Key: value``."""
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()


def details(text: str) -> Mapping[str, str]:
    """Keys and values of ``showmediuminfo`` and ``list systemproperties``."""
    return dict(pairs(text.splitlines()))


def value(known: Mapping[str, str], key: str) -> str:
    """The value of a key that an answer must have. Raises VirtualBoxError."""
    if key not in known:
        raise VirtualBoxError(
            f"an answer of VBoxManage lacks '{key}'; see that VirtualBox works (VBoxManage list "
            "vms) and run the update again"
        )
    return known[key]


def machines() -> dict[str, str]:
    """The UUID of each machine of the user, with its name; a lost file has no name."""
    rows = re.findall(r'^"(.*)" \{([0-9a-f-]{36})\}$', call("list", "vms"), re.MULTILINE)
    return {uuid: name for name, uuid in rows}


def close(kind: str, medium: Path) -> bool:
    """Have VirtualBox forget a medium; False where it does not know it, or others stand on it."""
    try:
        call("closemedium", kind, medium)
    except VirtualBoxError:
        return False
    return True


def machine_folder() -> Path:
    """The folder in which VirtualBox makes a folder for each machine."""
    return Path(value(details(call("list", "systemproperties")), "Default machine folder"))
