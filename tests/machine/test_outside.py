"""One machine whose host leads beyond itself: names and images from there, refused ones too.

The host is a network namespace, in which a registry listens.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lab.oci import write_archive
from plan import layout
from spec.cluster import parse
from tests.engine.stack import eventually
from tests.lab.host_network import BEYOND, STUB, HostNetwork
from tests.machine.lab import Lab, at_length, brought_up
from tests.plan.registry import PASSWORD, USER, certificate, real_registry, serving
from tests.plan.stored import inside, stored

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(3600),
    at_length,
]

REGISTRY = "registry.beyond.test"
SHOP = {"containerd": "shop.test", "docker": REGISTRY}
"""The registry in an image's name. With containerd, the real one is a mirror of it."""

COREFILE = ".:1053 {\n    health :8080\n}\n"
"""CoreDNS answers OK at ``/health``: the page of the shop."""


def cluster(runtime: str, authority: str) -> dict[str, Any]:
    registry: dict[str, Any] = {"authority": authority, "user": USER}
    if SHOP[runtime] != REGISTRY:
        registry["mirrors"] = [f"https://{REGISTRY}"]
    return {
        "networks": {"machines": "192.168.1.0/24", "outside": True},
        "machines": {"solo": {"address": "192.168.1.10", "cpus": 2, "memory": 3072}},
        "runtime": runtime,
        "registries": {SHOP[runtime]: registry},
    }


def up(lab: Lab, described: dict[str, Any], password: str) -> None:
    """Describe the stack with this password of the registry, and bring it up."""
    lab.describe(described)
    (name,) = described["registries"]
    path = f'hardway:passwords["{name}"]'
    lab.pulumi("config", "set", "--secret", "--path", path, password)
    lab.hardway("up")
    lab.hardway("validate", "--wait", "1200")


@pytest.fixture(scope="module", params=["containerd", "docker"])
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("beyond")
    program = inside(stored("coredns"), "coredns", folder)
    image = folder / "image.tar"
    write_archive(
        program,
        image,
        name="coredns",
        reference="docker.io/library/shop:1",
        architecture="amd64",
        user="1:1",
    )
    with real_registry(folder / "registry", image):
        pass  # the image lies in its folder from now on
    pem = certificate(folder / "tls", f"DNS:{REGISTRY}")
    described = cluster(request.param, pem.read_text())

    def begin(lab: Lab) -> None:
        lab.prepare_image(boots_itself=False)
        lab.enter = during.enter_context(network.entered())
        up(lab, described, PASSWORD)

    with ExitStack() as during:
        network = HostNetwork(f"mo{os.getpid()}", folder)
        network.make(during, {REGISTRY: BEYOND})
        with (
            network.entered() as enter,
            serving(folder / "registry", pem, f"{BEYOND}:443", enter),
        ):
            yield from brought_up("mtoutside", described, tmp_path_factory, request.session, begin)


def runtime(lab: Lab) -> str:
    return str(lab.cluster["runtime"])


def apply(lab: Lab, *manifests: dict[str, Any]) -> None:
    file = lab.folder / "manifest.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
    lab.kubectl("apply", "--validate=false", "--filename", str(file))


def shop(image: str, name: str) -> dict[str, Any]:
    """A Deployment of the shop that asks the registry each time."""
    volume = {"name": "files", "configMap": {"name": "shop"}}
    container = {
        "name": "shop",
        "image": image,
        "imagePullPolicy": "Always",
        "command": ["/coredns", "-conf", "/shop/Corefile"],
        "volumeMounts": [{"name": "files", "mountPath": "/shop"}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}},
    }
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "volumes": [volume]},
            },
        },
    }


def test_the_way_out_is_named_and_nothing_is_left_to_do(lab: Lab) -> None:
    assert f"way out: slirp4netns; names: {STUB}" in lab.transcript
    lab.pulumi("preview", "--expect-no-changes")


