"""Keys that are made once and then kept in Pulumi's state. No other module in certs/ uses Pulumi.

The provider decides on authorities and bundles when the engine *checks* their inputs, which the
engine also does in a preview. The provider receives the kept keys and returns inputs with the same
keys, byte for byte, or with new ones where needed. So the engine itself shows which certificate
changes and why, a second preview shows no change, and a due certificate is an ordinary change. The
new keys of a preview are discarded with it.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import pulumi
from pulumi import dynamic
from pulumi.runtime import rpc

from certs.backup import new_backup_keys
from certs.bundle import (
    Authorities,
    Bundle,
    BundleError,
    State,
    signers_from_state,
    signers_state,
)
from certs.digest import digest
from certs.passwords import new_password_seed
from certs.register import register, row_from_state, row_state
from certs.renewal import (
    ENCRYPTION,
    SERVICE_ACCOUNT,
    Numbers,
    decided,
    decided_authorities,
    renewed,
    renewed_authorities,
)
from certs.ssh import SshKeyPair, derived_key_pair, new_key_pair, new_seed
from certs.table import Authority, Row
from spec import resource_names
from spec.description import FIRST

Properties = Mapping[str, Any]
T = TypeVar("T")


def _stashed(
    name: str, made: Mapping[str, str], opts: pulumi.ResourceOptions
) -> pulumi.Output[Mapping[str, str]]:
    """Keys that a ``Stash`` keeps; secret.

    Every run of the program makes new candidates. The engine uses them when it creates the resource
    and ignores them afterwards (``ignore_changes``), so a second preview shows no change.
    """
    unchanged = pulumi.ResourceOptions(ignore_changes=["input"])
    stash = pulumi.Stash(
        name,
        input=pulumi.Output.secret(made),
        opts=pulumi.ResourceOptions.merge(opts, unchanged),
    )
    kept: pulumi.Output[Mapping[str, str]] = stash.output
    return kept


@dataclass(frozen=True, kw_only=True)
class TrackedSshKey:
    """An SSH key for logging in; the private key is secret."""

    private: pulumi.Output[str]
    public: pulumi.Output[str]


class TrackedSshKeys:
    """The SSH keys for logging in and the seed of all machines' host keys.

    A ``Stash`` keeps each key. That of key 1 has the seed as well, so it stays where machines let
    key 1 in no more.
    """

    keys: tuple[TrackedSshKey, ...]
    """Those that machines let in: first the one that logs in."""

    def __init__(
        self, name: str, opts: pulumi.ResourceOptions, numbers: Sequence[int] = FIRST
    ) -> None:
        user: SshKeyPair = new_key_pair()
        made = {"private": user.private, "public": user.public, "seed": new_seed()}
        self._kept = _stashed(name, made, opts)
        self.keys = tuple(
            _login_key(self._kept if number == 1 else _next_key(name, number, opts))
            for number in numbers
        )

    @property
    def private(self) -> pulumi.Output[str]:
        """The key that logs in."""
        return self.keys[0].private

    @property
    def lines(self) -> pulumi.Output[str]:
        """All public keys, a line each, sorted.

        The order does not depend on which of them logs in, so that no list of keys changes where
        only that does.
        """
        every = pulumi.Output.all(*(key.public for key in self.keys))
        return every.apply(lambda lines: "\n".join(sorted(lines)))

    def host(self, machine: str) -> "HostKey":
        """The host key of a machine. A new machine does not change the host keys of others."""
        pair = self._kept.apply(lambda kept: _derived(kept, machine))
        return HostKey(
            private=pair.apply(lambda keys: keys["private"]),
            public=pulumi.Output.unsecret(pair.apply(lambda keys: keys["public"])),
        )


def _next_key(
    name: str, number: int, opts: pulumi.ResourceOptions
) -> pulumi.Output[Mapping[str, str]]:
    pair: SshKeyPair = new_key_pair()
    made = {"private": pair.private, "public": pair.public}
    return _stashed(resource_names.numbered(name, number), made, opts)


def _login_key(kept: pulumi.Output[Mapping[str, str]]) -> TrackedSshKey:
    return TrackedSshKey(
        private=kept.apply(lambda pair: str(pair["private"])),
        public=pulumi.Output.unsecret(kept.apply(lambda pair: str(pair["public"]))),
    )


class TrackedBackupKeys:
    """The keys of backups, kept by a ``Stash``.

    A stack has them whether it makes backups or not, so that backups stay readable where they are
    switched off, and the key that copies them can be let in before they are switched on.
    """

    kept: pulumi.Output[str]
    """Secret: ``BackupKeys.state()`` as JSON."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions) -> None:
        made = _stashed(name, new_backup_keys().state(), opts)
        self.kept = made.apply(lambda kept: json.dumps(dict(kept), sort_keys=True))


