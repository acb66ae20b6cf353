"""Which of several controller managers or schedulers works: the others wait for its lease."""

from spec.cluster import Cluster

# The one that worked is believed dead after LEASE. RENEWAL stays at Kubernetes' own value, since
# an emulated API server may be busy for seconds.
LEASE, RENEWAL, RETRY = "12s", "10s", "2s"


def needed(spec: Cluster) -> bool:
    """Whether there is anybody to elect from.

    The only one would wait after a reboot for its own dead lease (PARTS.md, pitfall 2).
    """
    return len(spec.control_planes) > 1
