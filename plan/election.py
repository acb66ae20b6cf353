"""Leader election: one of several controller managers or schedulers works, the others wait."""

from spec.cluster import Cluster

# Kubernetes' own values are 15, 10 and 2 s. A leader that cannot renew its lease ends, starts anew
# and reads all objects, so an API server that is busy for ten seconds would become even busier.
# Each renewal is also a write for every member of etcd, half of what an idle cluster writes.
# Another candidate replaces a dead leader after LEASE. The pods of a dead machine are replaced
# later anyway, since its node may be silent for 50 s.
LEASE, RENEWAL, RETRY = "45s", "30s", "5s"


def needed(spec: Cluster) -> bool:
    """Whether there are several candidates.

    After a reboot, a lone candidate would have to wait until its own old lease expires.
    """
    return len(spec.control_planes) > 1
