"""Which of several controller managers or schedulers works: the others wait for its lease."""

from spec.cluster import Cluster

# Kubernetes' own values are 15, 10 and 2. Whoever cannot renew ends, starts anew and reads all that
# there is, so an API server that is busy for ten seconds would be busier still; and each try is
# a write for every member of etcd, half of what an idle cluster writes. Who died is missed after
# LEASE, and the pods of a machine that died later: its node may be silent for 50 s.
LEASE, RENEWAL, RETRY = "45s", "30s", "5s"


def needed(spec: Cluster) -> bool:
    """Whether there is anybody to elect from.

    The only one would wait after a reboot for its own dead lease.
    """
    return len(spec.control_planes) > 1
