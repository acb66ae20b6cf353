"""The time limits of all waits, each with its reason.

The seconds are those of a quiet emulated machine: a machine on the slowest host, while that host
has no other work. A slower machine measures its own speed and gets proportionally more seconds
(``scripts/pace.sh``). A limit counts from the last news of what the wait is for, since a process
that makes progress is not stuck.
"""

from collections.abc import Mapping
from dataclasses import dataclass

HARD = 8
"""The hard limit of a wait is so many times its limit, by the clock. At the hard limit the wait
ends, however slow the machine is and even where there is still news: otherwise a process that
reports something new for ever would be waited for without end."""


@dataclass(frozen=True)
class Limit:
    """The limit of a wait."""

    seconds: int
    why: str
    """The reason for this length: what the time is needed for."""


LIMITS: Mapping[str, Limit] = {
    # -- every step: prelude.sh
    "lock": Limit(900, "another step of the machine, which unpacks archives or images"),
    "dpkg": Limit(300, "somebody else's installation of packages, such as a first boot's"),
    "ended": Limit(
        300, "systemd stops a service, for which it has limits of 90 s or a little more"
    ),
    "restarted": Limit(300, "a service comes up; etcd does when the others have"),
    # -- a machine: ready.sh, runtime.sh
    "first-boot": Limit(900, "cloud-init, which is Python and most of a first boot"),
    "disk": Limit(60, "the hypervisor has made it larger before; udev is told of it"),
    "api-name": Limit(60, "a name server answers within seconds; a record may just be made"),
    "clock-set": Limit(30, "a time service asks at its start; without a server it never does"),
    "clock": Limit(30, "it is right, or somebody must set it"),
    "runtime": Limit(300, "containerd or Docker comes up and reads what it has"),
    # -- etcd: storage-version.sh, member.sh, etcd.sh
    "first-members": Limit(900, "every machine boots, and comes to its etcd"),
    "member-heard": Limit(600, "a member that is restarted, or whose machine is"),
    "others-ready": Limit(60, "they elect a leader where the one whose data is gone led"),
    "member-added": Limit(900, "others join before, one at a time, each once its machine is there"),
    "members-in": Limit(900, "the machines of new members are made, and they join one at a time"),
    "member-gone": Limit(300, "members that restarted come up; a member that leads hands over"),
    "storage": Limit(300, "one entry of the log; members that restarted answer again"),
    "members": Limit(900, "every machine comes to its etcd, after its packages and artifacts"),
    "flannel-network": Limit(120, "one write, to members that agree already"),
    "users": Limit(300, "a program is started for each of about ten changes"),
    # -- a control plane: control-plane.sh
    "api": Limit(600, "an API server starts in 23 s, then waits for etcd and its own hooks"),
    "controllers": Limit(300, "controller manager or scheduler starts beside the API server"),
    "virtual-ip": Limit(300, "an election of keepalived, once an API server is ready"),
    # -- a node: skew.sh, roll.sh, node.sh
    "api-versions": Limit(3000, "all control planes, one after the other, come to a new version"),
    "api-for-node": Limit(1200, "etcd's members and the API servers come up before"),
    "rolled": Limit(1800, "nodes before it: pods move, then runtime and kubelet start, and report"),
    "back-again": Limit(300, "a kubelet reports within seconds once the runtime and flannel run"),
    "node": Limit(300, "kubelet or kube-proxy starts, or the node is registered"),
    "flannel": Limit(600, "flanneld is started again until etcd has its network"),
    "cni-list": Limit(60, "it is written once flannel has a subnet"),
    # -- the cluster: add-ons.sh, nodes.sh
    "add-ons": Limit(600, "dozens of objects, to API servers that have just come up"),
    "trust": Limit(300, "a controller manager that has restarted leads, and writes to namespaces"),
    "drained": Limit(600, "pods end and others start elsewhere, as budgets of disruption allow"),
    "node-gone": Limit(60, "one object is deleted"),
    "labels": Limit(300, "one object for each node, and a record"),
    # -- keys that turn over: walk.sh, encryption.sh
    "walk": Limit(1200, "API servers of all control planes restart, one after the other"),
    "walk-note": Limit(120, "one write, to members that have a quorum within seconds"),
    "walk-new": Limit(30, "members that run answer at once, or there are none yet"),
    "encryption": Limit(1200, "every Secret is read and replaced, by as many as control planes"),
    # -- turns: turn.sh
    "turn": Limit(2000, "other machines that are restarted before, minutes each"),
    "silent": Limit(300, "whoever is asked again and again and says nothing that long is broken"),
    "another-api": Limit(900, "the first API server of a cluster starts, and makes its objects"),
    "others-well": Limit(300, "another machine's member or API server comes up"),
    "well-again": Limit(600, "an API server starts and waits for its hooks"),
}
"""Name to the limit of a wait in ``plan/scripts``."""

CONDITIONS: Mapping[str, Limit] = {
    "clocks": Limit(120, "a machine that was paused catches up within a minute"),
    "members": Limit(600, "members come up together, and elect a leader"),
    "space": Limit(120, "it does not come true by itself: members may be slow to say it"),
    "api": Limit(900, "several API servers start, and wait for etcd"),
    "keys": Limit(120, "it does not come true by itself: members may be slow to say it"),
    "authorities": Limit(300, "a controller manager that has restarted writes to each namespace"),
    "nodes": Limit(900, "kubelets register, flannel makes its network, and nodes get Ready"),
    "backup": Limit(600, "a snapshot of etcd is written, encrypted and copied elsewhere"),
    "services": Limit(300, "some are started again until others answer"),
}
"""Name of a condition of each cluster, in ``plan.conditions``, to its limit."""
