"""What machines have of a cluster's keys, before a state is made for them (``ops/recover.py``)."""

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from certs.bundle import Authorities, Bundle
from hypervisors.adapters import holds_data, is_machine
from lab.paths import PROJECT
from lab.problem import Problem
from lab.stack import Stack
from ops import adopted
from ops.display import progress
from ops.kept_secrets import KeptSecrets
from ops.reach import access_with
from plan import identity, layout
from plan.material import material
from plan.model import (
    AuthorityCertificate,
    AuthorityKey,
    EncryptionConfiguration,
    ServiceAccountKey,
    SigningCertificate,
)
from probe import kept_files
from probe.backups import shown
from probe.kept_files import KeptFiles
from spec import resource_names
from spec.cluster import Cluster
from spec.refusal import listed

LONGEST = 1800
"""The time limit in seconds in which all machines are asked."""

OF_AUTHORITIES = (
    AuthorityCertificate,
    AuthorityKey,
    EncryptionConfiguration,
    SigningCertificate,
)
"""The sources of the files that are made of the cluster's authorities and keys alone."""


Expected = Mapping[str, Mapping[str, str]]
"""Machine to path to sha256, as ``expected`` returns it."""


def expected(spec: Cluster, authorities: Authorities) -> Expected:
    """Machine to path to sha256, of the files that follow from these authorities and keys.

    The public keys of service accounts are left out: of a former pair, machines forget them after a
    day.
    """
    content = material(spec.name, authorities, Bundle())
    return {
        node: {
            file.path: hashlib.sha256(content(file.source).encode()).hexdigest()
            for file in identity.step(spec, node).secret_files
            if isinstance(file.source, OF_AUTHORITIES)
            or file.source == ServiceAccountKey("private")
        }
        for node in spec.machines
    }


@dataclass(frozen=True, kw_only=True)
class MachineRow:
    """What was seen of a machine."""

    machine: str
    made: str
    """Whether it is there, for people."""
    says: str
    """What the machine itself answered, for people."""
    answers: bool = True
    has_etcd: bool = False
    """Whether the machine answered that it has data of etcd."""
    is_disk_alone: bool = False
    """Whether only its disk is there, and nobody could ask what it has."""


def judged(
    spec: Cluster,
    secrets: KeptSecrets,
    wanted: Expected,
    there: Mapping[adopted.Identity, str],
    observed: Mapping[str, KeptFiles],
    file: Path,
) -> list[MachineRow]:
    """A row for each machine of the spec.

    Raises a Problem where a machine is another cluster's, has newer keys than the file, or where
    machines are there and none of them answers.
    """
    rows = []
    for node in spec.machines:
        known = machine_is_there(node, there)
        made = "not checked" if not spec.is_made(node) else "there" if known else "not there"
        files = observed.get(node)
        if files is None:
            alone = disk_is_there(node, there)
            says = "its disk is there: the update starts it" if alone else "the update makes it"
            rows.append(MachineRow(machine=node, made=made, says=says, is_disk_alone=alone))
            continue
        if files.refused:
            raise Problem(
                f"{files.fault}, so {file} of {shown(secrets.made)} is not of its keys",
                "name a file that was written since SSH keys turned over",
            )
        differing = [
            path
            for path, digest in wanted[node].items()
            if path in files.digests and files.digests[path] != digest
        ]
        if differing:
            raise Problem(
                f"{node} has another {listed(differing, 'and')} than {file} of "
                f"{shown(secrets.made)}",
                "name a file that was written since these turned over",
            )
        rows.append(
            MachineRow(
                machine=node,
                made=made,
                says=files.fault or _says(wanted[node], files),
                answers=not files.fault,
                has_etcd=node in spec.etcd_members and layout.ETCD_ANSWERED in files.digests,
            )
        )
    if observed and all(files.fault for files in observed.values()):
        raise Problem(
            "no machine answers: " + "; ".join(str(files.fault) for files in observed.values()),
            "start them, or take what is left of them away, and run the same command again",
        )
    return rows


def founders_of(spec: Cluster, rows: Iterable[MachineRow]) -> list[str]:
    """The members of etcd that have data; none where all members are empty or not there.

    Where none is known to have data, they are those whose disks are there without their machines.

    Raises a Problem where a member may have data and does not answer, and no other one has them:
    an update would begin an empty etcd.
    """
    of_members = [row for row in rows if row.machine in spec.etcd_members]
    with_data = [row.machine for row in of_members if row.has_etcd]
    silent = [row.machine for row in of_members if not row.answers]
    if silent and not with_data:
        raise Problem(
            f"nobody knows whether etcd has data on {listed(silent, 'and')}: "
            + "; ".join(row.says for row in of_members if not row.answers),
            "start them, or take what is left of them away, and run the same command again",
        )
    return with_data or [row.machine for row in of_members if row.is_disk_alone]


def machine_is_there(node: str, there: Mapping[adopted.Identity, str]) -> bool:
    """Whether a hypervisor has the machine, with or without its disk."""
    return any(name == node and is_machine(kind) for _, kind, name in there)


def disk_is_there(node: str, there: Mapping[adopted.Identity, str]) -> bool:
    """Whether a hypervisor has the disk of a machine."""
    disk = resource_names.part(node, resource_names.DISK)
    return any(name == disk and holds_data(kind) for _, kind, name in there)


def _says(wanted: Mapping[str, str], files: KeptFiles) -> str:
    held = wanted.keys() & files.digests.keys()
    if not held:
        return "has no keys of a cluster"
    if lacking := sorted(wanted.keys() - held):
        return f"has the keys of the file, and no {listed(lacking, 'and')}"
    return "has the keys of the file"


def observed(
    ready: Stack,
    spec: Cluster,
    secrets: KeptSecrets,
    wanted: Expected,
    there: Mapping[adopted.Identity, str],
) -> dict[str, KeptFiles]:
    """What those machines have that exist, asked in the network that they are in."""
    access = access_with(spec, secrets.stashes)
    nodes = [
        node for node in spec.machines if not spec.is_made(node) or machine_is_there(node, there)
    ]
    paths = {
        node: [*files, layout.ETCD_ANSWERED] for node, files in wanted.items() if node in nodes
    }
    if not paths:
        return {}
    by_person = [node for node in paths if not spec.is_made(node)]
    with progress().task(f"ask {listed(nodes, 'and')}"):
        try:
            done = subprocess.run(
                [*ready.enter, sys.executable, "-m", "probe.kept_files"],
                cwd=PROJECT,
                input=kept_files.question(access, paths, by_person),
                capture_output=True,
                text=True,
                timeout=LONGEST,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Problem(
                f"{listed(nodes, 'and')} have not answered within {LONGEST // 60} minutes",
                "see which of them can be reached, and run the same command again",
            ) from error
    if done.returncode != 0:
        raise Problem(
            f"the machines cannot be asked ({done.stderr.strip().rpartition(chr(10))[2]})",
            "mend that and run the same command again",
        )
    return kept_files.answer(done.stdout)


def table(rows: Iterable[MachineRow]) -> Table:
    """What was seen of the machines, for people."""
    made = Table("machine", "hypervisor", "the machine itself")
    for row in rows:
        made.add_row(row.machine, row.made, escape(row.says))
    return made
