"""containerd and Docker: their configuration, and the images that a node must have."""

import hashlib
import json
import os
import random
import socket
import socketserver
import subprocess
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from plan import cni, containerd, docker, identity, kubelet, render, runtime
from plan.artifact import artifact
from spec.versions import catalogue
from tests.plan.container import Container
from tests.plan.real_containerd import real_containerd
from tests.plan.running import Keys
from tests.plan.shell import StandIn, cluster, stand_in
from tests.plan.stored import as_root, stored

PAUSE, COREDNS = "hardway.local/pause:1.0.0", "hardway.local/coredns:1.14.7"
HOST = {
    "systemctl": "[ $3 = systemd-resolved ] || [ $3 = containerd ]",
    "openssl": "exit 0",
}


def _config(**more: Any) -> str:
    files = runtime.step(cluster(**more), "minion").files
    return next(file.content for file in files if file.path == containerd.CONFIG)


def _containerd(config: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = folder / "config.toml"
    path.write_text(config)
    return subprocess.run(
        [stored("containerd"), "--config", path, "config", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )


def _leaves(value: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, *path, key)
    else:
        yield path, value


# -- containerd ------------------------------------------------------------------------------------


def test_containerd_takes_every_setting_as_it_was_meant(tmp_path: Path) -> None:
    done = _containerd(_config(), tmp_path, "dump")
    assert done.stderr == ""
    dumped = dict(_leaves(tomllib.loads(done.stdout)))
    known = dict(_leaves(tomllib.loads(_containerd("", tmp_path, "default").stdout)))
    for path, value in _leaves(tomllib.loads(_config())):
        assert dumped[path] == value, path
        assert path in known or path[-2] == "pinned_images", f"{path} is no setting of containerd"


def test_the_configuration_is_of_the_newest_version(tmp_path: Path) -> None:
    newest = tomllib.loads(_containerd("", tmp_path, "default").stdout)["version"]
    assert tomllib.loads(_config())["version"] == newest
    assert all(tuple(map(int, row.containerd.split(".")[:2])) >= (2, 3) for row in catalogue())


def test_a_pod_starts_with_an_image_that_the_node_has(tmp_path: Path) -> None:
    """Pitfall 11: in its old place the name of the image is taken for nothing."""
    images = "io.containerd.cri.v1.images"
    dumped = tomllib.loads(_containerd(_config(), tmp_path, "dump").stdout)["plugins"][images]
    references = {image.reference for image in runtime.images(cluster())}
    assert dumped["pinned_images"]["sandbox"] in references
    old = f"version = 4\n[plugins.'{images}']\nsandbox_image = '{PAUSE}'\n"
    dumped = tomllib.loads(_containerd(old, tmp_path, "dump").stdout)["plugins"][images]
    assert dumped["pinned_images"]["sandbox"].startswith("registry.k8s.io/")


def test_each_image_of_a_node_is_kept_from_collection() -> None:
    for addons in ({"coredns": True}, {"coredns": False}):
        step = runtime.step(cluster(addons=addons), "minion")
        config = next(file.content for file in step.files if file.path == containerd.CONFIG)
        pinned = tomllib.loads(config)["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]
        named = [line.split()[0] for line in step.settings["images"].splitlines()]
        assert sorted(pinned.values()) == sorted(named)
        assert (COREDNS in named) == addons["coredns"]


def test_both_cgroup_drivers_are_systemd() -> None:
    runc = tomllib.loads(_config())["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]
    assert runc["runtimes"]["runc"]["options"]["SystemdCgroup"] is True
    assert docker.CONFIGURATION["exec-opts"] == ["native.cgroupdriver=systemd"]
    for name in ("containerd", "docker"):
        assert kubelet.configuration(cluster(runtime=name), "minion")["cgroupDriver"] == "systemd"


@pytest.mark.parametrize("name", ["containerd", "docker"])
def test_pods_outlive_the_runtime(name: str) -> None:
    for unit in runtime.step(cluster(runtime=name), "minion").units:
        assert unit.service["KillMode"] == "process"
        assert unit.service["Delegate"] == "yes"


@pytest.mark.parametrize("name", ["containerd", "docker"])
def test_the_kubelet_calls_the_socket_on_which_the_runtime_listens(name: str) -> None:
    spec = cluster(runtime=name)
    endpoint = kubelet.configuration(spec, "minion")["containerRuntimeEndpoint"]
    step = runtime.step(spec, "minion")
    if name == "containerd":
        config = tomllib.loads(_config())
        assert endpoint == f"unix://{config['plugins']['io.containerd.server.v1.grpc']['address']}"
    else:
        assert endpoint == step.units[-1].flags["container-runtime-endpoint"]
    assert step.units[-1].name in kubelet.unit(spec, "minion").after


@pytest.mark.parametrize("name", ["containerd", "docker"])
def test_the_runtime_looks_for_plugins_where_they_are_linked(name: str) -> None:
    spec = cluster(runtime=name)
    folders = {link.path.rpartition("/")[0] for link in cni.links(spec)}
    if name == "containerd":
        config = tomllib.loads(_config())["plugins"]["io.containerd.cri.v1.runtime"]["cni"]
        assert isinstance(config["bin_dirs"], list)
        assert (set(config["bin_dirs"]), config["conf_dir"]) == (folders, cni.FOLDER)
    else:
        flags = docker.units(spec)[-1].flags
        assert ({flags["cni-bin-dir"]}, flags["cni-conf-dir"]) == (folders, cni.FOLDER)


# -- containerd's images ---------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> Iterator[StandIn]:
    """A machine with a real containerd, whose calls by ctr are written down."""
    with real_containerd(tmp_path / "containerd", _config()) as address:
        real = f'exec {stored("ctr")} --address {address} "$@" 2> >(grep -v DEPRECATION >&2)'
        yield stand_in(tmp_path, **HOST, ctr=real)


def _settings(node: StandIn, digest: str = "d1") -> dict[str, str]:
    return {
        "resolver": str(node.folder / "resolv.conf"),
        "images": f"{PAUSE} {digest} {stored('pause')}",
    }


@as_root
def test_an_image_is_imported_once_and_again_when_its_archive_changed(running: StandIn) -> None:
    step = runtime.step(cluster(), "master")
    wanted = {"d1": 1, "d2": 1}
    for digest in wanted:
        for imports in (1, 0, 0):
            outcome = running.run(step, **_settings(running, digest))
            assert (outcome.code, outcome.output, outcome.errors) == (0, "", "")
            assert sum("images import" in call for call in outcome.of("ctr")) == imports
    listed = subprocess.run(
        [running.folder / "programs" / "ctr", "-n", "k8s.io", "images", "list"],
        capture_output=True,
        text=True,
        env={"CALLS": "/dev/null", "PATH": os.environ["PATH"]},
    ).stdout
    row = next(line for line in listed.splitlines() if line.startswith(PAUSE))
    assert "hardway/archive=d2" in row
    assert "io.cri-containerd.pinned=pinned" in row


@as_root
def test_an_import_that_was_cut_off_is_made_again(running: StandIn) -> None:
    step, settings = runtime.step(cluster(), "master"), _settings(running)
    cut = 'case "$*" in *"images label"*) kill -KILL $PPID; exit;; esac\n'
    outcome = running.with_programs(ctr=cut + running.programs["ctr"]).run(step, **settings)
    assert outcome.code != 0
    outcome = running.run(step, **settings)
    assert (outcome.code, outcome.errors) == (0, "")
    assert sum("images import" in call for call in outcome.of("ctr")) == 1


@as_root
def test_an_archive_that_is_none_is_told(running: StandIn) -> None:
    broken = running.folder / "broken"
    broken.write_text("no archive")
    step, settings = runtime.step(cluster(), "master"), _settings(running)
    outcome = running.run(step, **settings | {"images": f"{PAUSE} d1 {broken}"})
    assert outcome.code == 1
    assert outcome.errors.startswith(f"failed: containerd does not take the image {PAUSE}: ")


# -- the whole step --------------------------------------------------------------------------------

KERNEL = ("modprobe", "sysctl", "swapoff")
"""What a container may not change is replaced."""


@as_root
def test_the_step_is_done_wherever_it_was_cut_off_and_is_done_once(
    new_machine: Callable[..., Container],
) -> None:
    names = ("containerd", "ctr", "containerd-shim-runc-v2", "runc", "pause")
    digests = {name: hashlib.sha256(stored(name).read_bytes()).hexdigest() for name in names}
    own = {f"{name}-{artifact(cluster(), name).version}": digests[name] for name in names}
    spec = cluster(
        addons={"coredns": False}, artifacts={"digests": own | {"cri-dockerd-0.4.0": "0" * 64}}
    )
    step = runtime.step(spec, "master")
    machine, text = new_machine(), render.text(step)
    keys = Keys(spec)
    pairs = keys.of("master")
    for program in KERNEL:
        machine.write(f"/usr/local/sbin/{program}", "#!/bin/sh\n", 0o755)
    for needed in step.artifacts:
        machine.write(needed.store_path, stored(needed.name).read_bytes(), 0o755)
    machine.run(
        render.text(identity.step(spec, "master"), lambda source: keys.content(source, pairs))
    )
    chance = random.Random(4)
    for seconds in sorted(chance.uniform(0, 3) for _ in range(3)):
        machine.run(text, seconds=seconds)
    runs = []
    for _ in range(2):
        done = machine.run(text)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{step.outcome}\n", "")
        runs.append((machine.settled(containerd.UNIT), machine.call(*IMAGES)))
    assert runs[0] == runs[1]
    assert PAUSE in runs[0][1]


IMAGES = ("ctr", "--namespace", "k8s.io", "images", "list")


# -- Docker ----------------------------------------------------------------------------------------

CRI_DOCKERD_FLAGS = {
    *("buildinfo", "cni-bin-dir", "cni-cache-dir", "cni-conf-dir", "container-runtime-endpoint"),
    *("cri-dockerd-root-directory", "docker-endpoint", "hairpin-mode", "help", "log-level"),
    *("image-pull-progress-deadline", "ipv6-dual-stack", "network-plugin", "network-plugin-mtu"),
    *("pod-cidr", "pod-infra-container-image", "runtime-cgroups", "runtime-request-timeout"),
    *("streaming-bind-addr", "version"),
}
"""Of 0.4.0, from its source (config/options.go, cmd/cri/options/options.go, cmd/server.go)."""


def test_cri_dockerd_knows_its_flags() -> None:
    unit = docker.units(cluster(runtime="docker"))[-1]
    assert unit.flags.keys() <= CRI_DOCKERD_FLAGS
    assert all(row.cri_dockerd == "0.4.0" for row in catalogue()), "record the flags of the new one"


def test_cri_dockerd_streams_to_the_kubelet_alone() -> None:
    assert docker.units(cluster(runtime="docker"))[-1].flags["streaming-bind-addr"] == "127.0.0.1"


def test_docker_has_no_rules_or_network_of_its_own() -> None:
    files = runtime.step(cluster(runtime="docker"), "minion").files
    config = json.loads(next(file.content for file in files if file.path == docker.CONFIG))
    assert (config["iptables"], config["ip6tables"], config["bridge"]) == (False, False, "none")


def test_docker_needs_no_artifact_of_containerd() -> None:
    step = runtime.step(cluster(runtime="docker"), "minion")
    assert {needed.name for needed in step.artifacts} == {"cri-dockerd", "pause", "coredns"}


class _Engine(BaseHTTPRequestHandler):
    """What the script asks of Docker's Engine API, and the images that it was given."""

    protocol_version = "HTTP/1.1"
    images: ClassVar[dict[str, str]]
    keepers: ClassVar[dict[str, str]]
    """The ID of a container to that of its image."""
    loads: ClassVar[int]
    refuses: ClassVar[bool]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        name = url.path.removeprefix("/images/").removesuffix("/json")
        if name == "/containers":
            asked = json.loads(parse_qs(url.query)["filters"][0])["label"][0]
            label, _, image = asked.partition("=")
            matching = [keeper for keeper in self.keepers.items() if image in ("", keeper[1])]
            rows = [
                {"Id": container, "ImageID": of, "Labels": {label: of}}
                for container, of in matching
            ]
            self._say(200, json.dumps(rows, separators=(",", ":")))
            return
        if self.path == "/_ping":
            self._say(200, "OK")
        elif name in self.images:
            self._say(200, f'{{"Id":"{self.images[name]}","RepoTags":["{name}"]}}')
        else:
            self._say(404, json.dumps({"message": f"No such image: {name}"}))

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/containers/create"):
            wanted = json.loads(content)
            of = self.images[wanted["Image"]]
            assert wanted["Labels"] == {"hardway.image": of}
            container = f"{len(self.keepers):063x}{self.loads:x}"
            self.keepers[container] = of
            self._say(201, f'{{"Id":"{container}","Warnings":[]}}')
            return
        type(self).loads += 1
        if self.refuses:
            self._say(200, json.dumps({"errorDetail": {"message": "x"}, "error": "no space left"}))
            return
        self.images[content.decode()] = f"sha256:{self.loads:064x}"
        self._say(200, json.dumps({"stream": "Loaded image"}))

    def do_DELETE(self) -> None:
        del self.keepers[self.path.removeprefix("/containers/")]
        self._say(204, "")

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def address_string(self) -> str:
        return "socket"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, Any]:
        request, _ = super().get_request()
        return request, ("socket", 0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[type[_Engine]]:
    class Engine(_Engine):
        images: ClassVar[dict[str, str]] = {}
        keepers: ClassVar[dict[str, str]] = {}
        loads = 0
        refuses = False

    with _Server(str(tmp_path / "socket"), Engine) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Engine
        server.shutdown()


@pytest.fixture
def docker_node(tmp_path: Path, engine: type[_Engine]) -> StandIn:
    assert engine.loads == 0
    active = '[ "$1" = is-active ] || [ $3 = systemd-resolved ]'
    (tmp_path / "archive").write_text(PAUSE)
    return stand_in(tmp_path, **HOST | {"systemctl": active, "ip": "exit 1"})


def _docker_settings(node: StandIn, digest: str = "d1") -> dict[str, str]:
    return {
        "resolver": str(node.folder / "resolv.conf"),
        "images": f"{PAUSE} {digest} {node.folder / 'archive'}",
        "docker_socket": str(node.folder / "socket"),
    }


DOCKER = runtime.step(cluster(runtime="docker"), "master")


def test_docker_loads_an_image_once(docker_node: StandIn, engine: type[_Engine]) -> None:
    for digest, loads in (("d1", 1), ("d1", 1), ("d2", 2), ("d2", 2)):
        outcome = docker_node.run(DOCKER, **_docker_settings(docker_node, digest))
        assert (outcome.code, outcome.output, outcome.errors) == (0, "", "")
        assert engine.loads == loads
        assert list(engine.keepers.values()) == [engine.images[PAUSE]]


@pytest.mark.parametrize("images", [{}, {PAUSE: "sha256:" + "f" * 64}])
def test_docker_loads_an_image_again_that_is_gone_or_another(
    docker_node: StandIn, engine: type[_Engine], images: dict[str, str]
) -> None:
    outcome = docker_node.run(DOCKER, **_docker_settings(docker_node))
    assert (outcome.code, engine.loads) == (0, 1)
    engine.images = images
    outcome = docker_node.run(DOCKER, **_docker_settings(docker_node))
    assert (outcome.code, outcome.errors, engine.loads) == (0, "", 2)


def test_a_refusal_of_docker_is_told_although_its_status_is_a_success(
    docker_node: StandIn, engine: type[_Engine]
) -> None:
    engine.refuses = True
    outcome = docker_node.run(DOCKER, **_docker_settings(docker_node))
    assert outcome.code == 1
    assert f"Docker does not take the image {PAUSE}" in outcome.errors
    assert "no space left" in outcome.errors


def test_an_archive_of_another_image_is_told(docker_node: StandIn) -> None:
    (docker_node.folder / "archive").write_text("hardway.local/other:1")
    outcome = docker_node.run(DOCKER, **_docker_settings(docker_node))
    assert outcome.code == 1
    assert f"has no image {PAUSE}" in outcome.errors


@pytest.mark.parametrize("there", [True, False])
def test_what_another_docker_left_is_removed_where_it_is(docker_node: StandIn, there: bool) -> None:
    node = docker_node.with_programs(ip=f"exit {int(not there)}")
    outcome = node.run(DOCKER, **_docker_settings(node))
    assert outcome.of("iptables") == (["iptables --wait --policy FORWARD ACCEPT"] if there else [])
    assert ("ip link delete docker0" in outcome.calls) == there


def test_images_are_named_as_the_store_names_them() -> None:
    spec = cluster()
    for line in DOCKER.settings["images"].splitlines():
        reference, digest, path = line.split()
        image = artifact(spec, reference.split("/")[1].split(":")[0])
        assert (image.reference, image.sha256, image.store_path) == (reference, digest, path)
