"""How a command gets access to a running cluster: its spec, its keys and its network."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from certs.bundle import Authorities
from certs.ssh import derived_key_pair
from lab import libvirt, toolchain
from lab.cache import Cache
from lab.namespace import exists, inside, namespace_path
from lab.paths import LabPaths, lab_paths
from lab.problem import Problem
from lab.stack import Stack, is_in_lab, offer_path, stack_in_lab
from ops.display import option_of, progress
from ops.stacks import read_cluster
from plan.material import admin_kubeconfig
from preview import kinds
from preview.registration import SIGNATURE
from preview.urn import name_of, of_machine
from probe.access import Access, MachineAccess, login_values
from spec import resource_names
from spec.cluster import ArtifactSource, Cluster, SpecError
from spec.kept import described
from spec.offer import Offer, read_offer, with_offer

INSIDE = "HARDWAY_INSIDE"
"""Environment variable with the namespace in which this process was restarted.

It prevents a second restart.
"""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A cluster with everything that is needed to connect to it."""

    spec: Cluster
    """The spec that was applied last; the stack's file may have changed since. The hypervisors and
    the artifact source come from the file and from the lab's offer, as the state does not keep
    them. Where nothing was applied yet, or this checkout refuses the applied spec, all of it comes
    from the file."""
    access: Access
    stack: Stack
    state: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The exported state from ``state_of``, with secrets in plain text."""
    unapplied: str | None = None
    """A sentence without full stop that says how the stack's file and the applied spec differ, or
    why they cannot be compared; None where they are the same or nothing was applied."""

    @property
    def kubeconfig(self) -> str:
        """The admin's kubeconfig. Raises a Problem where the cluster was never ready."""
        if self.access.kubeconfig is None:
            raise Problem(
                f"the cluster of the stack '{self.stack.name}' was never ready, so it has no "
                "kubeconfig yet",
                f"bring it up with ./hardway up --stack {self.stack.name}",
            )
        return self.access.kubeconfig


def reach(stack: str) -> Reached:
    """Open a stack's cluster in a process that can reach the cluster's machines.

    With a private libvirt the machines answer only in the lab's network namespace. If this process
    is outside, it executes the same command again inside, and this call does not return. Raises a
    Problem where the stack is not up or its lab does not run, and where the stack's file has a
    mistake and there is no applied spec to use instead.
    """
    paths = lab_paths()
    written = _Written.of(stack)
    if written.in_lab(paths):
        _come_inside(stack, paths)
    return _opened(written, paths)


def opened(stack: str) -> Reached:
    """Like ``reach``, for a command that contacts no machine: does not enter the namespace."""
    return _opened(_Written.of(stack), lab_paths())


# -- the spec ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Written:
    """The stack's file, which may have mistakes while somebody edits it and the cluster runs."""

    stack: str
    spec: Cluster | None
    """None where the file has a mistake."""
    fault: Problem | None
    """The mistake in the file, where there is no spec."""

    @staticmethod
    def of(stack: str) -> "_Written":
        try:
            return _Written(stack=stack, spec=read_cluster(stack), fault=None)
        except Problem as fault:
            return _Written(stack=stack, spec=None, fault=fault)

    def in_lab(self, paths: LabPaths) -> bool:
        """Whether the lab makes the machines.

        Without a spec the lab's offer decides.
        """
        if self.spec is None:
            return is_in_lab(paths, self.stack)
        return bool(self.spec.in_lab)

    def demanded(self) -> Cluster:
        """The spec. Raises the Problem of the file where there is none."""
        if self.spec is None:
            assert self.fault is not None
            raise self.fault
        return self.spec

    def against(self, applied: Cluster, offer: Offer | None) -> str | None:
        """A sentence where the file differs from the applied spec or has a mistake, else None.

        What the file leaves open comes from the lab's offer.
        """
        file = f"Pulumi.{self.stack}.yaml"
        if self.spec is None:
            assert self.fault is not None
            return f"{file} cannot be compared with what was applied ({self.fault.what})"
        if _without_place(with_offer(self.spec, offer)) == _without_place(applied):
            return None
        shows = f"./hardway preview --live{option_of(self.stack)}"
        return f"{file} has changes that were not applied: {shows} shows them"


