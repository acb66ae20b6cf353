"""What a plan holds, run for real on this computer's loopback interface, without root.

Everything of a machine lies below a folder of its own, and each of its addresses with a port is
another port of 127.0.0.1. Nothing else of the plan is changed.
"""

import grp
import os
import pwd
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path

from certs.authority import issued, new_authority, new_encryption_key, new_service_account_pair
from certs.backup import new_backup_keys
from certs.bundle import Authorities, Bundle, EncryptionKeys, Pair, ServiceAccountPairs, Signer
from certs.passwords import new_password_seed
from certs.table import FOR_PEOPLE, Authority, Row, held_by
from lab.artifacts import Store
from lab.cache import Cache
from lab.manifest import artifacts
from lab.progress import PlainProgress
from plan import controller_manager, etcd, identity, layout, library, render, scheduler
from plan.addons.catalogue import certificates
from plan.material import material
from plan.model import Source, Step, Unit
from spec.bucket_key import HALVES
from spec.cluster import API_PORT, Cluster
from spec.versions import Versions
from tests.plan import inline
from tests.ports import free_port

PORTS = (
    API_PORT,
    layout.ETCD_CLIENT_PORT,
    layout.ETCD_PEER_PORT,
    layout.ETCD_METRICS_PORT,
    controller_manager.PORT,
    scheduler.PORT,
)

FIRST_START, REMOVED = f"{layout.STATE}/first-start", f"{layout.STATE}/removed"
"""Stand for ``layout.ETCD_FIRST_START`` and ``layout.ETCD_REMOVED``, which would lie among files of
this computer."""


@cache
def stored_program(name: str, versions: Versions) -> Path:
    """A real program of the cluster's stack, from the artifact store."""
    cache = Cache()
    store = Store(cache, PlainProgress(), cache.root / "work")
    every = artifacts(versions, store.architecture)
    artifact = next(candidate for candidate in every if candidate.name == name)
    return (store.find(artifact) or store.resolve(artifact)).path


class Keys:
    """All keys and certificates of a cluster, made now."""

    def __init__(self, spec: Cluster) -> None:
        self._now = datetime.now(UTC)
        self.authorities = Authorities(
            signers={authority: new_authority(authority, self._now) for authority in Authority},
            service_accounts=ServiceAccountPairs(
                keys={"pair1": new_service_account_pair()}, current="pair1"
            ),
            encryption=EncryptionKeys(keys={"key1": new_encryption_key()}, current="key1"),
        )
        self._spec = spec
        self.backups = new_backup_keys()
        self.bucket = dict.fromkeys(HALVES, "")
        """The halves of the access key of a bucket."""
        self.password_seed = new_password_seed()

    @property
    def signers(self) -> Mapping[Authority, Signer]:
        """The authorities that sign."""
        return self.authorities.signers

    def become(self, spec: Cluster) -> None:
        """Go on with the same authorities for another spec."""
        self._spec = spec

    def of_people(self) -> dict[str, Pair]:
        return self._issued(FOR_PEOPLE)

    def of_add_ons(self, spec: Cluster) -> dict[str, Pair]:
        return self._issued(certificates(spec))

    def of(self, node: str) -> dict[str, Pair]:
        return self._issued(held_by(self._spec, node))

    def _issued(self, rows: Iterable[Row]) -> dict[str, Pair]:
        return {row.name: issued(row, self.signers[row.issuer], self._now) for row in rows}

    def content(self, source: Source, pairs: dict[str, Pair]) -> str:
        made = material(
            "test",
            self.authorities,
            Bundle(pairs),
            backups=self.backups,
            bucket=self.bucket,
            password_seed=self.password_seed,
        )
        return made(source)


@dataclass
class LocalCluster:
    """A cluster's machines, all on one loopback interface."""

    spec: Cluster
    folder: Path
    keys: Keys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = Keys(self.spec)

    @cached_property
    def ports(self) -> dict[tuple[str, int], int]:
        """Machine and planned port to the port here."""
        wanted = [(node, port) for node in self.spec.machines for port in PORTS]
        return {pair: free_port() for pair in wanted}


