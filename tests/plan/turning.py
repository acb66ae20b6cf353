"""Control planes, each under its own systemd, whose keys turn over, and their clients."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import yaml

from certs.bundle import Authorities, Bundle
from certs.renewal import (
    Numbers,
    decided,
    renewed,
    renewed_authorities,
)
from certs.table import authority_numbers, held_by
from ops.restore import Doing, Restoration
from ops.snapshot import Snapshot
from plan import (
    addons,
    apiserver,
    control_plane,
    controller_manager,
    etcd,
    identity,
    layout,
    render,
    walk,
)
from plan.condition import CurrentKeys
from plan.conditions import conditions
from plan.model import EncryptionConfiguration, Source, Step
from probe.keys import demand_keys
from spec.cluster import ArtifactSource, Cluster
from spec.description import AuthorityNumbers, KeyNumbers
from tests.certs.clusters import cluster
from tests.engine.stack import eventually
from tests.plan.container import Container, Memory, cable, quiet
from tests.plan.running import Keys, stored_program
from tests.plan.test_restore import ContainedMachines

ROOT = Path(__file__).parents[2]
CONTROLLERS = "kube-controller-manager"
PROGRAMS = (*etcd.PROGRAMS, "kube-apiserver", CONTROLLERS, "kubectl")
ADDRESSES = {"c1": "192.168.1.31", "c2": "192.168.1.32", "c3": "192.168.1.33"}
MIRROR = "http://127.0.0.1:8000"
"""Answers on a machine where a test has it serve."""
OUTSIDE = {"kind": "balancer", "host": "192.168.1.99", "port": 443}

LONE, TWO, THREE = ("c1",), ("c1", "c2"), ("c1", "c2", "c3")


def planned(names: Sequence[str], **settings: str) -> Cluster:
    """A cluster of control planes, an odd number of which are etcd's members as well."""
    spec = _cluster_of(names, **settings)
    digests = {f"{name}-{spec.kubernetes}": "0" * 64 for name in control_plane.PROGRAMS} | {
        f"{name}-{_version(spec, name)}": (
            hashlib.sha256(stored_program(name, spec.versions).read_bytes()).hexdigest()
        )
        for name in PROGRAMS
    }
    return spec.model_copy(
        update={"artifacts": ArtifactSource(digests=digests, mirror=MIRROR), "keys": KeyNumbers()}
    )


def _cluster_of(names: Sequence[str], **settings: str) -> Cluster:
    more = {"endpoint": OUTSIDE} if len(names) > 1 else {}
    members = names[: len(names) - 1 + len(names) % 2]
    machines = {name: (ADDRESSES[name], "eai" if name in members else "ai") for name in names}
    return cluster(machines, **more, **settings)


def _version(spec: Cluster, program: str) -> str:
    return spec.versions.etcd if program in etcd.PROGRAMS else spec.kubernetes


def turned(
    authorities: Authorities,
    encryption: int = 1,
    service_accounts: int = 1,
    numbers: Numbers | None = None,
    *,
    later: timedelta = timedelta(0),
) -> Authorities:
    """What the state does where the spec has these numbers."""
    now = datetime.now(UTC) + later
    return renewed_authorities(authorities, now, encryption, service_accounts, numbers)