def applied(state: Mapping[str, Any]) -> Cluster | None:
    """The spec that was applied last, without its hypervisors and artifact source.

    It is read from an exported state, where ``components.specification`` keeps it. None where
    nothing was applied. Raises SpecError where another version of this program applied a spec that
    this version refuses.
    """
    for _, resource in resources(state):
        if resource["type"] == kinds.SPECIFICATION:
            return described(resource["outputs"])
    return None


def _without_place(spec: Cluster) -> Cluster:
    """The part of a spec that the state keeps: all but its hypervisors and artifact source."""
    machines = {
        name: machine.model_copy(update={"hypervisor": None})
        for name, machine in spec.machines.items()
    }
    return spec.model_copy(
        update={"hypervisor": None, "artifacts": ArtifactSource(), "machines": machines}
    )


def _with_place(spec: Cluster, written: Cluster | None) -> Cluster:
    """The spec from the state, with hypervisor and artifact source from the stack's file."""
    if written is None:
        return spec
    rest = {"hypervisor": written.hypervisor, "artifacts": written.artifacts}
    return spec.model_copy(update=rest)


# -- the network ---------------------------------------------------------------------------------


def _come_inside(stack: str, paths: LabPaths) -> None:
    """Ensure that this process is in the lab's network namespace, if there is one.

    Executes the command again inside the namespace where needed. Raises a Problem where the lab
    does not run, or where this process cannot enter the namespace.
    """
    connection = libvirt.find(paths)
    # Machines survive the death of a private libvirt and still answer in its namespace.
    namespace = (
        connection.namespace if connection else namespace_path(paths) if exists(paths) else None
    )
    if connection is None and namespace is None:
        raise Problem(
            f"the lab '{paths.name}' does not run, so the machines of the stack '{stack}' cannot "
            "be reached",
            f"start the lab and the cluster with ./hardway up --stack {stack}",
        )
    if namespace is None or inside(namespace):
        return
    if os.environ.get(INSIDE) == str(namespace):
        raise Problem(
            f"the network namespace {namespace} cannot be entered",
            "look at ./hardway status, then start the lab again with ./hardway up",
        )
    if os.geteuid() != 0:
        raise Problem(
            "only root enters the network namespace of the lab", "run the same command with sudo"
        )
    os.environ[INSIDE] = str(namespace)
    sys.stdout.flush()
    sys.stderr.flush()
    command = ["nsenter", f"--net={namespace}", sys.executable, "-m", "ops", *sys.argv[1:]]
    os.execvp(command[0], command)  # noqa: S606  # a list of words, no shell


# -- the keys ------------------------------------------------------------------------------------


def _opened(written: _Written, paths: LabPaths) -> Reached:
    name = written.stack
    if "PULUMI_BACKEND_URL" not in os.environ and not paths.backend.is_dir():
        raise written.fault or _not_up(name)
    stack = stack_in_lab(name, paths, toolchain.prepare(Cache(), paths, progress()))
    try:
        state = state_of(stack)
    except NotUp:
        raise written.fault or _not_up(name) from None
    offer = lab_offer(name, paths)
    try:
        applied_spec = applied(state)
        unapplied = written.against(applied_spec, offer) if applied_spec else None
    except SpecError as error:
        applied_spec = None
        unapplied = (
            f"what was applied is not what this checkout takes ({' '.join(str(error).split())})"
        )
    spec = _with_place(applied_spec, written.spec) if applied_spec else written.demanded()
    spec = with_offer(spec, offer)
    outputs = outputs_of(state)
    # Outputs exist only after the first successful update; the keys exist from its beginning.
    access = Access.from_outputs(outputs) if "nodes" in outputs else kept_access(spec, state)
    if not access.machines:
        raise _not_up(name)
    return Reached(spec=spec, access=access, stack=stack, state=state, unapplied=unapplied)


