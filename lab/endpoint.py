"""Whether this computer knows the name at which a cluster's API shall answer.

The last wait of an update asks there, as everybody with the cluster's kubeconfig does. Machines
look for themselves (``plan/scripts/ready.sh``): they may have other name servers.
"""

from collections.abc import Sequence

from lab.problem import Problem
from lab.process import output
from spec.cluster import Cluster
from spec.names import is_address


def demand_known(spec: Cluster, enter: Sequence[str] = ()) -> str:
    """Where the API shall answer, in words.

    ``enter`` is what goes before a command that shall run in the lab's network namespace. Raises a
    Problem where the endpoint is a name for which no address is found there.
    """
    host = spec.api_host
    if is_address(host):
        return spec.api_url
    lines = (output([*enter, "getent", "ahosts", host], timeout=60) or "").splitlines()
    if not lines:
        where = f"{' '.join(enter)} " if enter else ""
        raise Problem(
            f"this computer finds no address of {host}, the host at which endpoint has the API "
            f"answer ({where}getent ahosts {host})",
            "make a DNS record or a line in /etc/hosts, which machines need as well, or write the "
            "balancer's address as endpoint.host",
        )
    return f"{spec.api_url}, {', '.join(dict.fromkeys(line.split()[0] for line in lines))}"
