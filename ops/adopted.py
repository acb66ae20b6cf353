"""Makes a state of Pulumi for what is there already: the keys of a file, and machines.

The recorder declares the stack with these keys. Of what it declares, the state gets those resources
that nothing can make a second time; the next update makes all others, which are steps, certificates
and comparisons.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hypervisors.adapters import completed, is_made, kept_up
from hypervisors.upkeep import IdentifierError, Upkeep
from lab.problem import Problem
from ops.kept_secrets import KeptSecrets
from preview import kinds
from preview.recording import Recording
from preview.registration import (
    SECRET,
    SIGNATURE,
    Registration,
    enveloped,
    is_secret,
    opened,
)
from spec import resource_names
from spec.cluster import Cluster
from spec.kept import FOUNDERS

STACK, PROVIDERS = "pulumi:pulumi:Stack", "pulumi:providers:"
PROJECT_NAME = "hardway"
"""Of ``Pulumi.yaml``."""

KEPT = (kinds.STASH, kinds.AUTHORITIES, kinds.SPECIFICATION)
"""The types of the resources that hold what nothing can make again."""

Identity = tuple[str, str, str]


def held(secrets: KeptSecrets) -> tuple[Registration, ...]:
    """The resources that keep these secrets, as an earlier update would have declared them."""
    stashes = [
        Registration(
            kind=kinds.STASH,
            name=name,
            parent_kind=kinds.CLUSTER,
            inputs={"input": enveloped(dict(kept))},
        )
        for name, kept in secrets.stashes.items()
    ]
    authorities = Registration(
        kind=kinds.AUTHORITIES,
        name=resource_names.AUTHORITIES,
        parent_kind=kinds.CLUSTER,
        inputs={"kept": enveloped(secrets.authorities), "register": {}},
    )
    return (*stashes, authorities)


def identifiers(spec: Cluster, recording: Recording) -> dict[Identity, str]:
    """The engine's ID of each declared resource that its hypervisor has, by its identity.

    Raises a Problem where a hypervisor does not say what it has.
    """
    there: dict[Identity, str] = {}
    for declared in recording.registrations:
        if not is_made(declared.kind):
            continue
        inputs = opened(declared.inputs)
        try:
            identifier = _upkeep(spec, declared).identifier(declared.kind, inputs)
        except IdentifierError as error:
            raise Problem(str(error), "mend that and run the same command again") from error
        if identifier:
            there[declared.identity] = identifier
    return there


def _upkeep(spec: Cluster, declared: Registration) -> Upkeep:
    """The upkeep of the hypervisor that makes a resource."""
    if declared.parent_kind == kinds.MACHINE:
        machine = declared.parent
    else:
        machine = next(
            name
            for name in spec.machines
            if resource_names.of_place("machines", spec.network_label_of(name)) == declared.parent
        )
    ((upkeep, _),) = kept_up(spec, [machine])
    return upkeep


def resources(
    stack: str,
    recording: Recording,
    there: Mapping[Identity, str],
    founders: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """The resources of the state, each below its parent and its provider.

    ``there`` has the IDs of those that exist. ``founders`` are the members of etcd that may begin
    the cluster; all of them where it is None.
    """
    writer = _Writer(stack, recording.registrations, there)
    chosen = [
        declared
        for declared in recording.registrations
        if declared.kind in KEPT or declared.identity in there
    ]
    for declared in chosen:
        writer.write(declared)
    for resource in writer.written.values():
        if founders is not None and resource["type"] == kinds.SPECIFICATION:
            for part in ("inputs", "outputs"):
                resource[part][FOUNDERS] = " ".join(founders)
    return list(writer.written.values())


class _Writer:
    """Writes resources as they stand in a state, in an order that the engine accepts."""

    def __init__(
        self, stack: str, every: Iterable[Registration], there: Mapping[Identity, str]
    ) -> None:
        self._stack = stack
        self._there = there
        self._declared = {(declared.kind, declared.name): declared for declared in every}
        # A seed's ID has a second part, which stands in no other resource.
        self._real = {
            f"{kind}/{name}": identifier.partition(";")[0]
            for (_, kind, name), identifier in there.items()
        }
        self.written: dict[str, dict[str, Any]] = {}
        self._root = self._put(
            _urn(stack, STACK, f"{PROJECT_NAME}-{stack}"), STACK, custom=False, inputs={}
        )

    def write(self, declared: Registration) -> str:
        """Write a resource, after its parents and its provider; return its URN."""
        parent = self._parent(declared)
        urn = _urn(self._stack, self._types(declared), declared.name)
        if urn in self.written:
            return urn
        if not declared.custom:
            return self._put(urn, declared.kind, custom=False, parent=parent, inputs={})
        inputs = completed(declared.kind, self._with_real(_stated(declared.inputs)))
        more: dict[str, Any] = {}
        if declared.kind.startswith(PROVIDERS):
            more["id"] = str(uuid.uuid4())
        else:
            more["provider"] = self._provider(declared)
            more["id"] = self._there.get(declared.identity) or str(uuid.uuid4())
        if declared.serialized:
            inputs["__provider"] = declared.serialized
        outputs = dict(inputs)
        if declared.kind == kinds.STASH:
            outputs["output"] = inputs["input"]
        return self._put(
            urn, declared.kind, custom=True, parent=parent, inputs=inputs, outputs=outputs, **more
        )

    def _parent(self, declared: Registration) -> str:
        above = self._declared.get((declared.parent_kind, declared.parent))
        return self.write(above) if above else self._root

    def _types(self, declared: Registration) -> str:
        """The type of a resource behind those of its parents."""
        above = self._declared.get((declared.parent_kind, declared.parent))
        return f"{self._types(above)}${declared.kind}" if above else declared.kind

    def _provider(self, declared: Registration) -> str:
        """The reference to the provider of a resource: a URN and an ID."""
        package = declared.kind.partition(":")[0]
        kind = f"{PROVIDERS}{package}"
        if explicit := self._declared.get((kind, declared.provider)):
            urn = self.write(explicit)
        else:
            urn = _urn(self._stack, kind, "default")
            if urn not in self.written:
                self._put(urn, kind, custom=True, inputs={}, outputs={}, id=str(uuid.uuid4()))
        return f"{urn}::{self.written[urn]['id']}"

    def _put(self, urn: str, kind: str, **values: Any) -> str:
        self.written[urn] = {"urn": urn, "type": kind, **values}
        return urn

    def _with_real(self, value: Any) -> Any:
        """A value with the real IDs in place of the recorder's."""
        if isinstance(value, Mapping):
            return {key: self._with_real(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._with_real(item) for item in value]
        return self._real.get(value, value) if isinstance(value, str) else value


def _urn(stack: str, types: str, name: str) -> str:
    return f"urn:pulumi:{stack}::{PROJECT_NAME}::{types}::{name}"


def _stated(value: Any) -> Any:
    """A value from the wire as it stands in a state: secrets have their plain text as JSON."""
    if is_secret(value):
        return {SIGNATURE: SECRET, "plaintext": json.dumps(opened(value))}
    if isinstance(value, Mapping):
        return {key: _stated(item) for key, item in value.items()}
    return [_stated(item) for item in value] if isinstance(value, list) else value