def lab_offer(stack: str, paths: LabPaths) -> Offer | None:
    """The lab's offer to a stack, if there is one. Raises a Problem where it cannot be read."""
    file = offer_path(paths, stack)
    try:
        return read_offer(file) if file.is_file() else None
    except SpecError as error:
        what, _, remedy = str(error).rpartition("; ")
        raise Problem(what, remedy) from error


class NotUp(Problem):
    """The stack has no state."""


def _not_up(name: str) -> Problem:
    return NotUp(f"the stack '{name}' is not up", f"bring it up with ./hardway up --stack {name}")


def state_of(stack: Stack) -> dict[str, Any]:
    """The output of ``pulumi stack export`` with secrets in plain text.

    Raises a Problem with Pulumi's error output where the export fails.
    """
    done = stack.pulumi("stack", "export", "--show-secrets", capture=True)
    if done.returncode == 0:
        state: dict[str, Any] = json.loads(done.stdout)
        return state
    message = " ".join(done.stderr.split())
    if "no stack" in message:
        raise _not_up(stack.name)
    raise Problem(f"pulumi stack export failed ({message})", "mend that and run it again")


def outputs_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of a stack's last successful update, from an exported state."""
    for _, resource in resources(state):
        if resource["type"] == "pulumi:pulumi:Stack":
            outputs: dict[str, Any] = revealed(resource.get("outputs") or {})
            return outputs
    return {}


def kept_access(spec: Cluster, state: Mapping[str, Any]) -> Access:
    """The access to the machines of a stack that has no outputs yet.

    ``state`` is an exported state with secrets in plain text. The result has every machine of the
    spec, whether the machine runs or not; it has no machine where the state has no keys yet.
    """
    return access_with(spec, stashes(state))


def access_with(spec: Cluster, kept_keys: Mapping[str, Mapping[str, str]]) -> Access:
    """The access to the machines of a spec with the keys that ``stashes`` returns.

    It has no machine where they lack the SSH keys.
    """
    kept = kept_keys.get(resource_names.SSH_KEY, {})
    number = spec.ssh_key_numbers[0]
    logs_in = kept_keys.get(resource_names.numbered(resource_names.SSH_KEY, number), {})
    if "seed" not in kept or "private" not in logs_in:
        return Access(machines={}, ssh_key="")
    machines = {}
    for name, machine in spec.machines.items():
        settings = spec.login_of(name)
        host_key = settings.host_key or derived_key_pair(kept["seed"], name).public
        values = {"address": machine.address, "host_key": host_key, **login_values(settings)}
        machines[name] = MachineAccess.read(values)
    return Access(machines=machines, ssh_key=logs_in["private"])


def kept_backup_keys(state: Mapping[str, Any]) -> str | None:
    """The keys of backups as JSON, from an exported state with secrets in plain text.

    None where the state has none, since an older version of this program wrote it.
    """
    keys = stashes(state).get(resource_names.BACKUP_KEYS)
    return json.dumps(keys) if keys else None


def kept_logins(spec: Cluster, state: Mapping[str, Any]) -> str | None:
    """The public SSH keys that machines let in, a line each, sorted.

    ``state`` is an exported state with secrets in plain text. None where it lacks one of them.
    """
    kept = stashes(state)
    names = (resource_names.numbered(resource_names.SSH_KEY, n) for n in spec.ssh_key_numbers)
    lines = [kept.get(name, {}).get("public") for name in names]
    return "\n".join(sorted(filter(None, lines))) if all(lines) else None


