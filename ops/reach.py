"""How a verb comes to a cluster that is up: what it should be, what opens it, where it is."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from certs.ssh import derived_key_pair
from lab import libvirt, toolchain
from lab.cache import Cache
from lab.namespace import exists, namespace_path
from lab.paths import LabPaths, lab_paths
from lab.problem import Problem
from lab.stack import Stack, offer_path, stack_in_lab
from ops.display import option_of, progress
from ops.stacks import read_cluster
from plan.material import admin_kubeconfig
from preview import kinds
from preview.registration import SIGNATURE
from preview.urn import name_of, of_machine
from probe.access import Access, MachineAccess
from spec import resource_names
from spec.cluster import ArtifactSource, Cluster, SpecError, parse
from spec.offer import read_offer, with_offer

INSIDE = "HARDWAY_INSIDE"
"""Names the namespace for which this process was started again: once is enough."""

OWN_NAMESPACE = Path("/proc/self/ns/net")


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A cluster that can be spoken to."""

    spec: Cluster
    """What was applied last, which the stack's file may have left behind since. Where the machines
    run and which bytes they take is not part of that: the file and the lab's offer say it. Before
    anything was applied, all of it is what the file says."""
    access: Access
    stack: Stack
    state: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """As ``state_of`` gives it, with secrets shown."""
    unapplied: str | None = None
    """A sentence without its full stop where the stack's file does not say what was applied."""


def reach(stack: str) -> Reached:
    """A stack's cluster, from a process that is where the cluster's machines answer.

    With a private libvirt that is the lab's network namespace: if this process is not in it, the
    same command is started again there and this call does not return. Raises a Problem where the
    stack is not up or its lab does not run, and where nothing was applied and its file has a
    mistake.
    """
    paths = lab_paths()
    written = _Written.of(stack)
    if written.in_lab(paths):
        _come_inside(stack, paths)
    return _opened(written, paths)


def opened(stack: str) -> Reached:
    """``reach`` for a verb that asks no machine: the process stays where it is."""
    return _opened(_Written.of(stack), lab_paths())


# -- what it should be ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Written:
    """The stack's file, which may be half edited while the cluster runs."""

    stack: str
    spec: Cluster | None
    fault: Problem | None
    """Why there is no spec."""

    @staticmethod
    def of(stack: str) -> "_Written":
        try:
            return _Written(stack=stack, spec=read_cluster(stack), fault=None)
        except Problem as fault:
            return _Written(stack=stack, spec=None, fault=fault)

    def in_lab(self, paths: LabPaths) -> bool:
        """Whether the lab makes the machines: it has made the stack an offer if it ever did."""
        if self.spec is None:
            return offer_path(paths, self.stack).is_file()
        return self.spec.hypervisor is None

    def demanded(self) -> Cluster:
        """The spec. Raises a Problem where there is none."""
        if self.spec is None:
            assert self.fault is not None
            raise self.fault
        return self.spec

    def against(self, applied: Cluster) -> str | None:
        """A sentence where the file does not say what was applied."""
        file = f"Pulumi.{self.stack}.yaml"
        if self.spec is None:
            assert self.fault is not None
            return f"{file} cannot be compared with what was applied ({self.fault.what})"
        if _without_place(self.spec) == _without_place(applied):
            return None
        shows = f"./hardway preview --live{option_of(self.stack)}"
        return f"{file} has changes that were not applied: {shows} shows them"


def applied(state: Mapping[str, Any]) -> Cluster | None:
    """What was applied last, without where machines run and which bytes they take.

    From an exported state (``components.specification`` keeps it); None where nothing was applied.
    Raises SpecError where it was by a program that allowed what this one refuses.
    """
    for _, resource in resources(state):
        if resource["type"] == kinds.SPECIFICATION:
            return parse(yaml.safe_load(resource["outputs"]["spec"]), name="")
    return None


