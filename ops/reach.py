"""How a verb comes to a cluster that is up: what it should be, what opens it, where it is."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certs.ssh import derived_key_pair
from lab import libvirt, toolchain
from lab.cache import Cache
from lab.namespace import exists, namespace_path
from lab.paths import LabPaths, lab_paths
from lab.problem import Problem
from lab.stack import Stack, offer_path, stack_in_lab
from ops.display import progress
from ops.stacks import read_cluster
from plan.material import admin_kubeconfig
from preview.registration import SIGNATURE
from probe.access import Access, MachineAccess
from spec.cluster import Cluster, SpecError
from spec.offer import read_offer, with_offer

INSIDE = "HARDWAY_INSIDE"
"""Names the namespace for which this process was started again: once is enough."""

OWN_NAMESPACE = Path("/proc/self/ns/net")

SSH_KEYS, AUTHORITIES, PEOPLE, KEYS = "ssh-key", "authorities", "people-keys", "-keys"
"""The resources that keep the keys; KEYS follows a machine's name (components names them so)."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A cluster that can be spoken to."""

    spec: Cluster
    """What the stack's file says, and what the lab offers where it leaves that open."""
    access: Access
    stack: Stack


def reach(stack: str) -> Reached:
    """A stack's cluster, from a process that is where the cluster's machines answer.

    With a private libvirt that is the lab's network namespace: if this process is not in it, the
    same command is started again there and this call does not return. Raises a Problem where the
    stack is not up or its lab does not run.
    """
    spec, paths = read_cluster(stack), lab_paths()
    if spec.hypervisor is None:
        _come_inside(stack, paths)
    return _opened(stack, spec, paths)


def opened(stack: str) -> Reached:
    """``reach`` for a verb that asks no machine: the process stays where it is."""
    return _opened(stack, read_cluster(stack), lab_paths())


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


def _opened(name: str, own: Cluster, paths: LabPaths) -> Reached:
    offer = offer_path(paths, name)
    try:
        spec = with_offer(own, read_offer(offer) if offer.is_file() else None)
    except SpecError as error:
        what, _, remedy = str(error).rpartition("; ")
        raise Problem(what, remedy) from error
    if "PULUMI_BACKEND_URL" not in os.environ and not paths.backend.is_dir():
        raise _not_up(name)
    stack = stack_in_lab(name, paths, toolchain.prepare(Cache(), paths, progress()))
    outputs = _told(stack, "output", "--json", "--show-secrets")
    if "nodes" in outputs:
        access = Access.from_outputs(outputs)
    else:
        # Outputs come with the first update that succeeds; the keys are there from its beginning.
        access = kept_access(spec, state_of(stack))
    if not access.machines:
        raise _not_up(name)
    return Reached(spec=spec, access=access, stack=stack)


def _not_up(name: str) -> Problem:
    return Problem(f"the stack '{name}' is not up", f"bring it up with ./hardway up --stack {name}")


def _told(stack: Stack, *words: str) -> dict[str, Any]:
    """What ``pulumi stack`` says in JSON. Raises a Problem with its last words where it fails."""
    done = stack.pulumi("stack", *words, capture=True)
    if done.returncode == 0:
        told: dict[str, Any] = json.loads(done.stdout)
        return told
    said = " ".join(done.stderr.split())
    if "no stack" in said:
        raise _not_up(stack.name)
    raise Problem(f"pulumi stack {words[0]} failed ({said})", "mend that and run it again")


def state_of(stack: Stack) -> dict[str, Any]:
    """The state of a stack as ``pulumi stack export`` gives it, with its secrets shown."""
    return _told(stack, "export", "--show-secrets")


def kept_access(spec: Cluster, state: Mapping[str, Any]) -> Access:
    """From an exported state with secrets shown, for a stack that has no outputs yet.

    It has every machine of the spec, once there are keys; whether they run is not known.
    """
    kept: Mapping[str, str] = next(
        (
            revealed(resource.get("outputs", {})).get("output", {})
            for name, resource in resources(state)
            if name == SSH_KEYS and resource["type"] == "pulumi:index:Stash"
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
    kept = {
        name: revealed(resource.get("outputs", {})).get("kept")
        for name, resource in resources(state)
        if name in (AUTHORITIES, PEOPLE)
    }
    if not (kept.get(AUTHORITIES) and kept.get(PEOPLE)):
        return None
    return admin_kubeconfig(spec, kept[AUTHORITIES], kept[PEOPLE])


def resources(state: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each resource of an exported state, with its name."""
    for resource in state.get("deployment", {}).get("resources") or ():
        yield resource["urn"].rpartition("::")[2], resource


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
