"""Keys and certificates as values, which convert to plain mappings for the state and back.

The ``repr`` of such a value shows certificates but never a private key.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from certs.table import Authority

State = dict[str, dict[str, str]]
"""The form for JSON: a name, mapped to its texts (mostly PEM) by the names of their fields."""

K = TypeVar("K")


class BundleError(ValueError):
    """A kept key or certificate cannot be used; the text is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its private key (PKCS 8), both in PEM."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """An authority's certificate and its private key (PKCS 8), both in PEM."""

    certificate: str
    key: str = field(repr=False)
    number: int = 1
    """Which one it is of those that the cluster has had for the same purpose."""


@dataclass(frozen=True, kw_only=True)
class ServiceAccountPair:
    """The key pair that signs (private, PKCS 8) and verifies service account tokens, in PEM."""

    public: str
    private: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class KeyRing(Generic[K]):
    """The keys for one purpose, all that the cluster ever had; one of them is in use."""

    keys: Mapping[str, K] = field(repr=False)
    """By their names, such as ``key2``."""
    current: str
    """The name of the key in use."""
    turn: int = 0
    """How often the machines were to change something; a key that comes back counts again."""

    @property
    def ordered(self) -> dict[str, K]:
        """The same as ``keys``: the current one first, then the others by their names."""
        names = [self.current, *sorted(self.keys.keys() - {self.current})]
        return {name: self.keys[name] for name in names}


@dataclass(frozen=True, kw_only=True)
class EncryptionKeys(KeyRing[str]):
    """The keys that encrypt Secrets in etcd (secretbox), each of 32 bytes in base64.

    An old backup of etcd can only be read with the key of its time, so no key is ever removed.
    """

    def state(self) -> dict[str, str]:
        """In the form for JSON."""
        keys = {FIRST_KEY if name == "key1" else name: key for name, key in self.keys.items()}
        if self.turn == 0 and self.current == "key1":
            return keys
        return keys | {"current": self.current, "turn": str(self.turn)}

    @staticmethod
    def from_state(state: Mapping[str, Mapping[str, str]]) -> "EncryptionKeys":
        """The reverse of ``state``, which is a part of a whole state. Raises BundleError."""
        kept = dict(state.get("encryption", {}))
        turn = kept.pop("turn", "0")
        current = kept.pop("current", "key1")
        keys = {"key1" if name == FIRST_KEY else name: key for name, key in kept.items()}
        if current not in keys or not turn.isdecimal():
            _text(state, "encryption", FIRST_KEY if current == "key1" else current)
            raise _damaged("turn", "encryption")
        return EncryptionKeys(keys=keys, current=current, turn=int(turn))


FIRST_KEY = "secretbox"
"""The name of key1 in a state, where it stood alone before there could be others."""


@dataclass(frozen=True, kw_only=True)
class ServiceAccountPairs(KeyRing[ServiceAccountPair]):
    """The key pairs of service accounts' tokens: the current one signs new tokens."""

    since: datetime | None = None
    """When the current pair took another one's place; None where only its tokens are trusted."""
    former: tuple[str, ...] = ()
    """The names of the other pairs whose tokens are still trusted, sorted; some where there is a
    ``since``."""

    @property
    def trusted(self) -> tuple[str, ...]:
        """The names of all pairs whose tokens are trusted: first the current one."""
        return (self.current, *self.former)

    def state(self) -> dict[str, str]:
        """In the form for JSON."""
        halves = {
            f"{_prefix(name)}{half}": text
            for name, pair in self.keys.items()
            for half, text in (("public", pair.public), ("private", pair.private))
        }
        if self.turn == 0 and self.current == FIRST_PAIR:
            return halves
        since = {"since": self.since.isoformat()} if self.since else {}
        former = {"former": " ".join(self.former)} if self.former else {}
        return halves | {"current": self.current, "turn": str(self.turn)} | since | former

    @staticmethod
    def from_state(state: Mapping[str, Mapping[str, str]]) -> "ServiceAccountPairs":
        """The reverse of ``state``, which is a part of a whole state. Raises BundleError."""
        kept = state.get("service-account", {})
        current, turn = kept.get("current", FIRST_PAIR), kept.get("turn", "0")
        former = tuple(kept.get("former", "").split())
        names = {
            name.removesuffix("public").removesuffix(".") or FIRST_PAIR
            for name in kept
            if name == "public" or name.endswith(".public")
        }
        pairs = {
            name: ServiceAccountPair(
                public=_text(state, "service-account", f"{_prefix(name)}public"),
                private=_text(state, "service-account", f"{_prefix(name)}private"),
            )
            for name in sorted(names | {current, *former})
        }
        try:
            since = datetime.fromisoformat(kept["since"]) if "since" in kept else None
        except ValueError as error:
            raise _damaged("since", "service-account") from error
        if not turn.isdecimal():
            raise _damaged("turn", "service-account")
        return ServiceAccountPairs(
            keys=pairs, current=current, turn=int(turn), since=since, former=former
        )


