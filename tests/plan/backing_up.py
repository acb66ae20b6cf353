"""A member of etcd under its machine's systemd, in a container, that makes backups."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.cache import Cache
from lab.debian_root import machine_root
from lab.progress import PlainProgress
from plan import backup, etcd, identity, layout, library, render
from plan.model import STORE, Source, Step
from probe import backups
from probe.backups import Stock
from probe.pods import script
from spec.backup import Backup
from spec.cluster import ArtifactSource, Cluster
from tests.certs.clusters import SINGLE
from tests.plan.container import Container, Memory, quiet
from tests.plan.running import Keys, stored_program

NODE = "master"
ELSEWHERE = "192.168.77.1"
"""The computer with the copies: the container itself, at another address."""
ADDRESSES = f"""
ip address add 192.168.1.10/32 dev lo
ip address add {ELSEWHERE}/32 dev lo
"""


def of_one(backups_made: Backup) -> Cluster:
    """A machine of its own that makes these backups, with programs that are there already."""
    own = {
        f"{name}-{SINGLE.versions.etcd}": hashlib.sha256(
            stored_program(name, SINGLE.versions).read_bytes()
        ).hexdigest()
        for name in etcd.PROGRAMS
    }
    return SINGLE.model_copy(
        update={"backup": backups_made, "artifacts": ArtifactSource(digests=own)}
    )


@contextmanager
def booted(folder: Path) -> Iterator[Container]:
    """A container of the lab's Debian, with what copies backups by SFTP and to a bucket."""
    inside, logs = folder / "memory", folder / "logs"
    inside.mkdir()
    logs.mkdir()
    with Memory(inside) as memory:
        root = memory.path / "debian"
        root.mkdir()
        wanted = (backup.PACKAGE, backup.OF_BUCKET)
        machine_root(Cache(), root, PlainProgress(), logs=logs, packages=wanted)
        shutil.copytree(library.FOLDER, root / library.PLACE[1:] / library.FOLDER.name)
        with Container(memory, prepare=quiet) as container:
            container.call("bash", "-euc", ADDRESSES)
            for name in etcd.PROGRAMS:
                program = stored_program(name, SINGLE.versions).read_bytes()
                digest = hashlib.sha256(program).hexdigest()
                container.write(f"{STORE}/sha256/{digest}", program, 0o755)
            yield container


@dataclass
class BackingUp:
    """A member of etcd that makes backups."""

    machine: Container
    spec: Cluster
    keys: Keys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = Keys(self.spec)
        self._pairs = self.keys.of(NODE)

    def content(self, source: Source) -> str:
        return self.keys.content(source, self._pairs)

    def steps(self) -> tuple[Step, ...]:
        """Those of the machine's plan that backups need."""
        every = identity.step(self.spec, NODE), etcd.step(self.spec, NODE)
        return (*every, *([backup.step(self.spec, NODE)] if self.spec.backup else []))

    def bring(self) -> None:
        for step in self.steps():
            done = self.machine.run(render.text(step, self.content))
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
        names = " ".join(step.name for step in self.steps())
        self.machine.write("/var/lib/hardway/plan", names)

    def stock(self) -> Stock:
        return backups.read(
            self.machine.call("bash", "-euc", script("backups"), "probe", layout.BACKUPS)
        )

    def run(self) -> int:
        """Make a backup by the service; the status with which its program ended."""
        self.machine.run(f"systemctl start {backup.SERVICE} || true")
        shown = self.machine.call(
            "systemctl", "show", "--property=ExecMainStatus", "--value", backup.SERVICE
        )
        return int(shown)

    @property
    def flags(self) -> list[str]:
        """Those with which etcdctl reaches the member."""
        trust = zip(("cacert", "cert", "key"), etcd.OPERATOR, strict=True)
        return ["--endpoints=https://127.0.0.1:2379", *(f"--{name}={path}" for name, path in trust)]

    def etcdctl(self, *arguments: str) -> str:
        return self.machine.call("etcdctl", *self.flags, *arguments)