class TrackedPasswordSeed:
    """The seed of passwords of the program's own making, kept by a ``Stash``."""

    kept: pulumi.Output[str]
    """Secret: the seed, in hexadecimal digits."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions) -> None:
        made = _stashed(name, {"seed": new_password_seed()}, opts)
        self.kept = made.apply(lambda kept: str(kept["seed"]))


@dataclass(frozen=True, kw_only=True)
class HostKey:
    """A machine's SSH host key pair; the private key is secret."""

    private: pulumi.Output[str]
    public: pulumi.Output[str]


def _derived(kept: Mapping[str, str], machine: str) -> dict[str, str]:
    if "seed" not in kept:
        raise pulumi.RunError(
            "this stack was made when each machine kept a host key of its own: remove it with "
            "./hardway down and make it again with ./hardway up"
        )
    pair = derived_key_pair(kept["seed"], machine)
    return {"private": pair.private, "public": pair.public}


_TEXTS: dict[str, Any] = {}
"""The texts, and other values, of which the engine gets only digests, by their digests.

The engine has the inputs of each resource checked before it makes or updates the resource, by the
same process: each update and each preview starts one server of dynamic resources.
"""

DIGEST = re.compile(r"[0-9a-f]{64}")
"""Matches a digest, and none of the texts: these are JSON, a kubeconfig or a packed plan."""


def recalled(checked: str) -> Any:
    """The text, or other value, of a checked input.

    Raises LookupError where this process has not checked it.
    """
    try:
        return _TEXTS[checked]
    except KeyError:
        raise LookupError(
            "the engine has not had this input checked by the process that should use it, so its "
            "text is unknown; run ./hardway up again"
        ) from None


def _noted(text: Any) -> str:
    """The digest by which a text, or another value, is recalled.

    Neither a digest nor the unknown is such a text.
    """
    checked = _digest(text)
    if checked != text:
        _TEXTS[checked] = text
    return checked


def _digest(value: Any) -> str:
    """The digest of a value. What is unknown stays so, and a digest stays as it is."""
    if isinstance(value, str) and (value == rpc.UNKNOWN or DIGEST.fullmatch(value)):
        return value
    return digest(value)


