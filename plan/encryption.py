"""The key that encrypts Secrets in etcd, which turns over while the cluster serves.

An API server that lacks the key of a single Secret can list no Secret at all, and starts no more.
So all control planes go through stages, in their steps with keys: each API server knows the new
key, then writes with it, then all Secrets are rewritten, then the other keys are forgotten. Each
publishes in etcd which keys its running API server has, and none goes on before all others allow
it.
"""

from plan import layout, turn
from plan.artifact import artifact
from plan.model import Encryption
from spec.cluster import Cluster

PUBLISHED = "/hardway/encryption/"
"""Begins the keys in etcd under which control planes publish what their API servers have."""

CALLER = "controller-manager"
"""Its certificate may get and update Secrets, by the roles that Kubernetes itself makes."""


def encryption(spec: Cluster, node: str, unit: str) -> Encryption | None:
    """What turns the key over on a machine; None where no API server (``unit``) runs."""
    if node not in spec.control_planes:
        return None
    return Encryption(
        path=layout.ENCRYPTION,
        unit=unit,
        name=node,
        api=layout.local_api_url(spec, node),
        api_trust=(
            layout.AUTHORITY,
            layout.certificate(CALLER),
            layout.private_key(CALLER),
        ),
        program=artifact(spec, turn.LOCK_PROGRAM).store_path,
        etcd=layout.etcd_urls(spec),
        etcd_trust=turn.client(spec, node),
        planes=spec.control_planes,
    )
