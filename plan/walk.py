"""Keys that turn over on all control planes while the cluster serves.

These are the key that encrypts Secrets in etcd and the key pair that signs service accounts'
tokens. An API server that lacks the key of a single Secret can list no Secret at all, and starts no
more; one that does not trust a pair refuses its tokens. So all control planes go through stages, in
their steps with keys: each API server knows the new key, then uses it, then what needs the other
keys is replaced, then these are forgotten. Each publishes in etcd which keys its running API server
has, and none goes on before all others allow it.
"""

from certs.signing import REPLACED
from plan import layout, turn
from plan.artifact import artifact
from plan.model import Walk
from spec.cluster import Cluster

ENCRYPTION, SERVICE_ACCOUNTS = "/hardway/encryption/", "/hardway/service-accounts/"
"""Begin the keys in etcd under which control planes publish what their API servers have."""

CALLER = "controller-manager"
"""Its certificate may get and update Secrets, by the roles that Kubernetes itself makes."""


def walk(spec: Cluster, node: str, unit: str) -> Walk | None:
    """What turns keys over on a machine; None where no API server (``unit``) runs."""
    if node not in spec.control_planes:
        return None
    return Walk(
        encryption=layout.ENCRYPTION,
        signing=layout.SERVICE_ACCOUNT_PRIVATE,
        checking=layout.SERVICE_ACCOUNT_PUBLIC,
        replaced=int(REPLACED.total_seconds()),
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
