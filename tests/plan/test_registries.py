"""A real containerd takes images from a real registry by the files of the plan."""

import json
import shutil
import socket
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from certs.bundle import Bundle
from plan import containerd, identity, layout, runtime
from plan.material import material
from plan.registries import CONTAINERD
from probe.pulls import sentence
from tests.plan.mirror import mirror
from tests.plan.real_containerd import real_containerd
from tests.plan.registry import PASSWORD, USER, RealRegistry, certificate, real_registry
from tests.plan.running import LocalCluster
from tests.plan.shell import cluster
from tests.plan.stored import as_root
from tests.ports import free_port

UNKNOWN = "the node does not know the authority of its registry's certificate"

pytestmark = [as_root, pytest.mark.container]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("registry") / "real") as running:
        yield running


class Node:
    """A containerd with the files about registries of a plan, below a folder of its own."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self._folder, self._socket = folder, socket

    def bring(self, registries: dict[str, Any]) -> None:
        """Write the files of a plan with these registries, and no others."""
        shutil.rmtree(self._folder, ignore_errors=True)
        for file in runtime.step(cluster(registries=registries), "minion").files:
            if file.path.startswith(CONTAINERD):
                path = self._folder / file.path.removeprefix(f"{CONTAINERD}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(file.content.replace(CONTAINERD, str(self._folder)))

    def pull(self, image: str, user: str = USER, password: str = PASSWORD) -> str:
        """Pull an image as the kubelet asks for it: why it cannot be had, or nothing."""
        credentials = _field(1, user) + _field(2, password) if user else b""
        request = _field(1, _field(1, image)) + (_field(2, credentials) if credentials else b"")
        with grpc.insecure_channel(f"unix:{self._socket}") as channel:
            call = channel.unary_unary("/runtime.v1.ImageService/PullImage")
            try:
                call(request, timeout=60)
            except grpc.RpcError as error:
                return str(error.details())
        return ""


def _field(number: int, value: bytes | str) -> bytes:
    """A field of a protobuf message whose value is a text or a message."""
    content = value.encode() if isinstance(value, str) else value
    assert len(content) < 2**14
    low, high = len(content) % 128, len(content) // 128
    length = bytes([low | 128, high]) if high else bytes([low])
    return bytes([number << 3 | 2]) + length + content


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    files = runtime.step(cluster(registries={"a.example": {}}), "minion").files
    (config,) = (file.content for file in files if file.path == containerd.CONFIG)
    config = config.replace(CONTAINERD, str(folder / "certs.d"))
    with real_containerd(folder / "containerd", config) as socket:
        yield Node(folder / "certs.d", socket)


def test_an_image_comes_from_a_registry_with_its_own_authority_and_a_password(
    node: Node, registry: RealRegistry
) -> None:
    node.bring({registry.host: {"authority": registry.authority}})
    image = f"{registry.host}/shop:1"
    assert node.pull(image) == ""
    for reason in (node.pull(image, password="wrong"), node.pull(image, user="")):
        beginning, _, problem = sentence(reason).partition(": its registry ")
        assert beginning.startswith(f"the image {image} cannot be pulled")
        assert problem == (
            "refuses the password, or there is none; name a Secret with the right one under "
            "imagePullSecrets, or give the stack one (registries, user)"
        )
    assert sentence(node.pull(f"{registry.host}/shop:2")) == (
        f"the image {registry.host}/shop:2 cannot be pulled: its registry has no such image"
    )


def test_each_other_problem_has_its_sentence(node: Node, registry: RealRegistry) -> None:
    host = f"127.0.0.1:{free_port()}"  # nobody listens there
    node.bring({host: {}})
    assert "its registry does not answer" in sentence(node.pull(f"{host}/shop:1"))
    with mirror(socket.create_server(("127.0.0.1", 0))) as server:
        host = server.url("").split("/")[2]
        node.bring({host: {}})
        assert "its registry speaks http alone" in sentence(node.pull(f"{host}/shop:1"))


def test_a_change_counts_at_the_next_pull(
    node: Node, registry: RealRegistry, tmp_path: Path
) -> None:
    image = f"{registry.host}/shop:1"
    foreign = certificate(tmp_path / "foreign").read_text()
    for entry, problem in (
        ({"authority": foreign}, UNKNOWN),
        ({"authority": registry.authority}, ""),
        ({}, UNKNOWN),
        ({"insecure": True}, ""),
        ({"insecure": True, "mirrors": ["https://127.0.0.1:9"]}, "from https://127.0.0.1:9: "),
        ({"authority": f"{foreign}{registry.authority}"}, ""),
    ):
        node.bring({registry.host: entry})
        reason = node.pull(image)
        assert bool(problem) == bool(reason), entry
        assert problem in sentence(reason), entry


@pytest.mark.parametrize("name", ["registry.example", "docker.io", "_default"])
def test_an_image_comes_from_a_mirror(node: Node, registry: RealRegistry, name: str) -> None:
    mirrors = ["https://127.0.0.1:9", f"https://{registry.host}"]  # nobody listens at the first
    node.bring({name: {"mirrors": mirrors, "authority": registry.authority}})
    host = "registry.example" if name == "_default" else name
    assert node.pull(f"{host}/library/shop:1") == ""


def test_the_kubelets_file_has_the_right_password(
    node: Node, registry: RealRegistry, tmp_path: Path
) -> None:
    entry = {"authority": registry.authority, "user": USER}
    for password in (PASSWORD, "wrong"):
        passwords = {registry.host: password, "docker.io": "hub"}
        spec = cluster(registries={registry.host: entry, "docker.io": {"user": "ann"}})
        (file,) = (
            file
            for file in identity.step(spec, "minion").secret_files
            if file.path == layout.REGISTRY_CREDENTIALS
        )
        assert (file.mode, file.owner) == (0o600, "root:root")
        keys = LocalCluster(spec, tmp_path).keys
        made = material("dev", keys.authorities, Bundle({}), passwords)
        known = json.loads(made(file.source))["auths"]
        assert known.keys() == {registry.host, "https://index.docker.io/v1/"}
        user, _, shown = b64decode(known[registry.host]["auth"]).decode().partition(":")
        node.bring({registry.host: entry})
        refused = node.pull(f"{registry.host}/shop:1", user, shown)
        assert bool(refused) == (password != PASSWORD), refused
