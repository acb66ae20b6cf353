"""What kubeadm is given before its clock begins, and what is made of both clocks."""

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from lab.architecture import architecture
from lab.cache import Cache
from lab.kubeadm import Kubeadm, KubeadmImage
from lab.manifest import recipe_of
from lab.problem import Problem
from ops import bench, bench_kubeadm
from ops.bench_kubeadm import Run
from plan import render
from plan.model import File, Step
from plan.reading import read
from spec.artifacts import artifact_rows
from spec.cluster import Cluster, parse
from spec.document import load_yaml
from spec.versions import versions_for

VERSIONS = versions_for()
NAMES = ("kube-apiserver", "etcd", "kube-proxy", "coredns/coredns", "pause")
PEER = Kubeadm(
    digest="a" * 64,
    images=tuple(
        KubeadmImage(f"registry.k8s.io/{name}:1", f"{number:064d}")
        for number, name in enumerate(NAMES)
    ),
)
DESCRIBED: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ai", "cpus": 2},
        "minion1": {"address": "192.168.1.11"},
        "minion2": {"address": "192.168.1.12"},
    },
    "artifacts": {
        "mirror": "http://192.168.1.1:6480",
        "digests": {f"{row.name}-{row.version(VERSIONS)}": "b" * 64 for row in artifact_rows()},
    },
}
HASH = f"sha256:{'0' * 64}"
SAID = f"""\
Your Kubernetes control-plane has initialized successfully!

kubeadm join 192.168.1.10:6443 --token abcdef.0123456789abcdef \\
\t--discovery-token-ca-cert-hash {HASH}
"""


@pytest.fixture
def spec() -> Cluster:
    return parse(DESCRIBED, name="bench")


# -- the table -------------------------------------------------------------------------------------


def test_the_table_has_both_clocks_the_load_and_their_ratio() -> None:
    ours = Run(101.4, (2.04, 3.5), {"master-etcd": 12.0})
    theirs = Run(174.2, (1.0, 4.25), {"kubeadm init": 90.0})
    printed = io.StringIO()
    Console(file=printed, width=120).print(bench_kubeadm.table(ours, theirs))
    rows = [line.split("│")[1:-1] for line in printed.getvalue().splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["ours, all conditions true", "101", "2.0", "3.5", "0.58"],
        ["kubeadm, nodes Ready and DNS answering", "174", "1.0", "4.2", "at most 0.6"],
    ]


def test_ours_is_what_the_update_of_booted_machines_took(monkeypatch: pytest.MonkeyPatch) -> None:
    class MeasuredUpdate:
        seconds = 99.0
        path = ()

    class MeasuredLab:
        booted: Any = None

        def boot(self, where: object) -> None:
            self.booted = where

        def update(self) -> MeasuredUpdate:
            assert self.booted is not None, "the boot is no part of it"
            return MeasuredUpdate()

    loads = iter([(1.5, 9, 9), (2.5, 9, 9)])
    monkeypatch.setattr("os.getloadavg", lambda: next(loads))
    lab: Any = MeasuredLab()
    assert bench_kubeadm.measure_ours(lab, "somewhere") == Run(99.0, (1.5, 2.5), {})  # type: ignore[arg-type]


# -- what can be compared --------------------------------------------------------------------------


def test_the_default_stack_is_compared(spec: Cluster) -> None:
    bench_kubeadm.demand_comparable(spec)


@pytest.mark.parametrize(
    ("machines", "why"),
    [
        ({"other": {"address": "192.168.1.13", "roles": "ai"}}, "more than one control plane"),
        ({"other": {"address": "192.168.1.13", "roles": "e"}}, "members of etcd apart"),
    ],
)
def test_another_cluster_than_kubeadm_makes_is_refused(machines: dict[str, Any], why: str) -> None:
    described = {**DESCRIBED, "machines": {**DESCRIBED["machines"], **machines}}
    if "ai" in str(machines):
        described["endpoint"] = {"kind": "virtual-ip", "address": "192.168.1.5"}
        described["machines"]["master"] = {**described["machines"]["master"], "roles": "eai"}
    else:
        described["machines"]["master"] = {**described["machines"]["master"], "roles": "ai"}
    with pytest.raises(Problem, match=why):
        bench_kubeadm.demand_comparable(parse(described, name="bench"))


def test_docker_and_a_lone_machine_are_refused() -> None:
    described = {
        **DESCRIBED,
        "runtime": "docker",
        "machines": {"master": DESCRIBED["machines"]["master"]},
    }
    with pytest.raises(Problem, match="Docker as its container runtime and has one node only"):
        bench_kubeadm.demand_comparable(parse(described, name="bench"))


def test_a_peer_that_is_none_is_named() -> None:
    app = typer.Typer()
    bench.register(app)
    done = CliRunner().invoke(app, ["--peer", "kops"])
    assert done.exit_code == 2
    assert "kubeadm" in done.output


# -- what a machine has beforehand -----------------------------------------------------------------


def step(spec: Cluster, node: str) -> Step:
    return bench_kubeadm.preparation(spec, PEER, node)


