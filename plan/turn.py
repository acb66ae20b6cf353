"""Turns: where several machines run the same service, one machine at a time restarts it.

Before a step restarts a running service, it takes a lock in etcd and waits until the same service
is healthy on the other machines. The restart of a service that does not run affects nobody and
takes no lock, so the first members of a new etcd all start at once. A service that runs and has not
answered for minutes counts as broken: where the lock cannot be had, it is restarted without it.
"""

from collections.abc import Callable

from plan import layout
from plan.model import Turn
from spec.cluster import Cluster

LOCK_PROGRAM = "etcdctl"
"""The program that takes the lock; every machine that takes turns has this program."""


def turns(
    spec: Cluster,
    node: str,
    unit: str,
    among: tuple[str, ...],
    health: Callable[[str], str],
    trust: tuple[str, ...],
) -> tuple[Turn, ...]:
    """The turn of a machine's service; empty unless this machine and another one run the service.

    ``among`` names all machines that run the service. ``health`` returns the URL of the service's
    health endpoint on a machine. ``trust`` is the file of the authority and, where the endpoint
    demands them, the files of a client certificate and its key.
    """
    others = tuple(health(machine) for machine in among if machine != node)
    if node not in among or not others:
        return ()
    return (
        Turn(
            unit=unit,
            own=health(node),
            others=others,
            trust=trust,
            lock=layout.etcd_urls(spec),
            lock_trust=client(spec, node),
        ),
    )


def client(spec: Cluster, node: str) -> tuple[str, str, str]:
    """The files for the machine's requests to etcd: authority, certificate, key."""
    if node in spec.etcd_members:
        authority, name = layout.MEMBER_AUTHORITY, "etcd-healthcheck-client"
    else:
        authority, name = layout.ETCD_AUTHORITY, "apiserver-etcd-client"
    return authority, layout.certificate(name), layout.private_key(name)