def _without_place(spec: Cluster) -> Cluster:
    """A spec with only what the state keeps of it."""
    machines = {
        name: one.model_copy(update={"hypervisor": None}) for name, one in spec.machines.items()
    }
    return spec.model_copy(
        update={"hypervisor": None, "artifacts": ArtifactSource(), "machines": machines}
    )


def _with_place(spec: Cluster, written: Cluster | None) -> Cluster:
    """A spec of the state, with the rest of it as the stack's file says it."""
    if written is None:
        return spec
    rest = {"hypervisor": written.hypervisor, "artifacts": written.artifacts}
    return spec.model_copy(update=rest)


# -- where ---------------------------------------------------------------------------------------


def _come_inside(stack: str, paths: LabPaths) -> None:
    """Be in the lab's network namespace, if it has one; may start the process again."""
    found = libvirt.find(paths)
    # Machines outlive a private libvirt that died, and the namespace is how they are reached.
    place = found.namespace if found else namespace_path(paths) if exists(paths) else None
    if found is None and place is None:
        raise Problem(
            f"the lab '{paths.name}' does not run, so the machines of the stack '{stack}' cannot "
            "be reached",
            f"start the lab and the cluster with ./hardway up --stack {stack}",
        )
    if place is None or _inside(place):
        return
    if os.environ.get(INSIDE) == str(place):
        raise Problem(
            f"the network namespace {place} cannot be entered",
            "look at ./hardway status, then start the lab again with ./hardway up",
        )
    if os.geteuid() != 0:
        raise Problem(
            "only root enters the network namespace of the lab", "run the same command with sudo"
        )
    os.environ[INSIDE] = str(place)
    sys.stdout.flush()
    sys.stderr.flush()
    words = ["nsenter", f"--net={place}", sys.executable, "-m", "ops", *sys.argv[1:]]
    os.execvp(words[0], words)  # noqa: S606  # a list of words, no shell


def _inside(namespace: Path) -> bool:
    try:
        return namespace.samefile(OWN_NAMESPACE)
    except OSError:
        return False


# -- what opens it -------------------------------------------------------------------------------


def _opened(written: _Written, paths: LabPaths) -> Reached:
    name = written.stack
    if "PULUMI_BACKEND_URL" not in os.environ and not paths.backend.is_dir():
        raise written.fault or _not_up(name)
    stack = stack_in_lab(name, paths, toolchain.prepare(Cache(), paths, progress()))
    try:
        state = state_of(stack)
    except _NotUp:
        raise written.fault or _not_up(name) from None
    try:
        found = applied(state)
        unapplied = written.against(found) if found else None
    except SpecError as error:
        found = None
        unapplied = (
            f"what was applied is not what this checkout takes ({' '.join(str(error).split())})"
        )
    spec = _with_place(found, written.spec) if found else written.demanded()
    offer = offer_path(paths, name)
    try:
        spec = with_offer(spec, read_offer(offer) if offer.is_file() else None)
    except SpecError as error:
        what, _, remedy = str(error).rpartition("; ")
        raise Problem(what, remedy) from error
    outputs = outputs_of(state)
    # Outputs come with the first update that succeeds; the keys are there from its beginning.
    access = Access.from_outputs(outputs) if "nodes" in outputs else kept_access(spec, state)
    if not access.machines:
        raise _not_up(name)
    return Reached(spec=spec, access=access, stack=stack, state=state, unapplied=unapplied)


class _NotUp(Problem):
    """The stack has no state."""


def _not_up(name: str) -> Problem:
    return _NotUp(f"the stack '{name}' is not up", f"bring it up with ./hardway up --stack {name}")


def state_of(stack: Stack) -> dict[str, Any]:
    """The state of a stack as ``pulumi stack export`` gives it, with its secrets shown.

    Raises a Problem with Pulumi's last words where it fails.
    """
    done = stack.pulumi("stack", "export", "--show-secrets", capture=True)
    if done.returncode == 0:
        state: dict[str, Any] = json.loads(done.stdout)
        return state
    said = " ".join(done.stderr.split())
    if "no stack" in said:
        raise _not_up(stack.name)
    raise Problem(f"pulumi stack export failed ({said})", "mend that and run it again")


