"""Whose turn it is: of what several machines run together, one at a time is restarted.

A step that finds its service running and would restart it takes a lock in etcd first, and waits
until the same service of the other machines is well. A service that does not run disturbs nobody
and takes no lock: so all first members start at once. A service that runs and has not answered for
minutes is broken, and is restarted without a turn where none can be had.
"""

from collections.abc import Callable

from plan import layout
from plan.model import Turn
from spec.cluster import Cluster

LOCK_PROGRAM = "etcdctl"
"""What takes the lock; every machine that takes turns has it."""


def turns(
    spec: Cluster,
    node: str,
    unit: str,
    among: tuple[str, ...],
    health: Callable[[str], str],
    trust: tuple[str, ...],
) -> tuple[Turn, ...]:
    """The turn of a machine's service among the machines that run it; none where it runs alone.

    ``health`` gives the URL at which a machine's service says that it is well; ``trust`` is the
    authority's file and, where the question needs them, those of a client's certificate and key.
    """
    others = tuple(health(one) for one in among if one != node)
    if node not in among or not others:
        return ()
    return (
        Turn(
            unit=unit,
            own=health(node),
            others=others,
            trust=trust,
            lock=layout.etcd_urls(spec),
            lock_trust=_client(spec, node),
        ),
    )


def _client(spec: Cluster, node: str) -> tuple[str, str, str]:
    """With which the machine asks etcd: authority, certificate, key."""
    if node in spec.etcd_members:
        authority, name = layout.MEMBER_AUTHORITY, "etcd-healthcheck-client"
    else:
        authority, name = layout.ETCD_AUTHORITY, "apiserver-etcd-client"
    return authority, layout.certificate(name), layout.private_key(name)
