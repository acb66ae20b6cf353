"""The files with the key pairs that sign and check service accounts' tokens."""

from datetime import timedelta

from certs.bundle import ServiceAccountPairs

REPLACED = timedelta(hours=25)
"""The time after which no pod uses a token any more that was signed before.

A kubelet replaces a token after 80 % of its life, or after 24 hours (Kubernetes 1.37.1,
pkg/kubelet/token/token_manager.go); it writes the new one into the pod within two minutes, and
clients read it again within another one (client-go 0.37.1, transport/token_source.go).
"""

TRUSTED = REPLACED + timedelta(hours=1)
"""The time for which a former pair stays trusted, counted from the beginning of the update that
brings another one: this long before its end the API servers sign with that one."""


def public_keys(pairs: ServiceAccountPairs) -> str:
    """The public halves of all trusted pairs, in the order of their names (PEM)."""
    return "".join(pairs.keys[name].public for name in sorted(pairs.trusted))


def private_key(pairs: ServiceAccountPairs) -> str:
    """The private half of the current pair (PEM)."""
    return pairs.keys[pairs.current].private


def whole_pairs(pairs: ServiceAccountPairs) -> str:
    """All pairs in the order of their names, below lines with the turn and the trusted pairs."""
    lines = (
        f"- name: {name}\n{pair.public}{pair.private}" for name, pair in sorted(pairs.keys.items())
    )
    return f"# turn {pairs.turn}\n# trusted {' '.join(pairs.trusted)}\n{''.join(lines)}"
