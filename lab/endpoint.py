"""Checks that this computer can resolve the host name of a cluster's API endpoint.

The last step of an update connects to that name, as everybody with the cluster's kubeconfig does.
Machines check it themselves (``plan/scripts/ready.sh``), since they may use other name servers.
"""

from collections.abc import Sequence

from lab.problem import Problem
from lab.process import output
from spec.cluster import Cluster
from spec.names import is_address


def demand_known(spec: Cluster, enter: Sequence[str] = ()) -> str:
    """The URL of the API, and the addresses of its host where that is a name.

    ``enter`` is the command prefix that runs a command in the lab's network namespace. Raises a
    Problem where the endpoint is a name that has no address there.
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