class Checked(dynamic.ResourceProvider):
    """A provider whose outputs are the checked inputs; it makes nothing else.

    The engine writes the checked inputs and the outputs into the state, so a long text would be
    there twice.
    """

    serialize_as_secret_always = False
    digested: frozenset[str] = frozenset()
    """The inputs that the outputs have only as digests, since nobody reads them there."""
    digested_inputs: frozenset[str] = frozenset()
    """The inputs that the checked inputs have only as digests, since the program sends them in
    every update. A preview shows only that they change, which is all that it shows of a secret."""

    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        return dynamic.CheckResult(self.checked(news), [])

    def checked(self, inputs: Properties) -> dict[str, Any]:
        """The inputs of the program as the engine keeps them."""
        return {
            name: _noted(value) if name in self.digested_inputs else value
            for name, value in inputs.items()
        }

    def whole(self, checked: Properties) -> dict[str, Any]:
        """The inputs of the program, from those that the engine keeps. Raises LookupError."""
        return {
            name: recalled(value) if name in self.digested_inputs else value
            for name, value in checked.items()
        }

    def diff(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        # A refresh compares the inputs in the state, which nobody has checked: they are digests, or
        # texts where an earlier program has written them.
        brief = self.digested | self.digested_inputs
        new = {name: _digest(value) if name in brief else value for name, value in news.items()}
        old, new = (
            {name: value for name, value in values.items() if name != "__provider"}
            for values in (self.inputs(olds), new)
        )
        return dynamic.DiffResult(changes=old != new)

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        return dynamic.CreateResult(id_=str(uuid.uuid4()), outs=self.outputs(props))

    def update(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.UpdateResult:
        return dynamic.UpdateResult(outs=self.outputs(news))

    def outputs(self, checked: Properties) -> dict[str, Any]:
        """The outputs that belong to checked inputs."""
        return {
            name: _digest(value) if name in self.digested else value
            for name, value in self.whole(checked).items()
        }

    def inputs(self, outputs: Properties) -> dict[str, Any]:
        """The checked inputs that belong to outputs."""
        return {
            name: _digest(value) if name in self.digested_inputs - self.digested else value
            for name, value in outputs.items()
        }


class _Kept(Checked):
    def now(self) -> datetime:
        return datetime.now(UTC)

    def decide(self, olds: Properties, news: Properties) -> dict[str, Any]:
        """Those of the new inputs that the provider replaces, by name. Raises BundleError."""
        raise NotImplementedError

    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        try:
            return dynamic.CheckResult(self.checked({**news, **self.decide(olds, news)}), [])
        except BundleError as error:
            return dynamic.CheckResult(news, [dynamic.CheckFailure("kept", str(error))])


class AuthoritiesProvider(_Kept):
    """Keeps the cluster's authorities, service account key pairs and encryption keys."""

    def decide(self, olds: Properties, news: Properties) -> dict[str, Any]:
        held = _read(olds, Authorities.from_state)
        now = self.now()
        encryption, service_accounts = (
            int(news.get(name, 1)) for name in (ENCRYPTION, SERVICE_ACCOUNT)
        )
        authorities = {
            Authority(name): tuple(int(number) for number in declared)
            for name, declared in news.get("authorities", {}).items()
        }
        numbers = (encryption, service_accounts, authorities)
        decisions = decided_authorities(held, now, *numbers)
        return {
            "kept": _write(renewed_authorities(held, now, *numbers).state()),
            "register": register(olds.get("register") or {}, decisions),
        }


class BundleProvider(_Kept):
    """Keeps the certificates and keys of one machine, or those for people."""

    digested = frozenset({"signers"})
    # The register says why a certificate changes, so nobody has to read its row in a preview.
    digested_inputs = frozenset({"rows", "signers"})

    def decide(self, olds: Properties, news: Properties) -> dict[str, Any]:
        # New or changing authorities are unknown in a preview, so any certificate may change too.
        if news["signers"] == rpc.UNKNOWN:
            pending = dict.fromkeys(news["rows"], "to be signed once the authorities are known")
            return {"kept": rpc.UNKNOWN, "register": olds.get("register") or pending}
        held = _read(olds, Bundle.from_state) or Bundle()
        rows = [row_from_state(name, state) for name, state in news["rows"].items()]
        signers = signers_from_state(json.loads(news["signers"]), {row.issuer for row in rows})
        now = self.now()
        decisions = decided(rows, held, signers, now)
        return {
            "kept": _write(renewed(held, decisions, signers, now).state()),
            "register": register(olds.get("register") or {}, decisions),
        }


def _write(keys: State) -> str:
    # The engine returns mappings in any order, but the text of unchanged keys must not change.
    return json.dumps(keys, sort_keys=True)


def _read(olds: Properties, parse: Callable[[Any], T]) -> T | None:
    kept = olds.get("kept")
    return parse(json.loads(kept)) if kept and kept != rpc.UNKNOWN else None


class TrackedAuthorities(dynamic.Resource, module="hardway", name="Authorities"):
    """The cluster's authorities, service account key pairs and encryption keys."""

    kept: pulumi.Output[str]
    """Secret: ``Authorities.state()`` as JSON."""
    register: pulumi.Output[dict[str, str]]
    """The last action for each authority and key and its reason, by the name."""

    def __init__(
        self,
        name: str,
        opts: pulumi.ResourceOptions,
        *,
        encryption: int = 1,
        service_accounts: int = 1,
        authorities: Numbers | None = None,
    ) -> None:
        """``encryption`` and ``service_accounts`` are the numbers of these keys in the spec."""
        # The first key is no input, as in states from before there could be another one.
        numbers = {ENCRYPTION: encryption, SERVICE_ACCOUNT: service_accounts}
        declared: dict[str, Any] = {key: n for key, n in numbers.items() if n != 1}
        if turned := {a.value: [*n] for a, n in (authorities or {}).items() if n != FIRST}:
            declared["authorities"] = turned
        # The engine treats a checked input as secret if the program's input of that name is secret.
        kept = pulumi.Output.secret("")
        super().__init__(
            AuthoritiesProvider(), name, {"kept": kept, "register": {}, **declared}, opts
        )

    def signers(self, authorities: Iterable[Authority]) -> pulumi.Output[str]:
        """Secret: the certificates and keys of these authorities as JSON."""
        wanted = sorted(set(authorities))
        return self.kept.apply(
            lambda kept: _write(signers_state(signers_from_state(json.loads(kept), wanted)))
        )


class TrackedBundle(dynamic.Resource, module="hardway", name="Certificates"):
    """The certificates and private keys of some rows of the table."""

    kept: pulumi.Output[str]
    """Secret: ``Bundle.state()`` as JSON."""
    register: pulumi.Output[dict[str, str]]
    """The last action for each certificate and its reason, by the row's name."""

    def __init__(
        self,
        name: str,
        rows: Iterable[Row],
        authorities: TrackedAuthorities,
        opts: pulumi.ResourceOptions,
    ) -> None:
        rows = tuple(rows)
        super().__init__(
            BundleProvider(),
            name,
            {
                "rows": {row.name: row_state(row) for row in rows},
                "signers": authorities.signers(row.issuer for row in rows),
                "kept": pulumi.Output.secret(""),
                "register": {},
            },
            opts,
        )