def stashes(state: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    """The keys that each ``Stash`` keeps, by its name.

    ``state`` is an exported state with secrets in plain text.
    """
    return {
        name: revealed(resource.get("outputs", {})).get("output") or {}
        for name, resource in resources(state)
        if resource["type"] == kinds.STASH
    }


def kept_kubeconfig(spec: Cluster, state: Mapping[str, Any]) -> str | None:
    """The admin's kubeconfig; also works before the cluster was ever ready.

    ``state`` is an exported state with secrets in plain text. None where it has no certificate
    authorities or no keys for people yet.
    """
    kept = kept_by_cluster(state)
    authorities, people = kept.get(resource_names.AUTHORITIES), kept.get(resource_names.PEOPLE_KEYS)
    return admin_kubeconfig(spec, authorities, people) if authorities and people else None


def kept_by_cluster(state: Mapping[str, Any]) -> dict[str, str]:
    """Resource name to the keys and certificates that belong to no single machine, as JSON.

    ``state`` is an exported state with secrets in plain text.
    """
    return {name: kept for of_machine, name, kept in _kept(state) if not of_machine}


def kept_authorities(state: Mapping[str, Any]) -> Authorities | None:
    """The cluster's authorities and common keys.

    ``state`` is an exported state with secrets in plain text. None where it has none yet.
    """
    kept = kept_by_cluster(state).get(resource_names.AUTHORITIES)
    return Authorities.from_state(json.loads(kept)) if kept else None


def kept_by_machines(state: Mapping[str, Any]) -> dict[str, str]:
    """Machine name to the machine's keys and certificates, as JSON.

    A machine that has none yet is missing. ``state`` is an exported state with secrets in plain
    text.
    """
    return {
        resource_names.owner(name, resource_names.KEYS): kept
        for of_machine, name, kept in _kept(state)
        if of_machine
    }


def _kept(state: Mapping[str, Any]) -> Iterator[tuple[bool, str, str]]:
    """For each resource with keys: whether it belongs to a machine, its name, and its content.

    The name alone does not tell whether the resource belongs to a machine: people choose the names
    of machines, for example ``people``.
    """
    for name, resource in resources(state):
        if resource["type"] not in (kinds.AUTHORITIES, kinds.CERTIFICATES):
            continue
        if kept := revealed(resource.get("outputs", {})).get("kept"):
            yield of_machine(resource["urn"]), name, kept


def resources(state: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each resource of an exported state, as a pair of its name and the resource."""
    for resource in state.get("deployment", {}).get("resources") or ():
        yield name_of(resource["urn"]), resource


def revealed(value: Any) -> Any:
    """A value of an exported state with each secret replaced by its plain text.

    A secret without plain text becomes None.
    """
    if isinstance(value, Mapping):
        if SIGNATURE in value:
            return revealed(json.loads(value["plaintext"])) if "plaintext" in value else None
        return {key: revealed(item) for key, item in value.items()}
    return [revealed(item) for item in value] if isinstance(value, list) else value


def secrets_of(state: Mapping[str, Any]) -> frozenset[str]:
    """The secret strings of an exported state with secrets in plain text.

    A string that also appears outside a secret is left out. An address is such a string: it is part
    of a connection, which is secret as a whole, and also stands elsewhere in plain text.
    """
    texts: dict[bool, set[str]] = {True: set(), False: set()}
    for _, resource in resources(state):
        for part in ("inputs", "outputs"):
            for hidden, text in _texts(resource.get(part), hidden=False):
                texts[hidden].add(text)
    return frozenset(texts[True] - texts[False])


def _texts(value: Any, *, hidden: bool) -> Iterator[tuple[bool, str]]:
    """Each string in a value, as a pair of whether the string is secret and the string."""
    if isinstance(value, str):
        yield hidden, value
    elif isinstance(value, Mapping) and SIGNATURE in value:
        yield from _texts(json.loads(value.get("plaintext", "null")), hidden=True)
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item, hidden=hidden)