@dataclass
class LocalMachine:
    """One machine of it."""

    cluster: LocalCluster
    node: str

    @property
    def root(self) -> Path:
        return self.cluster.folder / self.node

    def here(self, text: str) -> str:
        """The same with this computer's paths and ports."""
        mapped: dict[str, int] = {}
        for (node, port), here in self.cluster.ports.items():
            mapped[f"{self.cluster.spec.machines[node].address}:{port}"] = here
            if node == self.node:
                mapped[f"127.0.0.1:{port}"] = here
        # All at once: a port here may be one of the plan's.
        every = "|".join(map(re.escape, mapped))
        text = re.sub(
            rf"(?<!\d)(?:{every})(?!\d)", lambda match: f"127.0.0.1:{mapped[match[0]]}", text
        )
        return re.sub(r"(?<![\w.])/(etc|var)/", rf"{self.root}/\1/", text)

    def furnish(self, *steps: Step) -> None:
        """Put the machine's keys and the steps' files and directories in place."""
        spec, keys = self.cluster.spec, self.cluster.keys
        pairs = keys.of(self.node)
        for secret in identity.step(spec, self.node).secret_files:
            self._write(secret.path, self.here(keys.content(secret.source, pairs)), 0o600)
        for step in steps:
            for file in step.files:
                self._write(file.path, self.here(file.content), file.mode)
            for directory in step.directories:
                folder = self.root / directory.path[1:]
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(directory.mode)

    def bring(self, content: Callable[[Source], str]) -> None:
        """Bring its keys and certificates to what they should be, by the words of the real step."""
        step = identity.step(self.cluster.spec, self.node)
        owner = f"{pwd.getpwuid(os.getuid()).pw_name}:{grp.getgrgid(os.getgid()).gr_name}"
        files = tuple(replace(file, owner=owner) for file in step.secret_files)
        own = replace(step, users=(), turns=(), script=None, secret_files=files)
        done = inline.run_step(render.text(own, content), self.root, self.here)
        assert (done.returncode, done.stderr) == (0, "")

    def _write(self, path: str, content: str, mode: int) -> None:
        file = self.root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)

    def command_line(self, unit: Unit) -> list[str]:
        """The command line of a unit."""
        program = stored_program(Path(unit.program).name, self.cluster.spec.versions)
        own = {str(port): str(self.cluster.ports[self.node, port]) for port in PORTS}
        flags = {}
        for name, value in unit.flags.items():
            parts = dict.fromkeys(self.here(own.get(value, value)).split(","))
            flags[name] = ",".join(parts)
        options = [f"{unit.dashes}{name}={value}" for name, value in flags.items()]
        once = Path(self.here(FIRST_START))
        if unit.once and once.exists():
            options += shlex.split(once.read_text())[0].removeprefix("ONCE=").split()
        elif unit.once:
            # Where a test starts a member without its step.
            begun = self.here(etcd.initial_cluster(self.cluster.spec))
            options.append(f"--initial-cluster={begun}")
        return [str(program), *options]

    @property
    def log(self) -> Path:
        return self.root / "log"

    @contextmanager
    def running(self, unit: Unit) -> Iterator[subprocess.Popen[bytes]]:
        """The unit's program, killed in the end: these tests are not about how it stops."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command_line(unit),
                stdout=log,
                stderr=log,
                cwd=self.root,
                env={**os.environ, **unit.environment},
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def script(self, step: Step, path: Path) -> str:
        """The end of a step: its settings and its script, with programs from ``path``."""
        scripts = ["prelude", *(["admin"] if step.admin else [])]
        member = ""
        if step.membership:
            scripts.append("member")
            here = replace(
                step.membership, program=str(path / "etcdctl"), once=FIRST_START, removed=REMOVED
            )
            member = shlex.join(self.here(render.member(here)).strip().split("\t"))
        settings = [f"{name}={shlex.quote(value)}" for name, value in step.settings.items()]
        says = [f"echo {shlex.quote(step.outcome)}"] if step.outcome else []
        own = [library.script(step.script)] if step.script else []
        ending = "\n".join([*settings, *own, *says])
        prelude = self.here(inline.functions(*scripts, before=ending))
        ending = self.here(ending)
        return f"{prelude}\nPATH={path}:$PATH\nprograms={self.programs}\n{member}\n{ending}\n"

    @property
    def programs(self) -> Path:
        """The small programs of ``plan/files``."""
        own = self.root / "programs"
        own.mkdir(exist_ok=True)
        for file in (Path(render.__file__).parent / "files").iterdir():
            (own / file.name).write_text(file.read_text())
            (own / file.name).chmod(0o755)
        return own

    def certificate(self, name: str) -> tuple[Path, Path]:
        """The files of a certificate and its key."""
        return (
            self.root / layout.certificate(name)[1:],
            self.root / layout.private_key(name)[1:],
        )


def run(text: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A script as a machine's shell runs it, in a process group of its own."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-s"],
        input=text,
        capture_output=True,
        text=True,
        start_new_session=True,
        env={"PATH": "/usr/bin:/bin", **more},
    )


def beside_waits(output: str) -> str:
    """What a step says beside what it waits for, which a busy computer has it say."""
    lines = output.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("until ", "not yet: ")))


def programs(folder: Path, spec: Cluster, names: Sequence[str]) -> Path:
    """A directory with these programs under their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).symlink_to(stored_program(name, spec.versions))
    return folder
