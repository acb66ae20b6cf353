"""One machine for everything, with the other choice wherever there is one.

Docker through cri-dockerd, flannel's subnets in the Kubernetes API, kube-proxy with iptables.
"""

import base64
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plan import docker
from tests import readme
from tests.engine.stack import eventually
from tests.machine.lab import Lab, at_length, brought_up
from tests.plan import cri

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(3600),
    at_length,
]

CLUSTER = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {"solo": {"address": "192.168.1.10", "cpus": 2, "memory": 3072}},
    "runtime": "docker",
    "flannel": {"store": "kubernetes"},
    "proxy_mode": "iptables",
    "addons": {"storage": True, "network_policy": True},
    "backup": {"keep": 3},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtsolo", CLUSTER, tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


def test_one_machine_is_the_whole_cluster(lab: Lab) -> None:
    lab.hardway("validate", "--wait", "1200")
    (node,) = lab.objects("nodes")["items"]
    assert node["metadata"]["name"] == "solo"
    assert not node["spec"].get("taints"), "the only machine takes pods"
    lab.pulumi("preview", "--expect-no-changes")


def test_its_pods_are_dockers(lab: Lab) -> None:
    (node,) = lab.objects("nodes")["items"]
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("docker://")
    asked = "curl -fsS --unix-socket /run/docker.sock http://docker/containers/json"
    running = [
        name for container in json.loads(lab.on("solo", asked)) for name in container["Names"]
    ]
    assert any(name.startswith("/k8s_coredns_") for name in running)
    assert any(name.startswith("/k8s_POD_") for name in running)


def test_the_kubelet_can_have_none_of_its_images_removed(lab: Lab) -> None:
    """As it would where the disk is full: a pod that starts then would not find its image."""
    asked = f"curl -fsS --unix-socket {docker.ENGINE_SOCKET} http://docker/images/json"

    def images() -> list[dict[str, Any]]:
        """Docker lists those of one time in any order."""
        return sorted(json.loads(lab.on("solo", asked)), key=lambda image: str(image["Id"]))

    before = images()
    assert {name.partition(":")[0] for image in before for name in image["RepoTags"]} == {
        "hardway.local/pause",
        "hardway.local/coredns",
        "hardway.local/local-path-provisioner",
        "hardway.local/volume-folder",
        "hardway.local/kube-network-policies",
    }
    # Whatever becomes of its pods, which keep their images as well.
    every = json.loads(lab.on("solo", asked.replace("images/json", "'containers/json?all=true'")))
    kept = [container["ImageID"] for container in every if "hardway.image" in container["Labels"]]
    assert sorted(kept) == sorted(image["Id"] for image in before)
    for image in before:
        answer = lab.on("solo", cri.call(docker.SOCKET, "ImageService/RemoveImage", image["Id"]))
        assert "container" in cri.refusal(answer)
    assert images() == before


def test_its_pods_live_in_the_subnet_that_kubernetes_gave_the_node(lab: Lab) -> None:
    (node,) = lab.objects("nodes")["items"]
    subnet = node["spec"]["podCIDR"]
    assert f"FLANNEL_SUBNET={subnet.replace('.0/24', '.1/24')}" in lab.on(
        "solo", "cat /run/flannel/subnet.env"
    )
    listed = lab.objects("pods", "--namespace", "kube-system")["items"]
    pods = [pod for pod in listed if not pod["spec"].get("hostNetwork")]
    assert pods
    for pod in pods:
        assert pod["status"]["podIP"].startswith(subnet.rpartition(".")[0])


def test_its_services_are_rules_of_iptables(lab: Lab) -> None:
    rules = lab.on("solo", "iptables-save --table nat")
    assert "KUBE-SERVICES" in rules
    assert "192.168.3.10/32" in rules
    assert "table ip kube-proxy" not in lab.on("solo", "nft list tables")


def test_logs_come_through_cri_dockerd(lab: Lab) -> None:
    (pod, *_) = lab.objects("pods", "--namespace", "kube-system")["items"]
    log = lab.kubectl("logs", "--namespace", "kube-system", pod["metadata"]["name"])
    assert "CoreDNS-" in log