def file(spec: Cluster, node: str, path: str) -> File:
    return {item.path: item for item in step(spec, node).files}[path]


def test_a_machine_has_the_images_that_its_part_needs(spec: Cluster) -> None:
    names = {
        node: [archive.name for archive in bench_kubeadm.archives(spec, PEER, node)]
        for node in spec.nodes
    }
    assert names["master"] == ["kube-apiserver", "etcd", "kube-proxy", "coredns", "pause"]
    assert names["minion1"] == names["minion2"] == ["kube-proxy", "coredns", "pause"]
    for image in bench_kubeadm.archives(spec, PEER, "minion1"):
        assert image.urls == (f"http://192.168.1.1:6480/sha256/{image.sha256}",)
    lines = bench_kubeadm.routes_and_images(spec, PEER, "minion1").splitlines()
    assert [line for line in lines if line.startswith("image")] == [
        f"image /var/lib/hardway/store/sha256/{number:064d}" for number in (2, 3, 4)
    ]


def test_pods_of_each_node_are_found_from_every_other(spec: Cluster) -> None:
    own = {}
    for node in spec.nodes:
        configuration = json.loads(file(spec, node, "/etc/cni/net.d/10-hardway.conflist").content)
        (((subnet,),),) = (configuration["plugins"][0]["ipam"]["ranges"],)
        own[node] = subnet["subnet"]
    assert own == {
        "master": "172.16.0.0/24",
        "minion1": "172.16.1.0/24",
        "minion2": "172.16.2.0/24",
    }
    for node in spec.nodes:
        lines = bench_kubeadm.routes_and_images(spec, PEER, node).splitlines()
        routes = {tuple(line.split()[1:]) for line in lines if line.startswith("route")}
        others = {neighbour for neighbour in spec.nodes if neighbour != node}
        assert routes == {
            (own[neighbour], str(spec.machines[neighbour].address)) for neighbour in others
        }


def test_the_runtime_never_asks_a_registry_for_the_sandbox(spec: Cluster) -> None:
    assert 'sandbox = "registry.k8s.io/pause:1"' in (
        file(spec, "minion1", "/etc/containerd/config.toml").content
    )


def test_a_machine_gets_kubeadm_and_a_script_that_bash_reads(spec: Cluster) -> None:
    bash = shutil.which("bash")
    assert bash
    for node in spec.nodes:
        artifacts = read(render.text(step(spec, node))).artifacts
        assert f"sha256:{'a' * 64}" in artifacts.values(), "kubeadm itself"
    subprocess.run([bash, "-n", bench_kubeadm.PREPARE], check=True)


def test_kubeadm_gets_our_networks_versions_and_mode(spec: Cluster) -> None:
    text = file(spec, "master", bench_kubeadm.CONFIGURATION).content
    documents = {document["kind"]: document for document in map(_document, text.split("---\n"))}
    cluster = documents["ClusterConfiguration"]
    assert cluster["kubernetesVersion"] == f"v{VERSIONS.kubernetes}"
    assert cluster["networking"] == {
        "podSubnet": "172.16.0.0/16",
        "serviceSubnet": "192.168.3.0/24",
        "dnsDomain": "cluster.local",
    }
    assert documents["KubeProxyConfiguration"]["mode"] == spec.proxy_mode
    assert documents["InitConfiguration"]["localAPIEndpoint"]["advertiseAddress"] == "192.168.1.10"
    with pytest.raises(KeyError):
        file(spec, "minion1", bench_kubeadm.CONFIGURATION)


def test_minions_join_with_what_init_says(spec: Cluster) -> None:
    token = _document(bench_kubeadm.join(spec, SAID))["discovery"]["bootstrapToken"]
    assert token == {
        "token": "abcdef.0123456789abcdef",
        "apiServerEndpoint": "192.168.1.10:6443",
        "caCertHashes": [HASH],
    }


def test_an_init_that_does_not_say_how_to_join_is_a_problem(spec: Cluster) -> None:
    with pytest.raises(Problem, match="does not say how to join"):
        bench_kubeadm.join(spec, "initialized successfully!")


def test_the_clock_ends_with_two_of_our_own_conditions(spec: Cluster) -> None:
    assert [condition.name for condition in bench_kubeadm.waited_for(spec)] == ["nodes", "dns"]


def test_the_real_kubeadm_takes_both_files(spec: Cluster, tmp_path: Path) -> None:
    recipe = recipe_of("kubeadm", VERSIONS.kubernetes)
    assert recipe is not None
    cache = Cache()
    receipt = cache.receipt(recipe.key(architecture()))
    if receipt is None:
        pytest.skip("no kubeadm in the store yet: ./hardway bench --peer kubeadm builds it")
    program = cache.blob(receipt.files["kubeadm"])
    texts = (bench_kubeadm.init(spec), bench_kubeadm.join(spec, SAID))
    for number, text in enumerate(texts):
        config = tmp_path / f"{number}.yaml"
        config.write_text(text)
        done = subprocess.run(
            [program, "config", "validate", "--config", config],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "unknown field" not in done.stderr


def _document(text: str) -> Any:
    return load_yaml(text, "kubeadm.yaml")
