"""Changes of a living cluster: what it takes keeps all, what would lose something is refused.

The story of a cluster calls these in their order.
"""

import json
import os
import re
import signal
from collections.abc import Mapping
from typing import Any

from plan import layout
from tests.machine.lab import Lab

PORT = 8473
TAINT = {"key": "example.com/kept-free", "value": "yes", "effect": "NoSchedule"}
LABEL = {"example.com/rack": "r7"}
FOREIGN = "example.com/of-a-person"


def _members(lab: Lab, master: str) -> str:
    """Etcd's members by their identifiers: a member that begins with nothing has another one."""
    client = (
        f"--cacert={layout.MEMBER_AUTHORITY} "
        f"--cert={layout.certificate('etcd-healthcheck-client')} "
        f"--key={layout.private_key('etcd-healthcheck-client')}"
    )
    return lab.on(master, f"etcdctl {client} member list")


def _root(lab: Lab, name: str) -> int:
    """The size of a machine's root file system, in MiB."""
    return int(lab.on(name, "df --output=size --block-size=1M / | tail -1"))


def _pods_are_reached(lab: Lab, nodes: tuple[str, ...]) -> None:
    """A request from each machine to each pod of the workload, wherever the pod runs."""
    pods = lab.objects("pods", "--selector", "app=probe")["items"]
    addresses = [
        pod["status"]["podIP"] for pod in pods if "deletionTimestamp" not in pod["metadata"]
    ]
    assert addresses
    for name in nodes:
        for address in addresses:
            asked = f"curl -fsS -m 20 --retry 5 --retry-all-errors http://{address}:8080/health"
            assert lab.on(name, asked) == "OK"


def _node_follows(
    lab: Lab, name: str, labels: Mapping[str, str], taints: list[dict[str, str]]
) -> None:
    node = lab.objects("node", name)
    given = {key: value for key, value in node["metadata"]["labels"].items() if key in LABEL}
    assert given == labels
    assert node["spec"].get("taints", []) == taints


def _interrupted(lab: Lab) -> None:
    """Start ``up``, ask it to end while a step runs, and see that nothing is left half done."""
    update = lab.start_up()
    update.begins(r"\S+-(ready|runtime|etcd|control-plane|node|add-ons\S*)", "update")
    os.killpg(update.process.pid, signal.SIGINT)
    printed = update.printed()
    lab.transcript += f"$ ./hardway up, interrupted\n{printed}\n"
    assert update.process.returncode == 130, printed
    assert "Traceback" not in printed
    state = json.loads(lab.pulumi("stack", "export").stdout)
    assert not state["deployment"].get("pending_operations")


def changed(lab: Lab, master: str, minion: str, nodes: tuple[str, ...]) -> None:
    """Flannel's port, a taint, a label and a larger disk of etcd, in an update that is cut off."""
    booted = "cat /proc/sys/kernel/random/boot_id"
    before = {name: lab.on(name, booted) for name in nodes}
    etcd, size = _members(lab, master), _root(lab, master)
    cluster = lab.cluster
    cluster["flannel"] = {"port": PORT}
    cluster["machines"][master]["disk"] = cluster["machines"][master].get("disk", 10) + 1
    cluster["machines"][minion] |= {"labels": LABEL, "taints": [TAINT]}
    lab.describe(cluster)
    preview = lab.hardway("preview", "--live").stdout
    for name in nodes:
        assert re.search(rf"restarts on {name}: .*flanneld\.service", preview), preview
    assert "grown in place" in preview
    _interrupted(lab)
    lab.hardway("up")
    assert {name: lab.on(name, booted) for name in nodes} == before
    assert _members(lab, master) == etcd
    assert _root(lab, master) > size + 900
    for name in nodes:
        assert f"dstport {PORT}" in lab.on(name, "ip -details link show flannel.1")
    _node_follows(lab, minion, LABEL, [TAINT])
    _pods_are_reached(lab, nodes)
    lab.pulumi("preview", "--expect-no-changes")


def changed_back(lab: Lab, minion: str) -> None:
    """The taint and the label leave the living node; what somebody else set stays."""
    lab.kubectl("label", "node", minion, f"{FOREIGN}=stays")
    cluster = lab.cluster
    del cluster["machines"][minion]["labels"], cluster["machines"][minion]["taints"]
    lab.describe(cluster)
    lab.hardway("up")
    _node_follows(lab, minion, {}, [])
    assert lab.objects("node", minion)["metadata"]["labels"][FOREIGN] == "stays"
    lab.pulumi("preview", "--expect-no-changes")


def lost_and_back(lab: Lab, minion: str, nodes: tuple[str, ...]) -> None:
    """A machine and its disks are gone: one ``up --refresh`` makes it anew with all its steps."""
    domain = f"{lab.stack}-{minion}"
    rows = [line.split() for line in lab.virsh("domblklist", domain).splitlines()]
    volumes = [row[1] for row in rows if len(row) == 2 and row[1].startswith(domain)]
    assert len(volumes) == 2
    lab.virsh("destroy", domain)
    lab.virsh("undefine", domain)
    for volume in volumes:
        lab.virsh("vol-delete", "--pool", lab.libvirt().pool, volume)
    lab.hardway("up", "--refresh")
    lab.hardway("validate", "--wait", "1200")
    lab.kubectl("rollout", "status", "deployment/probe", "--timeout=600s")
    _pods_are_reached(lab, nodes)
    assert lab.changes("--refresh") == {}


def refused(lab: Lab, sentence: str, **fields: Any) -> None:
    """Other fields are refused with one sentence by a preview, ``up`` and plain Pulumi."""
    good, bad = lab.cluster, lab.cluster
    for name, given in fields.items():
        bad["machines"][name] |= given
    lab.describe(bad)
    try:
        for verb in (
            ("preview", "--live"),
            ("up",),
            ("pulumi", "up", "--yes", "--skip-preview"),
        ):
            done = lab.hardway(*verb, ok=False)
            assert done.returncode != 0, verb
            output = " ".join((done.stdout + done.stderr).split())
            assert sentence in output, (verb, output)
    finally:
        lab.describe(good)
    lab.pulumi("preview", "--expect-no-changes")
