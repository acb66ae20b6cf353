"""``./hardway diagnose``: collects diagnostic data of a cluster in one file without secrets."""

import asyncio
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from lab.connection import ask
from lab.paths import LabPaths, lab_paths
from lab.problem import Problem, full_disk_told
from lab.process import output as printed_by
from ops.display import progress, stdout
from ops.evidence import API, SECONDS, Question, logs, questions, without_values
from ops.reach import kept_kubeconfig, reach, resources, secrets_of
from ops.redaction import Redaction
from ops.stacks import StackOption
from plan.cluster import node_plan
from plan.model import NodePlan
from probe import clocks, pods
from probe.access import Access
from probe.api import Api, ApiError
from probe.machines import Machines, Unreachable
from spec import resource_names
from spec.cluster import Cluster, SpecError
from spec.hypervisor import Libvirt

LARGEST = 2 * 2**20
"""Most bytes of one answer or log; of a longer one the end is kept."""

LARGEST_OBJECTS = 8 * 2**20
"""Most characters of one list of API objects; of a longer one the beginning is kept."""

MACHINE_SECONDS = 240
"""Time limit for all questions to a machine: where its disk hangs, each question may time out."""

ASK = """\
set +e +u +o pipefail
export LC_ALL=C SYSTEMD_COLORS=0 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
{ timeout --kill-after=5 "$2" bash -c "$1" 2>&1 </dev/null; echo "# exit status $?"; } |
    tail --bytes "$3"
"""
"""Script that limits time and size of an answer on the machine itself.

Output from before the time limit is kept.
"""

TIMED_OUT = ("# exit status 124", "# exit status 137")

Say = Callable[[str], None]


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster")(diagnose)