COREFILE = ".:1053 {\n    health :8080\n    ready :8181\n}\n"


def coredns_image(lab: Lab) -> str:
    (deployment,) = lab.objects("deployments", "--selector", "k8s-app=kube-dns", "-A")["items"]
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def pod(name: str, image: str, volume: dict[str, Any]) -> dict[str, Any]:
    """A pod that is ready once the file ``Corefile`` of its volume configures it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": name,
                    "image": image,
                    "imagePullPolicy": "Never",
                    "args": ["-conf", f"/{name}/Corefile"],
                    "volumeMounts": [{"name": "files", "mountPath": f"/{name}"}],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}},
                }
            ],
            "volumes": [{"name": "files", **volume}],
        },
    }


def apply(lab: Lab, manifest: dict[str, Any]) -> None:
    file = lab.folder / "manifest.json"
    file.write_text(json.dumps(manifest))
    lab.kubectl("apply", "--validate=false", "--filename", str(file))


def is_ready(lab: Lab, name: str) -> None:
    lab.kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=900s")


def policy(*sources: dict[str, Any]) -> dict[str, Any]:
    """A policy by which only these sources reach the pods of the application ``guarded``."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "guarded"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "guarded"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": list(sources)}] if sources else [],
        },
    }


def test_a_network_policy_denies_and_allows(lab: Lab) -> None:
    configuration = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "guarded"},
        "data": {"Corefile": COREFILE},
    }
    apply(lab, configuration)
    apply(lab, pod("guarded", coredns_image(lab), {"configMap": {"name": "guarded"}}))
    is_ready(lab, "guarded")
    address = lab.objects("pod", "guarded")["status"]["podIP"]
    inside = "nsenter --net --target $(pgrep -f -- '^/coredns -conf /etc/coredns/' | head -1)"
    asks = f"{inside} curl -s -m 10 http://{address}:8080/health || true"

    def answer() -> str:
        return lab.on("solo", asks)

    assert answer() == "OK"
    apply(lab, policy())
    eventually("a pod that no policy allows is denied", lambda: answer() == "")
    # The kubelet's own probes are not.
    assert lab.on("solo", f"curl -s -m 30 http://{address}:8080/health") == "OK"
    system = {"kubernetes.io/metadata.name": "kube-system"}
    dns = {"matchLabels": {"k8s-app": "kube-dns"}}
    apply(lab, policy({"namespaceSelector": {"matchLabels": system}, "podSelector": dns}))
    eventually("a pod that the policy allows is let in", lambda: answer() == "OK")
    apply(lab, policy({"podSelector": dns}))
    eventually("the same labels in another namespace are denied", lambda: answer() == "")
    for name in ("networkpolicy/guarded", "pod/guarded", "configmap/guarded"):
        lab.kubectl("delete", name)


CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "site"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
}


def test_a_claim_gets_a_volume_that_outlives_its_pod_and_a_reboot(lab: Lab) -> None:
    site = pod("site", coredns_image(lab), {"persistentVolumeClaim": {"claimName": "site"}})
    apply(lab, CLAIM)
    apply(lab, site)
    bound = ("--for=jsonpath={.status.phase}=Bound", "--timeout=900s")
    lab.kubectl("wait", "persistentvolumeclaim/site", *bound)
    volume = lab.objects("persistentvolumeclaim", "site")["spec"]["volumeName"]
    path = lab.objects("persistentvolume", volume)["spec"]["hostPath"]["path"]
    assert path.startswith("/var/lib/local-path/")
    assert lab.on("solo", f"stat --format=%a {path}").strip() == "777"
    lab.on("solo", f"printf %s {shlex.quote(COREFILE)} >{path}/Corefile")
    is_ready(lab, "site")

    lab.kubectl("delete", "pod", "site")
    apply(lab, site)
    is_ready(lab, "site")

    boot = "cat /proc/sys/kernel/random/boot_id"
    before = lab.on("solo", boot)
    lab.on("solo", "systemctl reboot", ok=False)
    eventually(
        "the machine has booted anew",
        lambda: lab.hardway("ssh", "solo", "--", boot, ok=False).stdout not in ("", before),
    )
    lab.hardway("validate", "--wait", "1200")
    is_ready(lab, "site")
    assert lab.on("solo", f"cat {path}/Corefile") == COREFILE

    lab.kubectl("delete", "pod", "site")
    lab.kubectl("delete", "persistentvolumeclaim", "site")
    eventually("the folder is gone", lambda: lab.on("solo", "ls /var/lib/local-path") == "")