def programs(folder: Path, **settings: str) -> Path:
    """Put the programs of a cluster with these settings where machines have them."""
    spec = planned(LONE, **settings)
    for step in (etcd.step(spec, "c1"), _api_server(spec, "c1")):
        for artifact in step.artifacts:
            path = folder / artifact.store_path[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(stored_program(artifact.name, spec.versions), path)
            path.chmod(0o755)
    return folder


def _api_server(spec: Cluster, name: str) -> Step:
    """The step of a control plane with the API server, which does not linger before it ends: the
    client here goes to another one by itself. A lone one has the controller manager as well."""
    step = control_plane.step(spec, name)
    unit = apiserver.unit(spec, name)
    flags = {**unit.flags, "shutdown-delay-duration": "0s"}
    artifacts = tuple(entry for entry in step.artifacts if entry.name in PROGRAMS)
    alone = len(spec.control_planes) == 1
    return replace(
        step,
        artifacts=artifacts,
        links=tuple(entry.command for entry in artifacts),
        units=(
            replace(unit, flags=flags),
            *((controller_manager.unit(spec, name),) if alone else ()),
        ),
    )


PlanesOf = Callable[[Sequence[str]], "TurningPlanes"]
"""Brings up control planes of these names, whose steps have run."""


class TurningPlanes:
    """Control planes whose steps run as the engine runs them."""

    def __init__(self, memory: Memory, store: Path, names: Sequence[str], **settings: str) -> None:
        self._memory, self._store = memory, store
        self.names = tuple(names)
        self.spec = planned(names, **settings)
        self.keys = Keys(self.spec)
        self._pairs = {name: self.keys.of(name) for name in names}
        self._stacks: dict[str, ExitStack] = {}
        self.machines: dict[str, Container] = {}
        self._ran: dict[str, str] = {}

    # -- machines ------------------------------------------------------------------------------

    def make(self, name: str) -> None:
        """Make a machine, with an empty disk."""
        stack = self._stacks[name] = ExitStack()
        machine = stack.enter_context(Container(self._memory, self._store, prepare=quiet))
        machine.call("ip", "address", "add", ADDRESSES[name], "dev", "lo")
        for peer, there in self.machines.items():
            cable({name: machine, peer: there}, ADDRESSES)
        self.machines[name] = machine

    def lose(self, name: str) -> None:
        """End a machine, with what is on its disk."""
        del self.machines[name]
        self._ran.pop(name, None)
        self._stacks.pop(name).close()

    def end(self) -> None:
        for name in list(self.machines):
            self.lose(name)

    def begin(self) -> None:
        """Make all machines and bring them up."""
        for name in self.names:
            self.make(name)
        self.everywhere(self.names, lambda name: self.run(name, self.identity(name)))
        names = self.spec.etcd_members
        members = {name: etcd.founded(etcd.step(self.spec, name), names) for name in names}
        self.everywhere(names, lambda name: self.run(name, render.text(members[name])))
        self.everywhere(self.names, self.serve)

    def become(self, names: Sequence[str]) -> None:
        """Write other control planes into the spec, and make the machines of those that are new."""
        self.names = tuple(names)
        numbers = self.spec.keys
        self.spec = planned(names).model_copy(update={"keys": numbers})
        self.keys.become(self.spec)
        self._pairs = {name: self.keys.of(name) for name in names}
        for name in names:
            if name not in self.machines:
                self.make(name)

    def upgrade(self, **settings: str) -> None:
        """Give all machines the versions that these settings have, in the order of an update."""
        self.spec = planned(self.names, **settings)
        self.keys.become(self.spec)
        self.update()
        members = {name: etcd.step(self.spec, name) for name in self.spec.etcd_members}
        self.everywhere(
            self.spec.etcd_members, lambda name: self.run(name, render.text(members[name]))
        )
        self.everywhere(self.names, self.serve)

    def serve(self, name: str) -> None:
        """Run the step of a control plane."""
        self.run(name, render.text(_api_server(self.spec, name)))
        eventually(f"{name} is ready", lambda: self.ready(name))

    def ready(self, name: str) -> bool:
        url = f"{layout.api_server_url(self.spec, name)}/readyz"
        call = ("curl", "--silent", "--fail", "--cacert", layout.AUTHORITY, url)
        return self.machines[name].start(*call).wait() == 0

    # -- steps ---------------------------------------------------------------------------------

    @staticmethod
    def without_machines(names: Sequence[str]) -> Cluster:
        """The cluster, with digests that no program has."""
        spec = _cluster_of(names)
        every = (*etcd.PROGRAMS, *control_plane.PROGRAMS)
        digests = {f"{name}-{_version(spec, name)}": "0" * 64 for name in every}
        return spec.model_copy(update={"artifacts": ArtifactSource(digests=digests)})

    @staticmethod
    def data_of(spec: Cluster, keys: Keys, name: str) -> str:
        """The data of the step with keys."""
        pairs = keys.of(name)
        return render.text(identity.step(spec, name), lambda source: keys.content(source, pairs))

    def content(self, name: str) -> Callable[[Source], str]:
        return lambda source: self.keys.content(source, self._pairs[name])

    def identity(self, name: str) -> str:
        """The data of the step with keys."""
        return render.text(identity.step(self.spec, name), self.content(name))

    def run(self, name: str, data: str) -> None:
        done = self.machines[name].run(data)
        assert (done.returncode, done.stderr) == (0, ""), f"{name}: {done.stdout}{done.stderr}"

    @staticmethod
    def everywhere(names: Sequence[str], act: Callable[[str], None]) -> None:
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(act, names))

    def declare(
        self,
        encryption: int = 1,
        service_accounts: int = 1,
        *,
        later: timedelta = timedelta(0),
    ) -> None:
        """Write these numbers into the spec, or bring it up so much later."""
        numbers = KeyNumbers(encryption=encryption, service_accounts=service_accounts)
        self.spec = self.spec.model_copy(update={"keys": numbers})
        self.keys.authorities = turned(
            self.keys.authorities, encryption, service_accounts, later=later
        )

    def trust(self, *numbers: int) -> None:
        """Write these numbers of all authorities into the spec; the first signs."""
        declared = AuthorityNumbers(kubernetes=numbers, etcd=numbers, front_proxy=numbers)
        self.spec = self.spec.model_copy(update={"authorities": declared})
        self.keys.become(self.spec)
        wanted = authority_numbers(self.spec)
        self.keys.authorities = turned(self.keys.authorities, numbers=wanted)
        signers, now = self.keys.signers, datetime.now(UTC)
        for name, pairs in self._pairs.items():
            bundle = Bundle(pairs)
            decisions = decided(held_by(self.spec, name), bundle, signers, now)
            self._pairs[name] = dict(renewed(bundle, decisions, signers, now).pairs)

    def apply(self) -> None:
        """Run the step that brings the cluster's objects."""
        first = self.names[0]
        pairs = self.keys.of_people() | self.keys.of_add_ons(self.spec)
        step = addons.apply(self.spec)
        self.run(first, render.text(step, lambda source: self.keys.content(source, pairs)))

    def update(self) -> None:
        """Run the step with keys wherever its data are not those with which it last succeeded."""

        def updated(name: str) -> None:
            data = self.identity(name)
            if self._ran.get(name) != data:
                self.run(name, data)
                self._ran[name] = data

        self.everywhere(self.names, updated)

    def update_until(self, reached: Callable[[], bool]) -> bool:
        """Run these steps until something is so, then cut all of them off; whether any was."""
        texts = {name: self.identity(name) for name in self.names}
        children = {name: self.machines[name].begin(text) for name, text in texts.items()}
        while not reached() and any(child.poll() is None for child in children.values()):
            time.sleep(0.02)
        for name, child in children.items():
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            if child.returncode == 0:
                self._ran[name] = texts[name]
        return any(child.returncode for child in children.values())

    def cut_off(self, prefix: str, turn: int, reached: Callable[[list[list[str]]], bool]) -> None:
        """Cut an update off where the keys that are published at this turn are like that."""

        def there() -> bool:
            notes = [note.split() for note in self.notes(prefix).values()]
            return reached([names for at, *names in notes if at == str(turn)])

        assert self.update_until(there), "nothing was left to be cut off"

    # -- a backup ------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write a snapshot of etcd into a file of this host."""
        self.ctl("snapshot", "save", "/root/snapshot.db")
        saved = next(iter(self.machines.values())).path("/root/snapshot.db")
        path.write_bytes(saved.read_bytes())

    @contextmanager
    def restoring(self, path: Path, held: Snapshot) -> Iterator[None]:
        """Restore a snapshot: the API is back inside, and all has today's keys at the end."""
        reached = cast(Any, SimpleNamespace(spec=self.spec))
        restoration = Restoration(reached, path, held, self.keys.authorities)
        doing = Doing(cast(Any, ContainedMachines(self.machines)), "")
        asyncio.run(restoration.members(doing))
        asyncio.run(restoration.control_planes(doing))
        eventually("the API is back", lambda: all(map(self.ready, self.names)))
        yield
        asyncio.run(restoration.with_current_keys(doing))

    # -- what is so ----------------------------------------------------------------------------

    def ctl(self, *arguments: str) -> str:
        trust = zip(("cacert", "cert", "key"), etcd.OPERATOR, strict=True)
        options = [f"--{option}={path}" for option, path in trust]
        url = f"--endpoints={','.join(layout.etcd_urls(self.spec))}"
        return next(iter(self.machines.values())).call("etcdctl", url, *options, *arguments)

    def notes(self, prefix: str = walk.ENCRYPTION) -> dict[str, str]:
        """Control plane to what it published: the turn and the names of its keys."""
        lines = self.ctl("get", "--prefix", prefix).splitlines()
        names = (line.rpartition("/")[2] for line in lines[::2])
        notes = (re.sub(r" since=\d+", "", line) for line in lines[1::2])
        return dict(zip(names, notes, strict=True))

    def demand(self) -> None:
        """What the condition of a ready cluster demands. Raises Unmet."""
        (check,) = (
            entry.check for entry in conditions(self.spec) if isinstance(entry.check, CurrentKeys)
        )
        asyncio.run(demand_keys(check, cast(Any, ContainedMachines(self.machines))))

    def encrypted_with(self) -> set[str]:
        """The first bytes of all Secrets in etcd."""
        output = self.ctl("get", "--prefix", "/registry/secrets/", "--write-out=fields")
        values = [line for line in output.splitlines() if line.startswith('"Value" : "')]
        return {":".join(value[len('"Value" : "') :].split(":")[:5]) for value in values}

    def secrets(self) -> dict[str, Any]:
        """Name to the data of all Secrets, as the first API server reads them."""
        answer = self.api(self.names[0], "/api/v1/secrets")
        return {item["metadata"]["name"]: item.get("data", {}) for item in answer["items"]}

    def api(self, name: str, path: str, *more: str) -> Any:
        """What an API server answers to the cluster's admin."""
        machine = self.machines[name]
        certificate, key = self._admin
        machine.write("/root/admin.pem", certificate + key, 0o600)
        trust = ("--cacert", layout.AUTHORITY, "--cert", "/root/admin.pem")
        url = f"{layout.api_server_url(self.spec, name)}{path}"
        return json.loads(machine.call("curl", "--silent", "--fail", *trust, *more, url))

    def status(self, name: str, token: str) -> str:
        """The status with which an API server answers to a token."""
        call = ("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}")
        trust = ("--cacert", layout.AUTHORITY, "--header", f"Authorization: Bearer {token}")
        url = f"{layout.api_server_url(self.spec, name)}/version"
        return self.machines[name].call(*call, *trust, url)

    def in_file(self, name: str) -> list[str]:
        """The names of the keys in a machine's file."""
        read = yaml.safe_load(self.machines[name].read(layout.ENCRYPTION))
        (resource,) = read["resources"]
        return [key["name"] for key in resource["providers"][0]["secretbox"]["keys"]]

    def starts(self, name: str, unit: str = apiserver.UNIT) -> int:
        """How often the API server, or another service, was started."""
        lines = self.machines[name].call(
            "journalctl", "--unit", unit, "--output", "json", "--no-pager"
        )
        entries = map(json.loads, lines.splitlines())
        return len({entry["INVOCATION_ID"] for entry in entries if "INVOCATION_ID" in entry})

    def moment(self, name: str, of: str) -> int:
        """When something became of the API server that runs, by a clock that all machines share."""
        shown = ("systemctl", "show", apiserver.UNIT, f"--property={of}TimestampMonotonic")
        return int(self.machines[name].call(*shown, "--value"))

    def is_all(self, name: str) -> None:
        """This key is the only one: of Secrets in etcd, in files and in running API servers."""
        turn = self.keys.authorities.encryption.turn
        assert self.encrypted_with() == {f"k8s:enc:secretbox:v1:{name}"}
        wanted = self.content(self.names[0])(EncryptionConfiguration())
        for plane in self.names:
            assert self.machines[plane].read(layout.ENCRYPTION) == wanted
            assert self.machines[plane].path(layout.ENCRYPTION).stat().st_mode & 0o777 == 0o600
        notes = {plane: note.removesuffix(" starting") for plane, note in self.notes().items()}
        assert notes == dict.fromkeys(self.names, f"{turn} {name}")

    # -- a client ------------------------------------------------------------------------------

    @property
    def _admin(self) -> tuple[str, str]:
        """The certificate and key of an admin, of the authority that signs now."""
        pair = self.keys.of_people()["super-admin"]
        return pair.certificate, pair.key

    @contextmanager
    def client(self, folder: Path, kind: str = "secrets_client") -> Iterator["Client"]:
        """A client in the network of the first machine; ended and asked at the end.

        ``kind`` is the name of its module.
        """
        folder.mkdir()
        certificate, key = self._admin
        (folder / "admin.pem").write_text(certificate + key)
        (folder / "ca.pem").write_text(self.machines[self.names[0]].read(layout.AUTHORITY))
        urls = [layout.api_server_url(self.spec, name) for name in self.names]
        leader = str(self.machines[self.names[0]].leader)
        process = subprocess.Popen(
            [
                *("nsenter", "--target", leader, "--net", sys.executable),
                *("-m", f"tests.plan.{kind}", str(folder), *urls),
            ],
            cwd=ROOT,
            start_new_session=True,
        )
        made = Client(folder)
        try:
            eventually("the client works", lambda: made.counts()["written"] > 5)
            yield made
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(180)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise


class Client:
    """What the client counted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def counts(self) -> dict[str, Any]:
        path = self._folder / "counts.json"
        counted: dict[str, Any] = {"written": 0}
        if path.exists():
            counted = json.loads(path.read_text())
        return counted
