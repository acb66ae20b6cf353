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
    """What is done on a node by hand, or in the API, and what is told of it."""

    done: str = "true"
    in_api: Sequence[str] = ()
    """Arguments of kubectl."""
    differences: Mapping[str, str]
    """Key of the thing to words of how it is."""


DRIFTS = {
    "a changed file": MachineDrift(
        # Not kube-proxy's, which watches its own and is then told to run with it.
        done="echo '# by hand' >>/etc/containerd/config.toml",
        differences={"file /etc/containerd/config.toml": "sha256:"},
    ),
    "a removed file": MachineDrift(
        done="rm /etc/modules-load.d/hardway.conf",
        differences={"file /etc/modules-load.d/hardway.conf": "missing"},
    ),
    "a wrong mode": MachineDrift(
        done="chmod 0644 /etc/kubernetes/pki/kubelet-client.key",
        differences={
            "file /etc/kubernetes/pki/kubelet-client.key": "as kept in the state 0644 root:root"
        },
    ),
    "a wrong owner": MachineDrift(
        done="chown daemon:daemon /etc/kubernetes/kubelet.yaml",
        differences={"file /etc/kubernetes/kubelet.yaml": "0600 daemon:daemon"},
    ),
    "a changed secret file": MachineDrift(
        done="echo >>/etc/kubernetes/pki/kubelet-server.key",
        differences={"file /etc/kubernetes/pki/kubelet-server.key": "other content 0600 root:root"},
    ),
    "a stopped service": MachineDrift(
        done="systemctl stop kube-proxy",
        differences={"service kube-proxy.service": "enabled, stopped"},
    ),
    "a disabled service": MachineDrift(
        done="systemctl --no-reload disable containerd",
        differences={"service containerd.service": "disabled, runs"},
    ),
    "settings beside a unit": MachineDrift(
        done=f"mkdir {UNITS}/kubelet.service.d && cd {UNITS}/kubelet.service.d && "
        "printf '[Service]\\nNice=5\\n' >nice.conf && systemctl daemon-reload",
        differences={
            "service kubelet.service": f"with settings of {UNITS}/kubelet.service.d/nice.conf"
        },
    ),
    "a changed artifact": MachineDrift(
        done="printf x >>$(readlink /opt/cni/bin/portmap)",
        differences={"artifact portmap": "sha256:"},
    ),
    "a link to another version": MachineDrift(
        done="ln -sfn /usr/bin/true /usr/local/bin/ctr",
        differences={"link /usr/local/bin/ctr": "-> /usr/bin/true"},
    ),
    "an older program that still runs": MachineDrift(
        done="new=$(readlink /usr/local/bin/flanneld) && cp $new /srv/flanneld && "
        "ln -sfn /srv/flanneld /usr/local/bin/flanneld && systemctl restart flanneld && "
        "ln -sfn $new /usr/local/bin/flanneld",
        differences={"service flanneld.service": "enabled, runs /srv/flanneld"},
    ),
    "a kernel setting": MachineDrift(
        done="sysctl --quiet --write vm.overcommit_memory=0",
        differences={"kernel setting vm.overcommit_memory": "0"},
    ),
    "a device without ways": MachineDrift(
        # flanneld makes it anew within seconds, and logs that all is well.
        done="ip link delete flannel.1 && "
        "for _ in $(seq 300); do [ ! -d /sys/class/net/flannel.1 ] || exit 0; sleep 1; done; "
        "exit 1",
        differences={"VXLAN device flannel.1": "without a way to any other node"},
    ),
    "an object of the API": MachineDrift(
        in_api=("--namespace=kube-system", "scale", "deployment/coredns", "--replicas=1"),
        differences={"object Deployment kube-system/coredns spec.replicas": "1 (set by kubectl)"},
    ),
}

MENDED_BY = {"ready", "identity", "runtime", "node"}
RESTARTED = {"kubelet.service", "kube-proxy.service", "flanneld.service"}
"""And no other service: containerd was only disabled, its files are its own."""


def differing(lab: Lab, node: str) -> dict[str, Any]:
    """Key to difference of a machine and of the API; of any other machine there is none."""
    report = json.loads(lab.hardway("drift", "--json", ok=False).stdout)
    drifted = {name for name, machine in report["machines"].items() if machine.get("differences")}
    answers = (*report["machines"].values(), report["api"])
    assert all(answer["asked"] for answer in answers), report
    assert drifted <= {node}
    differences = {
        f"{difference['kind']} {difference['name']}": difference
        for answer in (report["machines"][node], report["api"])
        for difference in answer["differences"]
    }
    assert report["verdict"] == ("drifted" if differences else "clean")
    return differences


def all_done(lab: Lab, node: str) -> dict[str, Any]:
    """Every drift is done by hand; what is told then, and that it is nothing else."""
    lab.on(node, " && ".join(f"({drift.done})" for drift in DRIFTS.values()))
    for drift in DRIFTS.values():
        if drift.in_api:
            lab.kubectl(*drift.in_api)
    differences = differing(lab, node)
    assert len(differences) == sum(len(drift.differences) for drift in DRIFTS.values()), differences
    return differences


def is_told(observed_differences: Mapping[str, Any], name: str) -> None:
    """One of them is."""
    for key, phrase in DRIFTS[name].differences.items():
        # An artifact's key ends with its version.
        (observed,) = [
            value["is"] for thing, value in observed_differences.items() if thing.startswith(key)
        ]
        assert phrase in observed


def is_told_in_a_preview(lab: Lab, node: str) -> None:
    """``preview --refresh`` names the machine and what differs, and changes nothing."""
    before = differing(lab, node)
    assert len(before) >= len(DRIFTS)
    preview = lab.pulumi("preview", "--refresh", "--diff").stdout
    assert f"::{node}-guard]" in preview
    assert "::objects]" in preview
    for key, difference in before.items():
        # The engine lets the values of a mapping stand below each other, and shortens long ones.
        values = (("is", difference["is"]), ("shouldBe", difference["should_be"]))
        both = r"\s+".join(rf'- {name} *: "{re.escape(value[:100])}.*' for name, value in values)
        assert re.search(rf"- {re.escape(key)} *: {{\s+{both}", preview), key
    assert "PRIVATE KEY" not in preview
    assert differing(lab, node) == before
    planned = lab.changes("--refresh")
    assert planned == {f"{node}-guard": "update", "objects": "update", "ready": "update"}


def is_mended(lab: Lab, node: str, services: Sequence[str]) -> None:
    """``up --refresh`` runs exactly the steps that bring about what differs."""
    before = starts(lab, node, services)
    output = lab.hardway("up", "--refresh").stdout
    steps = set(re.findall(rf"{node}: the step ([\w-]+) runs again", output))
    assert steps == MENDED_BY
    assert len(re.findall(r": the step add-ons-apply runs again", output)) == 1
    assert differing(lab, node) == {}
    after = starts(lab, node, services)
    assert {name for name in before if before[name] != after[name]} == RESTARTED
    assert not lab.on(node, f"ls -d {UNITS}/kubelet.service.d 2>/dev/null || true").strip()
    assert not lab.changes("--refresh")


def starts(lab: Lab, node: str, services: Sequence[str]) -> dict[str, str]:
    """Service to a number that changes with every start."""
    output = lab.on(node, f"systemctl show --property=Id,InvocationID {' '.join(services)}")
    units = [dict(line.split("=", 1) for line in block.split()) for block in output.split("\n\n")]
    return {properties["Id"]: properties["InvocationID"] for properties in units if properties}
