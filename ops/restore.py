"""The command ``restore``, which brings the cluster's etcd back from a snapshot."""

import asyncio
import hashlib
import json
import re
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from certs.backup import MAGIC, BackupKeys, NotOurs, decrypt
from certs.bundle import Authorities, Bundle, EncryptionKeys
from certs.encryption import encryption_configuration, whole_configuration
from lab.problem import Problem
from ops import snapshot
from ops.display import agreed, option_of, progress, stdout
from ops.reach import Reached, kept_authorities, kept_backup_keys, reach
from ops.snapshot import BadSnapshot, Snapshot
from ops.stacks import StackOption
from ops.validate import again, demand_held
from plan import etcd, identity, layout, render, walk
from plan.artifact import artifacts
from plan.conditions import conditions
from plan.material import material
from plan.model import Material, Step
from probe.api import ApiError
from probe.authorities import BEHIND
from probe.backups import shown
from probe.conditions import doors
from probe.failure import Unmet
from probe.machines import Machines, Unreachable
from probe.space import mebibytes
from probe.watch import watch
from spec.refusal import listed
from spec.versions import is_older

SCRIPT = Path(__file__).with_name("scripts") / "restore.sh"

BUMP = 1_000_000_000
"""How many revisions later the restored cluster goes on: more than any cluster has made since a
backup, so that no client sees a revision that it has seen already with another content."""

CONTROL_PLANE = (
    "kube-scheduler.service",
    "kube-controller-manager.service",
    "kube-apiserver.service",
)
"""The services of a control plane in the order in which they end."""

FLANNEL, KUBELET = "flanneld.service", "kubelet.service"

LONG, SHORT = 1800, 900
"""Time limits in seconds of an action that copies the database, and of one that does not."""

PART = 1 << 18

STAMP = re.compile(r"-(\d{8}T\d{6}Z)-r\d+\.db(?:\.age)?$")
"""The time in the name of a backup."""

Act = Callable[[str], Awaitable[None]]


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster")(restore)


def restore(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A backup, encrypted or not.")
    ] = None,
    member: Annotated[
        str | None,
        typer.Option(
            metavar="MACHINE", help="Take the data of this machine's member in place of a file."
        ),
    ] = None,
    stack: StackOption = "dev",
    yes: Annotated[bool, typer.Option("--yes", help="Restore without asking.")] = False,
) -> None:
    """Bring etcd back from a snapshot, on the machines that are there, once you say yes.

    For a cluster that is to be as it was, that lost its quorum (`--member` takes what the member
    that is left has), or whose members all lost their data. Everything is checked before anything
    is stopped, but for the member of `--member`, which stands still while its data are copied. Then
    the API is away for a minute or so; pods live on. What was written since the snapshot is lost.
    The present data are kept aside on each member until the cluster is well. Cut off, run it again.

    Examples: `./hardway restore dev-20261129T095150Z-r48213.db.age`
    """
    reached = reach(stack)
    if (file is None) == (member is None):
        raise Problem(
            "a file is restored, or the data of a member",
            "name a backup, as ./hardway backup fetch brings it, or a machine with --member",
        )
    authorities = demand_authorities(reached)
    unasked = f"Restore with ./hardway {' '.join(sys.argv[1:])} --yes"
    with TemporaryDirectory(prefix="hardway-restore-") as folder:
        plain = Path(folder) / "snapshot.db"
        if member is not None:
            if not (yes or agreed(f"Stop etcd on {member} while its data are copied?", unasked)):
                return
            when, source = asyncio.run(taken(reached, member, plain)), f"etcd's data on {member}"
        else:
            assert file is not None
            when, source = opened(reached, file, plain), str(file)
        held = checked(plain, source, authorities.encryption, reached.spec.versions.etcd)
        for line in preview(reached, held, source, when):
            stdout.print(line, markup=False, soft_wrap=True)
        if not (yes or agreed("Stop the API and etcd, and restore?", unasked)):
            return
        asyncio.run(Restoration(reached, plain, held, authorities).run())
    stdout.print(f"restored {source}; revisions go on at {held.revision + BUMP}", markup=False)


# -- before anything is stopped --------------------------------------------------------------------