def outputs_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of a stack's last update that succeeded, from an exported state."""
    for _, resource in resources(state):
        if resource["type"] == "pulumi:pulumi:Stack":
            outputs: dict[str, Any] = revealed(resource.get("outputs") or {})
            return outputs
    return {}


def kept_access(spec: Cluster, state: Mapping[str, Any]) -> Access:
    """From an exported state with secrets shown, for a stack that has no outputs yet.

    It has every machine of the spec, once there are keys; whether they run is not known.
    """
    kept: Mapping[str, str] = next(
        (
            revealed(resource.get("outputs", {})).get("output", {})
            for name, resource in resources(state)
            if name == resource_names.SSH_KEY and resource["type"] == "pulumi:index:Stash"
        ),
        {},
    )
    if "seed" not in kept:
        return Access(machines={}, ssh_key="")
    machines = {
        name: MachineAccess(
            address=str(machine.address),
            host_key=derived_key_pair(kept["seed"], name).public,
        )
        for name, machine in spec.machines.items()
    }
    return Access(machines=machines, ssh_key=kept["private"])


def kept_kubeconfig(spec: Cluster, state: Mapping[str, Any]) -> str | None:
    """The admin's, from an exported state with secrets shown, before the cluster was ever ready."""
    kept = kept_by_cluster(state)
    authorities, people = kept.get(resource_names.AUTHORITIES), kept.get(resource_names.PEOPLE_KEYS)
    return admin_kubeconfig(spec, authorities, people) if authorities and people else None


def kept_by_cluster(state: Mapping[str, Any]) -> dict[str, str]:
    """The keys and certificates of no machine, as JSON, by the resources that keep them.

    From an exported state with secrets shown.
    """
    return {name: kept for of_machine, name, kept in _kept(state) if not of_machine}


def kept_by_machines(state: Mapping[str, Any]) -> dict[str, str]:
    """The keys and certificates of each machine, as JSON; none of a machine that has none yet.

    From an exported state with secrets shown.
    """
    return {
        resource_names.owner(name, resource_names.KEYS): kept
        for of_machine, name, kept in _kept(state)
        if of_machine
    }


def _kept(state: Mapping[str, Any]) -> Iterator[tuple[bool, str, str]]:
    """By each resource that keeps keys: whether a machine holds it, its name, what it keeps.

    A name alone would not do: people choose those of machines, ``people`` for example.
    """
    for name, resource in resources(state):
        if resource["type"] not in (kinds.AUTHORITIES, kinds.CERTIFICATES):
            continue
        if kept := revealed(resource.get("outputs", {})).get("kept"):
            yield of_machine(resource["urn"]), name, kept


def resources(state: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each resource of an exported state, with its name."""
    for resource in state.get("deployment", {}).get("resources") or ():
        yield name_of(resource["urn"]), resource


def revealed(value: Any) -> Any:
    """A value of an exported state without the marks of what is secret."""
    if isinstance(value, Mapping):
        if SIGNATURE in value:
            return revealed(json.loads(value["plaintext"])) if "plaintext" in value else None
        return {key: revealed(each) for key, each in value.items()}
    return [revealed(each) for each in value] if isinstance(value, list) else value


def secrets_of(state: Mapping[str, Any]) -> frozenset[str]:
    """The secret texts of an exported state with secrets shown.

    What the same state has in plain elsewhere is none: an address is also part of a connection,
    which is hidden as a whole.
    """
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for _, resource in resources(state):
        for part in ("inputs", "outputs"):
            for hidden, text in _texts(resource.get(part), hidden=False):
                found[hidden].add(text)
    return frozenset(found[True] - found[False])


def _texts(value: Any, *, hidden: bool) -> Iterator[tuple[bool, str]]:
    """Each text in a value, after whether it is secret."""
    if isinstance(value, str):
        yield hidden, value
    elif isinstance(value, Mapping) and SIGNATURE in value:
        yield from _texts(json.loads(value.get("plaintext", "null")), hidden=True)
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each, hidden=hidden)