FIRST_PAIR = "pair1"
"""The pair whose halves stand in a state without a name, from before there could be others."""


def _prefix(name: str) -> str:
    """What stands in a state before the names of the two halves of a pair."""
    return "" if name == FIRST_PAIR else f"{name}."


@dataclass(frozen=True)
class Bundle:
    """The certificates and keys of one machine, or of all people together, by the row's name."""

    pairs: Mapping[str, Pair] = field(default_factory=dict)

    def state(self) -> State:
        return {
            name: {"certificate": pair.certificate, "key": pair.key}
            for name, pair in self.pairs.items()
        }

    @staticmethod
    def from_state(state: Mapping[str, Mapping[str, str]]) -> "Bundle":
        """The reverse of ``state``. Raises BundleError."""
        return Bundle(
            {
                name: Pair(
                    certificate=_text(state, name, "certificate"), key=_text(state, name, "key")
                )
                for name in state
            }
        )


@dataclass(frozen=True, kw_only=True)
class Authorities:
    """The authorities and keys that belong to the cluster and to no single machine."""

    signers: Mapping[Authority, Signer]
    """Those that sign new certificates."""
    also_trusted: Mapping[Authority, tuple[Signer, ...]] = field(default_factory=dict)
    """Those whose certificates are trusted as well, for an authority that turns over."""
    service_accounts: ServiceAccountPairs
    encryption: EncryptionKeys

    def every(self, authority: Authority) -> tuple[Signer, ...]:
        """All that are trusted: first the one that signs."""
        return (self.signers[authority], *self.also_trusted.get(authority, ()))

    def numbers(self, authority: Authority) -> tuple[int, ...]:
        """The numbers of all that are trusted: first of the one that signs."""
        return tuple(signer.number for signer in self.every(authority))

    def trusted(self, authority: Authority) -> str:
        """The certificates of all that are trusted, in PEM, in the order of their numbers.

        The order does not depend on which of them signs, so that no file changes where only that
        does.
        """
        ordered = sorted(self.every(authority), key=lambda signer: signer.number)
        return "".join(signer.certificate for signer in ordered)

    def state(self) -> State:
        state = signers_state(self.signers) | {
            "service-account": self.service_accounts.state(),
            "encryption": self.encryption.state(),
        }
        for authority, signers in self.also_trusted.items():
            for signer in signers:
                state[f"{authority}{NUMBERED}{signer.number}"] = _signer_state(signer)
        return state

    @staticmethod
    def from_state(state: Mapping[str, Mapping[str, str]]) -> "Authorities":
        """The reverse of ``state``. Raises BundleError."""
        return Authorities(
            signers=signers_from_state(state, Authority),
            also_trusted=_also_trusted(state),
            service_accounts=ServiceAccountPairs.from_state(state),
            encryption=EncryptionKeys.from_state(state),
        )


NUMBERED = " number "
"""Stands in a state between an authority and the number of another one that is only trusted."""


def _also_trusted(state: Mapping[str, Mapping[str, str]]) -> dict[Authority, tuple[Signer, ...]]:
    """The authorities in a state that are trusted and do not sign. Raises BundleError."""
    also_trusted: dict[Authority, tuple[Signer, ...]] = {}
    for name in sorted(state):
        authority, mark, _ = name.partition(NUMBERED)
        if mark:
            kept = also_trusted.get(Authority(authority), ())
            also_trusted[Authority(authority)] = (*kept, _signer(state, name))
    return also_trusted


def signers_state(signers: Mapping[Authority, Signer]) -> State:
    """Authorities in the form for JSON."""
    return {authority.value: _signer_state(signer) for authority, signer in signers.items()}


def _signer_state(signer: Signer) -> dict[str, str]:
    # The first has no number, as in states from before there could be another one.
    number = {} if signer.number == 1 else {"number": str(signer.number)}
    return {"certificate": signer.certificate, "key": signer.key} | number


def signers_from_state(
    state: Mapping[str, Mapping[str, str]], authorities: Iterable[Authority]
) -> dict[Authority, Signer]:
    """Some of the authorities in a state. Raises BundleError where one of them is absent."""
    return {authority: _signer(state, authority) for authority in authorities}


def _signer(state: Mapping[str, Mapping[str, str]], name: str) -> Signer:
    number = state.get(name, {}).get("number", "1")
    if not number.isdecimal():
        raise _damaged("number", name)
    return Signer(
        certificate=_text(state, name, "certificate"),
        key=_text(state, name, "key"),
        number=int(number),
    )


def _text(state: Mapping[str, Mapping[str, str]], name: str, part: str) -> str:
    kept = state.get(name, {}).get(part)
    if not isinstance(kept, str):
        raise _damaged(part, name)
    return kept


def _damaged(part: str, name: str) -> BundleError:
    return BundleError(
        f"the state has no {part} of {name}, so it is damaged or another version's; "
        "restore it from a backup (pulumi stack import)"
    )