def opened(reached: Reached, file: Path, plain: Path) -> datetime:
    """Write the plain snapshot of a file; return its time. Raises a Problem."""
    if not file.is_file():
        raise Problem(
            f"there is no file {file}", "./hardway backup fetch brings the newest backup here"
        )
    with file.open("rb") as source, plain.open("wb") as target:
        if source.peek(len(MAGIC))[: len(MAGIC)] != MAGIC:
            while part := source.read(1 << 20):
                target.write(part)
        else:
            kept = kept_backup_keys(reached.state)
            if kept is None:
                raise Problem(
                    f"{file} is encrypted, and the state has no keys of backups",
                    "use the state with which it was made, or ./hardway backup fetch there",
                )
            try:
                decrypt(BackupKeys.from_state(json.loads(kept)), source, target)
            except NotOurs as error:
                raise Problem(
                    f"{file} cannot be decrypted: {error}", "use the state with which it was made"
                ) from error
    if stamp := STAMP.search(file.name):
        return datetime.strptime(stamp[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)


async def taken(reached: Reached, node: str, plain: Path) -> datetime:
    """Take the data of a machine's member, which is stopped for that. Raises a Problem."""
    if node not in reached.spec.etcd_members:
        raise Problem(
            f"{node} is no member of etcd",
            f"name {listed(reached.spec.etcd_members)}",
        )
    async with Machines(reached.access) as machines:
        with plain.open("wb") as target, progress().task(f"take etcd's data from {node}"):
            try:
                done = await machines.fetch(
                    *(node, _text(), "left", layout.ETCD_DATA),
                    take=target.write,
                    timeout=LONG,
                )
            except Unreachable as error:
                raise Problem(str(error), "start the machine, or restore a backup") from error
    if done.status != 0:
        raise Problem(
            f"{node} does not give etcd's data ({done.reason})",
            "name another member, or restore a backup",
        )
    return datetime.now(UTC)


def demand_authorities(reached: Reached) -> Authorities:
    """The cluster's keys that the state keeps. Raises a Problem."""
    authorities = kept_authorities(reached.state)
    if authorities is None:
        raise Problem(
            "the state has no keys of this cluster, without which nobody could read its Secrets",
            "restore the state first (pulumi stack import), then run this again",
        )
    return authorities


def checked(plain: Path, source: str, encryption: EncryptionKeys, etcd_version: str) -> Snapshot:
    """What a snapshot holds. Raises a Problem where it cannot be restored into this cluster."""
    try:
        with progress().task("read the snapshot"):
            held = snapshot.read(plain, whole_configuration(encryption))
    except BadSnapshot as error:
        raise Problem(
            str(error).replace(str(plain), source), "take another backup; this one is of no use"
        ) from error
    # etcdutl would restore it all the same, and etcd would then not start (etcdutl 3.6.14).
    if held.version and is_older(etcd_version, held.version):
        raise Problem(
            f"the snapshot has the format of etcd {held.version}, which the cluster's etcd "
            f"{etcd_version} cannot read",
            "leave etcd.version out, run ./hardway up, and restore it then; nothing was changed",
        )
    if held.unreadable:
        keys = listed([f"{count} with {key}" for key, count in held.unreadable.items()], "and")
        raise Problem(
            f"the snapshot has values under keys that the state does not have ({keys}): API "
            "servers could list no Secret and would not get ready",
            "use the state of that time, or a backup of this cluster; nothing was changed",
        )
    return held


def preview(reached: Reached, held: Snapshot, source: str, when: datetime) -> Iterable[str]:
    """What a restore does, line by line."""
    spec = reached.spec
    new = sorted(set(spec.nodes) - held.nodes)
    old = sorted(held.nodes - set(spec.nodes))
    encrypted = sum(held.encrypted.values())
    yield f"{source}: {held.keys} keys at revision {held.revision}, of {shown(when)}"
    yield f"  its {encrypted} encrypted values can be read with the keys of the state"
    yield f"lost: all that was written since, {_ago(datetime.now(UTC) - when)}"
    yield (
        f"stopped and started: etcd on {listed(spec.etcd_members, 'and')}, then the API servers, "
        f"controllers and schedulers of {listed(spec.control_planes, 'and')}; pods live on"
    )
    if new:
        yield f"nodes that the snapshot does not know register again: {listed(new, 'and')}"
    if old:
        yield f"nodes that are no machines any more are deleted again: {listed(old, 'and')}"
    yield "the present data are kept aside on each member until the cluster is well"


def _ago(time: timedelta) -> str:
    minutes = max(int(time.total_seconds()) // 60, 0)
    days, hours = divmod(minutes // 60, 24)
    parts = [(days, "d"), (hours, "h"), (minutes % 60, "min")]
    text = " ".join(f"{count} {unit}" for count, unit in parts if count)
    return text or "less than a minute"


# -- the restore -----------------------------------------------------------------------------------


TRUSTED_BY_OTHERS = f"/registry/configmaps/kube-system/{BEHIND}"
"""The key in etcd of the object that says which authorities programs behind the API trust."""


@dataclass(frozen=True)
class Restoration:
    """The restore of a snapshot on the machines of a cluster. It can be repeated after any part."""

    reached: Reached
    plain: Path
    held: Snapshot
    authorities: Authorities

    @property
    def encryption(self) -> EncryptionKeys:
        """The keys of Secrets in etcd."""
        return self.authorities.encryption

    @property
    def _turned(self) -> bool:
        """Whether a key of the cluster has ever turned over."""
        return bool(self.encryption.turn or self.authorities.service_accounts.turn)

    async def run(self) -> None:
        """Raises a Problem with the next step where a part fails."""
        spec = self.reached.spec
        nodes, say = spec.nodes, progress().say
        async with Machines(self.reached.access) as machines:
            do = Doing(machines, option_of(self.reached.stack.name))
            await self.members(do)
            await self._until("members")
            if spec.flannel.store == "etcd":
                await self._start(do, nodes, FLANNEL)
            await self.control_planes(do)
            await self._until("api")
            await self.with_current_keys(do)
            await self._without(sorted(self.held.nodes - set(nodes)))
            if new := sorted(set(nodes) - self.held.nodes):
                say(f"starting kubelets anew, so that they register: {listed(new, 'and')}")
                await self._start(do, new, KUBELET)
            await self._until(*(condition.name for condition in conditions(spec)), restored=True)
            await do.everywhere(
                spec.etcd_members, lambda node: do.act(node, "finished", layout.ETCD_DATA)
            )

    async def _start(self, do: "Doing", nodes: Sequence[str], unit: str) -> None:
        """Start a service of nodes anew. Raises a Problem.

        A machine without etcd and without an API server may be off.
        """
        spec, say = self.reached.spec, progress().say
        needed = {*spec.etcd_members, *spec.control_planes}

        async def start(node: str) -> None:
            try:
                await do.act(node, "start", unit)
            except Unreachable as error:
                if node in needed:
                    raise
                say(f"{error}: the restore goes on without it")

        await do.everywhere(nodes, start)

    async def control_planes(self, do: "Doing") -> None:
        """Start API servers, controllers and schedulers anew. Raises a Problem."""
        servers = tuple(reversed(CONTROL_PLANE))
        planes = self.reached.spec.control_planes
        if self.encryption.turn:
            await self._with_old_keys(do)
        # API servers add the authorities that they trust to those here, and take none out.
        outdated = [TRUSTED_BY_OTHERS]
        if self._turned:
            # What the snapshot has was published before it, by API servers that had other keys.
            outdated += [walk.ENCRYPTION, walk.SERVICE_ACCOUNTS]
        member, urls = self.reached.spec.etcd_members[0], layout.etcd_urls(self.reached.spec)
        for prefix in outdated:
            await do.act(member, "forget", prefix, *etcd.OPERATOR, ",".join(urls))
        await do.everywhere(planes, lambda node: do.act(node, "start", *servers))

    async def with_current_keys(self, do: "Doing") -> None:
        """Have all Secrets encrypted with the current key, and the others leave. Raises a Problem.

        The control planes see to it by the last stages of keys that turn over.
        """
        spec = self.reached.spec
        if not self._turned:
            return
        progress().say(f"encrypting Secrets with {self.encryption.current}")
        content = material(spec.name, self.authorities, Bundle())
        await do.everywhere(
            spec.control_planes, lambda node: do.step(node, identity.turning(spec, node), content)
        )

    async def _with_old_keys(self, do: "Doing") -> None:
        """Give API servers the keys that the snapshot's Secrets need. Raises a Problem."""
        spec = self.reached.spec
        needed = {label.split()[1] for label in self.held.encrypted}
        every = self.encryption.ordered
        keys = {name: every[name] for name in every if name in needed | {self.encryption.current}}
        text = encryption_configuration(keys).encode()

        async def whole() -> AsyncIterator[bytes]:
            yield text

        await do.everywhere(
            spec.control_planes,
            lambda node: do.act(node, "encryption", layout.ENCRYPTION, content=whole()),
        )

    async def members(self, do: "Doing") -> None:
        """Put the snapshot in the place of all members' data, and start them. Raises a Problem."""
        spec, say = self.reached.spec, progress().say
        members, planes = spec.etcd_members, spec.control_planes
        token = f"{spec.name}-{uuid.uuid4().hex}"
        size = mebibytes(self.plain.stat().st_size)
        say(f"bringing the snapshot ({size} MiB) to the members")
        # No machine must be missing once something is stopped.
        await do.everywhere((*members, *planes), lambda node: do.act(node, "stop"))
        await do.everywhere(members, lambda node: self._receive(do, node))
        say("making each member's data of it")
        await do.everywhere(members, lambda node: self._prepare(do, node, token))
        say("stopping schedulers, controllers and API servers, then etcd")
        await do.everywhere(planes, lambda node: do.act(node, "stop", *CONTROL_PLANE))
        await do.everywhere(members, lambda node: do.act(node, "stop", etcd.UNIT))
        say("putting the data in place")
        await do.everywhere(members, lambda node: do.act(node, "swap", layout.ETCD_DATA))
        await do.everywhere(members, lambda node: self._begin(do, node))

    async def _begin(self, do: "Doing", node: str) -> None:
        """Start a member. Raises a Problem.

        On a machine that was made anew while there was no quorum, its step has refused to bring the
        service: the step runs once more, now that the data are there.
        """
        if await do.has(node, etcd.UNIT):
            await do.act(node, "start", etcd.UNIT)
        else:
            await do.step(node, etcd.step(self.reached.spec, node), None)

    async def _without(self, nodes: Sequence[str]) -> None:
        """Delete the Node objects of machines that have left since. Raises a Problem."""
        if not nodes:
            return
        progress().say(f"deleting nodes that are no machines any more: {listed(nodes, 'and')}")
        async with doors(self.reached.access) as through:
            try:
                for node in nodes:
                    await through.api.delete(f"/api/v1/nodes/{node}")
            except (ApiError, Unmet) as error:
                raise Problem(
                    str(error), "run the same again, or delete the nodes with ./hardway kubectl"
                ) from error

    async def _receive(self, do: "Doing", node: str) -> None:
        size = self.plain.stat().st_size
        with self.plain.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        await do.act(
            *(node, "receive", layout.ETCD_DATA, str(size), digest), content=_parts(self.plain)
        )

    async def _prepare(self, do: "Doing", node: str, token: str) -> None:
        spec = self.reached.spec
        flags = etcd.unit(spec, node).flags
        (etcdutl,) = artifacts(spec, ("etcdutl",))
        options = [f"--bump-revision={BUMP}", "--mark-compacted"]
        if not self.held.has_digest:
            options.append("--skip-hash-check")
        await do.act(
            *(node, "prepare", layout.ETCD_DATA, etcdutl.store_path, node),
            *(flags["initial-advertise-peer-urls"], etcd.initial_cluster(spec), token, *options),
        )

    async def _until(self, *names: str, restored: bool = False) -> None:
        """Wait until conditions hold. Raises a Problem.

        Once the cluster is restored and takes writes, another restore would lose them.
        """
        asked = [entry for entry in conditions(self.reached.spec) if entry.name in names]
        outcomes = await watch(asked, self.reached.access, say=progress().say)
        kept = f"; the data of before are in {layout.ETCD_DATA}/restore on each member"
        option = option_of(self.reached.stack.name)
        if restored:
            remedy = (
                "mend that, and do not restore again, which would lose what was written since; "
                f"./hardway validate{option} says what else is not so; once all is well, remove "
                f"{layout.ETCD_DATA}/restore on {listed(self.reached.spec.etcd_members, 'and')}"
            )
            demand_held(asked, outcomes, "the cluster is restored, but ", remedy, kept)
        else:
            demand_held(asked, outcomes, "", again(option), kept)


@dataclass(frozen=True)
class Doing:
    """Runs actions of ``restore.sh`` on machines."""

    machines: Machines
    option: str

    async def everywhere(self, nodes: Sequence[str], act: Act) -> None:
        """Do something on machines, each once and all at the same time. Raises a Problem."""
        every = tuple(dict.fromkeys(nodes))
        results = await asyncio.gather(*(act(node) for node in every), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not isinstance(failure, Unreachable | Problem):
                raise failure
        if failures:
            raise Problem(
                "; ".join(
                    failure.what if isinstance(failure, Problem) else str(failure)
                    for failure in failures
                ),
                "mend that and run the same again: it begins anew, and keeps what was moved aside; "
                f"./hardway status{self.option} shows which machines run",
            )

    async def act(
        self, node: str, *arguments: str, content: AsyncIterator[bytes] | None = None
    ) -> None:
        """Run an action. Raises Unreachable or a Problem."""
        if content is not None:
            done = await self.machines.feed(
                node, _text(), *arguments, content=content, timeout=LONG
            )
        else:
            limit = LONG if arguments[0] == "prepare" else SHORT
            done = await self.machines.run(node, _text(), *arguments, timeout=limit)
        if done.status != 0:
            raise Problem(f"{node}: {done.reason.removeprefix('failed: ')}", "")

    async def has(self, node: str, unit: str) -> bool:
        """Whether a machine has a service. Raises Unreachable."""
        done = await self.machines.run(node, f"test -e /etc/systemd/system/{unit}", timeout=SHORT)
        return done.status == 0

    async def step(self, node: str, step: Step, content: Material | None) -> None:
        """Run a step. Raises Unreachable or a Problem."""
        done = await self.machines.run(
            *(node, render.command(step)),
            timeout=render.limit(step),
            input=render.text(step, content),
        )
        if done.status != 0:
            raise Problem(f"{node}: {render.failure(done.stderr) or done.reason}", "")


def _text() -> str:
    return SCRIPT.read_text()


async def _parts(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(PART):
            yield part