def test_a_machine_and_a_pod_know_names_from_beyond(lab: Lab) -> None:
    assert BEYOND in lab.on("solo", f"getent hosts {REGISTRY}")
    # A pod's network and its name server, with a program of the machine.
    server = parse(lab.cluster, name=lab.stack).networks.dns_service
    ask = (
        "pid=$(pgrep -f -- '^/coredns -conf /etc/coredns/' | head -1); "
        f"printf 'nameserver %s\\n' {server} >/run/asked; "
        "nsenter --net --target $pid unshare --mount "
        "sh -euc 'mount -n --bind /run/asked /etc/resolv.conf; "
        f"getent hosts {REGISTRY} kubernetes.default.svc.cluster.local'"
    )
    answers = lab.on("solo", ask).split()
    assert answers[:2] == [BEYOND, REGISTRY]
    assert answers[3] == "kubernetes.default.svc.cluster.local"


def test_a_persons_own_page_is_pulled_by_name_and_seen(lab: Lab) -> None:
    apply(
        lab,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "shop"},
            "data": {"Corefile": COREFILE},
        },
    )
    began = time.monotonic()
    apply(lab, shop(f"{SHOP[runtime(lab)]}/shop:1", "shop"))
    lab.kubectl("rollout", "status", "deployment/shop", "--timeout=900s")
    lab.kubectl("expose", "deployment", "shop", "--port", "8080")
    (url,) = lab.hardway("open", "--print", "shop").stdout.splitlines()
    page = ("curl", "--silent", "--max-time", "10", f"{url}health")
    eventually("the page is seen", lambda: seen(lab, *page) == "OK")
    print(f"from the image's name to its page: {time.monotonic() - began:.0f} s")


def seen(lab: Lab, *command: str) -> str:
    """What a program of the host prints."""
    return lab._run([*command], ok=False).stdout


def diagnosed(lab: Lab, name: str, sentence: str) -> Callable[[], bool]:
    """Whether ``diagnose`` says this of a pod of the Deployment.

    For five minutes after a change a kubelet knows the password from before: a pod that has begun
    with that is made again.
    """

    def says() -> bool:
        running = ("--selector", f"app={name}", "--field-selector", "status.phase=Running")
        lab.kubectl("delete", "pods", *running)
        done = lab.hardway("diagnose", "--output", str(lab.folder / "diagnosis.tar.gz"), ok=False)
        lines = " ".join((done.stdout + done.stderr).split())
        return f"default/{name}-" in lines and sentence in lines

    return says


def refused(lab: Lab, name: str, image: str, sentence: str) -> None:
    apply(lab, shop(image, name))
    eventually(
        "the reason is said",
        diagnosed(lab, name, sentence),
        reason=lambda: lab.kubectl("describe", "pods", "--selector", f"app={name}"),
    )
    lab.kubectl("delete", "deployment", name)


def test_an_image_that_is_not_there_is_named(lab: Lab) -> None:
    refused(lab, "none", f"{SHOP[runtime(lab)]}/none:1", "its registry has no such image")


def test_a_wrong_password_is_named(lab: Lab) -> None:
    before = lab.objects("pods", "--selector", "app=shop")["items"][0]["status"]
    up(lab, lab.cluster, "wrong")
    sentence = "its registry refuses the password, or there is none"
    refused(lab, "wrong", f"{SHOP[runtime(lab)]}/shop:1", sentence)
    after = lab.objects("pods", "--selector", "app=shop")["items"][0]["status"]
    assert after["containerStatuses"][0]["restartCount"] == 0, "a pod lives through the change"
    assert after["podIP"] == before["podIP"]


def test_an_unknown_authority_is_named(lab: Lab) -> None:
    (name,) = lab.cluster["registries"]
    registry = lab.cluster["registries"][name]
    strange = lab.on("solo", f"cat {layout.AUTHORITY}")
    changed = {**lab.cluster, "registries": {name: {**registry, "authority": strange}}}
    up(lab, changed, PASSWORD)
    sentence = "the node does not know the authority of its registry's certificate"
    refused(lab, "strange", f"{SHOP[runtime(lab)]}/shop:1", sentence)
    up(lab, {**changed, "registries": {name: registry}}, PASSWORD)
    apply(lab, shop(f"{SHOP[runtime(lab)]}/shop:1", "again"))
    lab.kubectl("rollout", "status", "deployment/again", "--timeout=900s")
