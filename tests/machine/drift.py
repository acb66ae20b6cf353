"""Drift on a real machine: what somebody does by hand, what is told of it, and that it is mended.

The story of a cluster calls these in their order. Every drift is of another thing, so that all of
them are there at once when they are asked for and mended: an emulated machine does nothing quickly.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.machine.lab import Lab

STORE = "/var/lib/hardway/store/sha256"
UNITS = "/etc/systemd/system"


@dataclass(frozen=True, kw_only=True)
class MachineDrift:
    """What is done on a node by hand, and what is told of it."""

    done: str
    told: Mapping[str, str]
    """Key of the thing to words of how it is."""


DRIFTS = {
    "a changed file": MachineDrift(
        # Not kube-proxy's, which watches its own and is then told to run with it.
        done="echo '# by hand' >>/etc/containerd/config.toml",
        told={"file /etc/containerd/config.toml": "sha256:"},
    ),
    "a removed file": MachineDrift(
        done="rm /etc/modules-load.d/hardway.conf",
        told={"file /etc/modules-load.d/hardway.conf": "missing"},
    ),
    "a wrong mode": MachineDrift(
        done="chmod 0644 /etc/kubernetes/pki/kubelet-client.key",
        told={"file /etc/kubernetes/pki/kubelet-client.key": "as kept in the state 0644 root:root"},
    ),
    "a wrong owner": MachineDrift(
        done="chown daemon:daemon /etc/kubernetes/kubelet.yaml",
        told={"file /etc/kubernetes/kubelet.yaml": "0600 daemon:daemon"},
    ),
    "a changed secret file": MachineDrift(
        done="echo >>/etc/kubernetes/pki/kubelet-server.key",
        told={"file /etc/kubernetes/pki/kubelet-server.key": "other content 0600 root:root"},
    ),
    "a stopped service": MachineDrift(
        done="systemctl stop kube-proxy",
        told={"service kube-proxy.service": "enabled, stopped"},
    ),
    "a disabled service": MachineDrift(
        done="systemctl --no-reload disable containerd",
        told={"service containerd.service": "disabled, runs"},
    ),
    "settings beside a unit": MachineDrift(
        done=f"mkdir {UNITS}/kubelet.service.d && cd {UNITS}/kubelet.service.d && "
        "printf '[Service]\\nNice=5\\n' >nice.conf && systemctl daemon-reload",
        told={"service kubelet.service": f"with settings of {UNITS}/kubelet.service.d/nice.conf"},
    ),
    "a changed artifact": MachineDrift(
        done="printf x >>$(readlink /opt/cni/bin/portmap)",
        told={"artifact portmap": "sha256:"},
    ),
    "a link to another version": MachineDrift(
        done="ln -sfn /usr/bin/true /usr/local/bin/ctr",
        told={"link /usr/local/bin/ctr": "-> /usr/bin/true"},
    ),
    "an older program that still runs": MachineDrift(
        done="new=$(readlink /usr/local/bin/flanneld) && cp $new /srv/flanneld && "
        "ln -sfn /srv/flanneld /usr/local/bin/flanneld && systemctl restart flanneld && "
        "ln -sfn $new /usr/local/bin/flanneld",
        told={"service flanneld.service": "enabled, runs /srv/flanneld"},
    ),
    "a kernel setting": MachineDrift(
        done="sysctl --quiet --write vm.overcommit_memory=0",
        told={"kernel setting vm.overcommit_memory": "0"},
    ),
    "a device without ways": MachineDrift(
        # flanneld makes it anew within seconds, and logs that all is well.
        done="ip link delete flannel.1 && "
        "for _ in $(seq 300); do [ ! -d /sys/class/net/flannel.1 ] || exit 0; sleep 1; done; "
        "exit 1",
        told={"VXLAN device flannel.1": "without a way to any other node"},
    ),
}

MENDED_BY = {"ready", "identity", "runtime", "node"}
RESTARTED = {"kubelet.service", "kube-proxy.service", "flanneld.service"}
"""And no other service: containerd was only disabled, its files are its own."""


def found(lab: Lab, node: str) -> dict[str, Any]:
    """Key to difference of a machine; of any other there is none."""
    told = json.loads(lab.hardway("drift", "--json", ok=False).stdout)
    differing = {name for name, one in told["machines"].items() if one.get("differences")}
    assert all(one["asked"] for one in told["machines"].values()), told
    assert told["verdict"] == ("drifted" if differing else "clean")
    assert differing <= {node}
    return {f"{one['kind']} {one['name']}": one for one in told["machines"][node]["differences"]}


def all_done(lab: Lab, node: str) -> dict[str, Any]:
    """Every drift is done by hand; what is told then, and that it is nothing else."""
    lab.on(node, " && ".join(f"({one.done})" for one in DRIFTS.values()))
    told = found(lab, node)
    assert len(told) == sum(len(one.told) for one in DRIFTS.values()), told
    return told


def is_told(told: Mapping[str, Any], name: str) -> None:
    """One of them is."""
    for key, words in DRIFTS[name].told.items():
        # An artifact's key ends with its version.
        (observed,) = [value["is"] for thing, value in told.items() if thing.startswith(key)]
        assert words in observed


def is_told_in_a_preview(lab: Lab, node: str) -> None:
    """``preview --refresh`` names the machine and what differs, and changes nothing."""
    before = found(lab, node)
    assert len(before) >= len(DRIFTS)
    told = lab.pulumi("preview", "--refresh", "--diff").stdout
    assert f"::{node}-guard]" in told
    for key, one in before.items():
        # The engine lets the values of a mapping stand below each other, and shortens long ones.
        values = (("is", one["is"]), ("shouldBe", one["should_be"]))
        both = r"\s+".join(rf'- {name} *: "{re.escape(said[:100])}.*' for name, said in values)
        assert re.search(rf"- {re.escape(key)} *: {{\s+{both}", told), key
    assert "PRIVATE KEY" not in told
    assert found(lab, node) == before
    planned = lab.changes("--refresh")
    assert planned == {f"{node}-guard": "update", "ready": "update"}


def is_mended(lab: Lab, node: str, services: Sequence[str]) -> None:
    """``up --refresh`` runs exactly the steps that bring about what differs."""
    before = starts(lab, node, services)
    told = lab.hardway("up", "--refresh").stdout
    steps = set(re.findall(rf"{node}: the step ([\w-]+) runs again", told))
    assert steps == MENDED_BY
    assert found(lab, node) == {}
    after = starts(lab, node, services)
    assert {name for name in before if before[name] != after[name]} == RESTARTED
    assert not lab.on(node, f"ls -d {UNITS}/kubelet.service.d 2>/dev/null || true").strip()
    assert not lab.changes("--refresh")


def starts(lab: Lab, node: str, services: Sequence[str]) -> dict[str, str]:
    """Service to a number that changes with every start."""
    said = lab.on(node, f"systemctl show --property=Id,InvocationID {' '.join(services)}")
    blocks = [dict(line.split("=", 1) for line in one.split()) for one in said.split("\n\n")]
    return {one["Id"]: one["InvocationID"] for one in blocks if one}