def test_a_backup_brings_back_what_was_deleted(lab: Lab, tmp_path: Path) -> None:
    """And takes away what came since; controllers go on, and revisions never go back."""
    for name in ("kept", "gone"):
        lab.kubectl("create", "configmap", name, "--from-literal=of=before")
    lab.kubectl("create", "secret", "generic", "kept", "--from-literal=word=of-before")
    lab.kubectl("create", "deployment", "site", f"--image={coredns_image(lab)}", "--replicas=0")
    for command in readme.BACKUPS:
        arguments = command.removeprefix("./hardway ").split()
        more = ("--output", str(tmp_path / "backup.db")) if "fetch" in arguments else ()
        assert "Traceback" not in lab.hardway(*arguments, *more).stdout
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600
    backup = str(tmp_path / "backup.db.age")
    lab.hardway("backup", "fetch", "--encrypted", "--output", backup)

    lab.kubectl("delete", "configmap/gone", "secret/kept", "deployment/site")
    lab.kubectl("create", "configmap", "since", "--from-literal=of=later")
    last = int(lab.objects("configmap", "since")["metadata"]["resourceVersion"])
    asked = lab.hardway("restore", backup)
    assert "lost: all that was written since" in asked.stdout
    assert lab.objects("configmap", "since"), "nothing happens before somebody says yes"

    lab.hardway("restore", backup, "--yes")
    names = {item["metadata"]["name"] for item in lab.objects("configmaps")["items"]}
    assert {"kept", "gone"} <= names
    assert "since" not in names
    secret = lab.objects("secret", "kept")
    assert base64.b64decode(secret["data"]["word"]) == b"of-before"
    lab.kubectl("create", "configmap", "after", "--from-literal=of=now")
    assert int(lab.objects("configmap", "after")["metadata"]["resourceVersion"]) > last
    # The controllers see new objects, and the kubelet runs new pods.
    lab.kubectl("scale", "deployment/site", "--replicas=1")
    eventually(
        "the controllers make a pod",
        lambda: len(lab.objects("pods", "--selector", "app=site")["items"]) == 1,
    )
    lab.kubectl("create", "namespace", "after")
    eventually(
        "the namespace is served",
        lambda: "default" in lab.kubectl("-n", "after", "get", "serviceaccounts", "-o", "name"),
    )
    lab.hardway("validate", "--wait", "1200")
    assert "restore" not in lab.on("solo", "ls /var/lib/etcd")
    lab.kubectl("delete", "deployment/site", "namespace/after")
    lab.kubectl("delete", "configmap/kept", "configmap/gone", "configmap/after", "secret/kept")
    lab.pulumi("preview", "--expect-no-changes")


def test_add_ons_that_are_switched_off_leave_nothing_in_the_cluster(lab: Lab) -> None:
    lab.describe({key: value for key, value in CLUSTER.items() if key != "addons"})
    lab.hardway("up")
    assert lab.objects("storageclasses")["items"] == []
    assert lab.objects("daemonsets", "--all-namespaces")["items"] == []
    eventually(
        "the namespace is gone",
        lambda: "local-path-storage" not in lab.kubectl("get", "namespaces"),
    )
    rules = "nft list ruleset | grep --count 'queue' || true"
    eventually("no packet is queued any more", lambda: lab.on("solo", rules).strip() == "0")
    lab.hardway("validate", "--wait", "1200")
    lab.pulumi("preview", "--expect-no-changes")
