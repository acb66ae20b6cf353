"""Measures a refresh that reads the content of several machines, where each answers late."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from certs.ssh import new_key_pair
from lab import toolchain
from lab.cache import Cache
from lab.paths import PROJECT, lab_paths
from lab.problem import Problem
from lab.stack import AT_ONCE
from ops.display import progress
from plan.contents import ITEMS, packed
from plan.item import Item, Kind, described, digest
from probe.access import MachineAccess

MACHINES = (4, 20)
LATE = 3
"""Seconds after which each machine begins to answer."""

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
DEMANDED = Path("/run/sshd")
"""A directory that sshd demands where root starts it.

It is not removed, since another SSH server may have been started meanwhile.
"""

CONFIGURATION = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/client_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
ForceCommand sleep {late}; eval "$SSH_ORIGINAL_COMMAND"
"""

PROGRAM = """\
import json
from pathlib import Path

from pulumi import ResourceOptions

from components.guard import Guard, login
from plan.contents import ITEMS, Contents, unpacked

told = json.loads(Path("guarded.json").read_text())
for number in range(told["machines"]):
    Guard(
        f"m{number}-guard",
        login=login(f"m{number}", told["access"], told["key"]),
        contents=Contents(items=unpacked(ITEMS, told["items"]), steps=()),
        secrets="{}",
        opts=ResourceOptions(),
    )
"""


def bench_refresh(console: Console) -> None:
    """Print how long a preview takes that asks all machines, for several numbers of machines."""
    title = f"preview --refresh, machines that answer after {LATE} s"
    if SSHD is None:
        console.print(f"{title}: left out, since there is no sshd (openssh-server)")
        return
    table = Table(title=title)
    for column in ("machines", "seconds", "to the fewest"):
        table.add_column(column, justify="right")
    tools = toolchain.prepare(Cache(), lab_paths(), progress())
    fewest = None
    for many in MACHINES:
        with tempfile.TemporaryDirectory(prefix="hardway-bench-") as folder:
            with _sshd(Path(folder)) as (access, key):
                seconds = _refreshed(Path(folder), tools, many, access, key)
        fewest = fewest or seconds
        table.add_row(str(many), f"{seconds:.1f}", f"{seconds / fewest:.2f}")
    console.print(table)


def _refreshed(
    folder: Path, tools: toolchain.Toolchain, many: int, access: MachineAccess, key: str
) -> float:
    """Make a stack of guards without drift and return the seconds of its refreshing preview."""
    providers = yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["plugins"]["providers"]
    plugins = {
        "providers": [
            {**provider, "path": str(PROJECT / provider["path"])} for provider in providers
        ]
    }
    project = {"name": "bench", "runtime": "python", "plugins": plugins}
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project))
    (folder / "__main__.py").write_text(PROGRAM)
    file = folder / "held"
    file.write_text("")
    file.chmod(0o600)
    wanted = described(f"sha256:{digest('')}", 0o600, f"{file.owner()}:{file.group()}")
    item = Item(kind=Kind.FILE, name=str(file), wanted=wanted, step="held")
    guarded = {
        "machines": many,
        "access": asdict(access),
        "key": key,
        "items": packed(ITEMS, (item,)),
    }
    (folder / "guarded.json").write_text(json.dumps(guarded))
    environment = tools.environment() | {
        "PYTHONPATH": str(PROJECT),
        "PULUMI_BACKEND_URL": f"file://{folder}",
        "PULUMI_CONFIG_PASSPHRASE": "bench",
        "PULUMI_PARALLEL": str(AT_ONCE),
    }
    _pulumi(tools, folder, environment, "stack", "init", "bench")
    _pulumi(tools, folder, environment, "up", "--yes", "--skip-preview")
    asked = ("preview", "--refresh", "--expect-no-changes")
    _pulumi(tools, folder, environment, *asked)  # not measured: fills this computer's caches
    started = time.perf_counter()
    _pulumi(tools, folder, environment, *asked)
    return time.perf_counter() - started


def _pulumi(
    tools: toolchain.Toolchain, folder: Path, environment: Mapping[str, str], *arguments: str
) -> None:
    done = subprocess.run(
        [tools.pulumi, *arguments, "--non-interactive"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or "warning:" in done.stdout:
        raise Problem(
            f"pulumi {' '.join(arguments)} failed: {(done.stdout + done.stderr)[-2000:]}",
            "see whether an SSH server can be started on the loopback interface here",
        )


@contextmanager
def _sshd(folder: Path) -> Iterator[tuple[MachineAccess, str]]:
    """Run an SSH server that answers late; yield the access to it and the accepted private key."""
    assert SSHD is not None
    host, client = new_key_pair(), new_key_pair()
    key = folder / "host_key"
    key.touch(mode=0o600)
    key.write_text(host.private)
    (folder / "client_key.pub").write_text(f"{client.public}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    text = CONFIGURATION.format(port=port, folder=folder, late=LATE)
    (folder / "sshd_config").write_text(text)
    if os.geteuid() == 0:
        DEMANDED.mkdir(mode=0o755, exist_ok=True)
    server = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", folder / "sshd_config"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _answers(server, port)
        user = getpass.getuser()
        access = MachineAccess(address="127.0.0.1", host_key=host.public, user=user, port=port)
        yield access, client.private
    finally:
        server.terminate()
        server.wait()


def _answers(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(100):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise Problem(f"{SSHD} does not answer on port {port}", "see whether it starts by itself here")