def diagnose(
    stack: StackOption = "dev",
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write it; else hardway-STACK-TIME.tar.gz in this directory."),
    ] = None,
) -> None:
    """Collect logs, unit states and events of every machine into one file to show to others.

    Keys, tokens and the cluster's Secrets are not collected, and what looks like one is taken out.
    A machine or an API that does not answer is noted and does not stop the rest. Look into it
    before you give it away: addresses, names and your pods' arguments are in it.

    Examples: `./hardway diagnose`, into a file of your choice
    `./hardway diagnose --output /tmp/today.tar.gz`
    """
    reached = reach(stack)
    state = reached.state
    kubeconfig = reached.access.kubeconfig or kept_kubeconfig(reached.spec, state)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    collected = collect(
        reached.spec,
        replace(reached.access, kubeconfig=kubeconfig),
        output or Path(f"hardway-{stack}-{moment}.tar.gz"),
        progress().say,
        state=state,
    )
    for line in collected.missing:
        stdout.print(f"not to be had: {line}", markup=False)
    size = f"{collected.size / 2**20:.1f} MiB"
    stdout.print(f"{collected.path} ({size}, {collected.files} files)", markup=False)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The file that ``collect`` wrote."""

    path: Path
    size: int
    """In bytes."""
    files: int
    missing: tuple[str, ...]
    """A sentence without full stop for each piece of data that could not be collected."""


def collect(
    spec: Cluster,
    access: Access,
    target: Path,
    say: Say,
    *,
    state: Mapping[str, Any] | None = None,
    paths: LabPaths | None = None,
) -> Collected:
    """Write diagnostic data of a cluster into a .tar.gz that only its owner can read.

    ``say`` gets a message for each machine that is done. ``state`` is the stack's exported state
    with secrets in plain text; it supplies the secrets to remove and the list of resources. Raises
    a Problem or an OSError where the file cannot be written; all other failures are in ``missing``.
    """
    secrets = {access.ssh_key, access.kubeconfig or "", *secrets_of(state or {})}
    with _archive(target, Redaction(secrets)) as archive:
        archive.add("spec.yaml", yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))
        if state is not None:
            archive.add("resources.json", json.dumps(_listed(state), indent=1))
        _add_lab(archive, spec, paths or lab_paths())
        asyncio.run(_ask_all(archive, spec, access, say))
        archive.add("missing.txt", "".join(f"{line}\n" for line in archive.missing))
    return Collected(
        path=target,
        size=target.stat().st_size,
        files=archive.files,
        missing=tuple(archive.missing),
    )


# -- the file ------------------------------------------------------------------------------------


class DiagnosisArchive:
    """A .tar.gz that is being written; all text in it passes the redaction."""

    def __init__(self, tar: tarfile.TarFile, folder: str, redaction: Redaction) -> None:
        self._tar = tar
        self._folder = folder
        self._redaction = redaction
        self.files = 0
        self.missing: list[str] = []

    def add(self, name: str, text: str) -> None:
        """Add a file, without the secrets in its text."""
        content = self._redaction(text).encode()
        member = tarfile.TarInfo(f"{self._folder}/{name}")
        member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
        self._tar.addfile(member, io.BytesIO(content))
        self.files += 1

    def lacks(self, what: str) -> None:
        """Record data that could not be collected."""
        self.missing.append(self._redaction(what))


@contextmanager
def _archive(target: Path, redaction: Redaction) -> Iterator[DiagnosisArchive]:
    """An archive that appears as a whole if the context ends without an error, else not at all."""
    folder = target.name.removesuffix(".gz").removesuffix(".tar")
    with full_disk_told(target):
        # mkstemp makes a file that only its owner can read.
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                with tarfile.open(fileobj=stream, mode="w:gz") as tar:
                    yield DiagnosisArchive(tar, folder, redaction)
            Path(name).rename(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _end(text: str) -> str:
    """A text without the incomplete first line that it has if it was cut to ``LARGEST`` bytes."""
    if len(text.encode()) < LARGEST:
        return text
    # The redaction may not recognize a secret in a line without its beginning.
    return f"[the beginning is left out]\n{text.partition(chr(10))[2]}"


# -- data of this computer -----------------------------------------------------------------------


def _listed(state: Mapping[str, Any]) -> Any:
    """The resources of a state, without their inputs and outputs."""
    fields = ("urn", "type", "id", "parent", "created", "modified", "dependencies")
    listed = [
        {key: resource[key] for key in fields if key in resource}
        for _, resource in resources(state)
    ]
    pending = [
        {"type": operation.get("type"), "urn": operation.get("resource", {}).get("urn")}
        for operation in state.get("deployment", {}).get("pending_operations") or ()
    ]
    return {"resources": listed, "pending_operations": pending}


def _add_lab(archive: DiagnosisArchive, spec: Cluster, paths: LabPaths) -> None:
    for name, file in logs(spec, paths):
        try:
            archive.add(f"lab/{name}", _end(_last_bytes(file)))
        except OSError as error:
            archive.lacks(f"{file}: {error.strerror}")
    for name, command in {
        "memory": ["free", "--mebi"],
        "disk": ["df", "--human-readable"],
        "load": ["uptime"],
        "system": ["uname", "-a"],
    }.items():
        archive.add(f"lab/host-{name}.txt", printed_by(command) or "no answer\n")
    places = {spec.label_of(name): spec.hypervisor_of(name) for name in spec.machines}
    for label, where in places.items():
        if isinstance(where, Libvirt):
            name = resource_names.of_place("domains", label)
            archive.add(f"lab/{name}.txt", _domains(where.uri))


def _domains(uri: str) -> str:
    """What libvirt says of all its machines."""
    with suppress(Problem):
        done = ask(uri, "list", "--all", timeout=60)
        if done is not None and done.returncode == 0:
            return done.stdout
    return "no answer\n"


def _last_bytes(file: Path) -> str:
    with file.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - LARGEST))
        return stream.read(LARGEST).decode(errors="replace")


# -- data of machines and the API ----------------------------------------------------------------


async def _ask_all(archive: DiagnosisArchive, spec: Cluster, access: Access, say: Say) -> None:
    for name in sorted(spec.machines.keys() - access.machines.keys()):
        archive.lacks(f"machine {name}: the stack has no keys for it yet")
    async with Machines(access) as machines:
        await asyncio.gather(
            _ask_api(archive, access, say),
            _ask_clocks(
                archive, machines, [name for name in machines.names if name in spec.machines], say
            ),
            *(
                _ask_machine(archive, spec, machines, name, say)
                for name in machines.names
                if name in spec.machines
            ),
        )


async def _ask_clocks(
    archive: DiagnosisArchive, machines: Machines, names: Sequence[str], say: Say
) -> None:
    """Report the clocks that differ from this computer's; each machine's ``clock.txt`` has more."""
    answers = await clocks.ask(machines, names)
    differing = clocks.differences(answers)
    for line in differing:
        say(line)
    rest = [str(answer) for answer in answers.values() if isinstance(answer, Unreachable)]
    agree = [] if differing else ["the clocks that were asked go as this computer's does"]
    archive.add("clocks.txt", "".join(f"{line}\n" for line in (*differing, *agree, *rest)))


async def _ask_machine(
    archive: DiagnosisArchive, spec: Cluster, machines: Machines, node: str, say: Say
) -> None:
    asked = list(questions(spec, _plan(archive, spec, node)))
    begun, had = time.monotonic(), 0
    try:
        async with asyncio.timeout(MACHINE_SECONDS):
            for question in asked:
                if await _ask(archive, machines, node, question):
                    had += 1
    except Unreachable as error:
        archive.lacks(f"machine {node}, after {had} of {len(asked)} answers: {error}")
    except TimeoutError:
        archive.lacks(
            f"machine {node}, after {had} of {len(asked)} answers: {MACHINE_SECONDS} s were over"
        )
    say(f"{node}: {had} of {len(asked)} answers in {time.monotonic() - begun:.0f} s")


def _plan(archive: DiagnosisArchive, spec: Cluster, node: str) -> NodePlan:
    """A machine's plan; an empty plan where none can be made, as without the lab's artifacts."""
    try:
        return node_plan(spec, node)
    except SpecError as error:
        archive.lacks(f"machine {node}, its units and files: {error}")
        return NodePlan(node=node, steps=())


async def _ask(
    archive: DiagnosisArchive, machines: Machines, node: str, question: Question
) -> bool:
    """Run a question on a machine; return whether the answer is complete. Raises Unreachable."""
    arguments = question.script, str(SECONDS), str(LARGEST)
    done = await machines.run(node, ASK, *arguments, timeout=SECONDS + 10)
    text = _end(done.stdout)
    archive.add(f"machines/{node}/{question.name}.txt", f"# {question.script}\n{text}{done.stderr}")
    if done.status or text.rstrip().endswith(TIMED_OUT):
        archive.lacks(f"machine {node}, {question.name}: no whole answer in {SECONDS} s")
        return False
    return True


async def _ask_api(archive: DiagnosisArchive, access: Access, say: Say) -> None:
    if access.kubeconfig is None:
        archive.lacks("the API: there is no kubeconfig for it yet")
        return
    try:
        async with Api(access.kubeconfig) as api:
            had = await asyncio.gather(
                _ask_readiness(archive, api),
                *(_ask_objects(archive, api, name, path, say) for name, path in API.items()),
            )
    except ApiError as error:
        archive.lacks(f"the API: {error}")
        return
    say(f"API: {sum(had)} of {len(had)} answers")


async def _ask_readiness(archive: DiagnosisArchive, api: Api) -> bool:
    """Add the readiness of the API server at the kubeconfig's address.

    Each control plane has a question about its own API server.
    """
    try:
        archive.add("cluster/readyz.txt", await api.text("/readyz", verbose=""))
    except ApiError as error:
        archive.lacks(f"the API, readyz: {error}")
        return False
    return True


async def _ask_objects(archive: DiagnosisArchive, api: Api, name: str, path: str, say: Say) -> bool:
    """Add the objects at a path; of pods also say which ones wait for an image in vain."""
    try:
        objects = await api.json(path)
        text = json.dumps(without_values(objects), indent=1)
    except ApiError as error:
        archive.lacks(f"the API, {name}: {error}")
        return False
    if len(text) > LARGEST_OBJECTS:
        archive.lacks(f"the API, {name}: the end of {len(text) / 2**20:.0f} MiB")
        text = text[: text.rindex("\n", 0, LARGEST_OBJECTS)]
    archive.add(f"cluster/{name}.json", text)
    if name == "pods" and (waiting := pods.without_images(objects["items"])):
        archive.add("cluster/images.txt", "".join(f"{sentence}\n" for sentence in waiting))
        for sentence in waiting:
            say(sentence)
    return True
