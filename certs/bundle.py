"""Keys and certificates as values, which convert to plain mappings for the state and back.

The ``repr`` of such a value shows certificates but never a private key.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from certs.table import Authority

State = dict[str, dict[str, str]]
"""The form for JSON: a name, mapped to its texts (mostly PEM) by the names of their fields."""


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


@dataclass(frozen=True, kw_only=True)
class ServiceAccountPair:
    """The key pair that signs (private, PKCS 8) and verifies service account tokens, in PEM."""

    public: str
    private: str = field(repr=False)


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
    service_account: ServiceAccountPair
    encryption_key: str = field(repr=False)
    """The key that encrypts Secrets in etcd (secretbox): 32 bytes in base64."""

    def state(self) -> State:
        pair = self.service_account
        return signers_state(self.signers) | {
            "service-account": {"public": pair.public, "private": pair.private},
            "encryption": {"secretbox": self.encryption_key},
        }

    @staticmethod
    def from_state(state: Mapping[str, Mapping[str, str]]) -> "Authorities":
        """The reverse of ``state``. Raises BundleError."""
        return Authorities(
            signers=signers_from_state(state, Authority),
            service_account=ServiceAccountPair(
                public=_text(state, "service-account", "public"),
                private=_text(state, "service-account", "private"),
            ),
            encryption_key=_text(state, "encryption", "secretbox"),
        )


def signers_state(signers: Mapping[Authority, Signer]) -> State:
    """Authorities in the form for JSON."""
    return {
        authority.value: {"certificate": signer.certificate, "key": signer.key}
        for authority, signer in signers.items()
    }


def signers_from_state(
    state: Mapping[str, Mapping[str, str]], authorities: Iterable[Authority]
) -> dict[Authority, Signer]:
    """Some of the authorities in a state. Raises BundleError where one of them is absent."""
    return {
        authority: Signer(
            certificate=_text(state, authority, "certificate"), key=_text(state, authority, "key")
        )
        for authority in authorities
    }


def _text(state: Mapping[str, Mapping[str, str]], name: str, part: str) -> str:
    kept = state.get(name, {}).get(part)
    if not isinstance(kept, str):
        raise BundleError(
            f"the state has no {part} of {name}, so it is damaged or another version's; "
            "restore it from a backup (pulumi stack import)"
        )
    return kept
