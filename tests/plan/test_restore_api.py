"""A restore below a real API server and a real controller manager, under a machine's systemd."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from certs.authority import new_authority
from certs.encryption import encryption_configuration
from certs.table import Authority
from ops import snapshot
from ops.restore import Doing, Restoration
from plan import control_plane, etcd, identity, render
from plan.model import AllEncryptionKeys, AuthorityCertificate, Source, Step
from spec.cluster import ArtifactSource
from tests.certs.clusters import SINGLE
from tests.engine.stack import eventually
from tests.plan.container import Container, Memory, quiet
from tests.plan.running import Keys, stored_program
from tests.plan.stored import as_root
from tests.plan.test_restore import ContainedMachines

pytestmark = [as_root, pytest.mark.timeout(1800)]

NODE = "master"


class RestoredControlPlane:
    """A machine with etcd and a control plane, without a kubelet."""

    def __init__(self, container: Container) -> None:
        self.machine = container
        files = {
            name: stored_program(name, SINGLE.versions)
            for name in (*etcd.PROGRAMS, *control_plane.PROGRAMS)
        }
        own = {
            f"{name}-{SINGLE.versions.etcd if name in etcd.PROGRAMS else SINGLE.kubernetes}": (
                hashlib.sha256(path.read_bytes()).hexdigest()
            )
            for name, path in files.items()
        }
        self.spec = SINGLE.model_copy(update={"artifacts": ArtifactSource(digests=own)})
        self.keys = Keys(self.spec)
        self._pairs = {**self.keys.of(NODE), **self.keys.of_people()}
        container.call("ip", "address", "add", "192.168.1.10/24", "dev", "lo")
        for step in self.steps():
            for artifact in step.artifacts:
                container.write(artifact.store_path, files[artifact.name].read_bytes(), 0o755)
        container.write("/root/admin.crt", self._pairs["super-admin"].certificate)
        container.write("/root/admin.key", self._pairs["super-admin"].key, 0o600)
        for step in self.steps():
            done = container.run(render.text(step, self.content))
            assert (done.returncode, done.stderr) == (0, ""), done.stdout

    def steps(self) -> tuple[Step, ...]:
        spec = self.spec
        return (
            identity.step(spec, NODE),
            etcd.step(spec, NODE),
            control_plane.step(spec, NODE),
        )

    def content(self, source: Source) -> str:
        return self.keys.content(source, self._pairs)

    def api(self, path: str, *more: str) -> Any:
        """The API's answer; None where it gives none or refuses."""
        call = ("curl", "--silent", "--fail", "--cacert", "/etc/kubernetes/pki/ca.crt")
        done = self.machine.start(
            *call,
            "--cert",
            "/root/admin.crt",
            "--key",
            "/root/admin.key",
            f"https://192.168.1.10:6443{path}",
            *more,
        )
        output, _ = done.communicate("")
        return json.loads(output) if done.returncode == 0 and output.startswith("{") else None

    def create(self, path: str, kind: str, name: str, **more: Any) -> Any:
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **more}
        headers = ("--header", "Content-Type: application/json", "--data", json.dumps(body))
        return self.api(path, *headers)

    def names(self, path: str) -> set[str]:
        answer = self.api(path)
        return {item["metadata"]["name"] for item in answer["items"]} if answer else set()


@pytest.fixture(scope="module")
def plane(memory: Memory) -> Iterator[RestoredControlPlane]:
    with Container(memory, prepare=quiet) as container:
        yield RestoredControlPlane(container)


MAPS = "/api/v1/namespaces/default/configmaps"
BEHIND = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"


def trust_another(plane: RestoredControlPlane) -> None:
    """Have programs behind the API trust an authority that the cluster had before."""
    former = new_authority(Authority.KUBERNETES, datetime.now(UTC)).certificate
    own = plane.api(BEHIND)["data"]["client-ca-file"]
    header = ("--request", "PATCH", "--header", "Content-Type: application/merge-patch+json")
    body = json.dumps({"data": {"client-ca-file": own + former}})
    assert plane.api(BEHIND, *header, "--data", body)["data"]["client-ca-file"] == own + former


def test_objects_come_back_controllers_go_on_and_revisions_never_go_back(
    plane: RestoredControlPlane, tmp_path: Path
) -> None:
    eventually("the namespace is there", lambda: "default" in plane.names("/api/v1/namespaces"))
    plane.create(MAPS, "ConfigMap", "kept", data={"of": "before"})
    secrets = "/api/v1/namespaces/default/secrets"
    plane.create(secrets, "Secret", "word", stringData={"word": "of before"})
    trust_another(plane)
    ctl = "ETCDCTL_ENDPOINTS=https://127.0.0.1:2379 etcdctl " + " ".join(
        f"--{word}={file}"
        for word, file in zip(("cacert", "cert", "key"), etcd.OPERATOR, strict=True)
    )
    plane.machine.run(f"{ctl} snapshot save /root/snapshot.db")
    path = tmp_path / "snapshot.db"
    path.write_bytes(plane.machine.path("/root/snapshot.db").read_bytes())

    # What the API server has encrypted is read with the state's key, and with no other.
    held = snapshot.read(path, plane.content(AllEncryptionKeys()))
    assert held.encrypted == {"secretbox key1": 1}
    assert held.unreadable == {}
    another = snapshot.read(path, encryption_configuration({"key1": "A" * 43 + "="}))
    assert another.unreadable == {"secretbox key1": 1}

    plane.api(f"{MAPS}/kept", "--request", "DELETE")
    since = plane.create(MAPS, "ConfigMap", "since")
    last = int(since["metadata"]["resourceVersion"])

    restoration = Restoration(
        cast(Any, SimpleNamespace(spec=plane.spec)), path, held, plane.keys.authorities
    )
    doing = Doing(cast(Any, ContainedMachines({NODE: plane.machine})), "")
    asyncio.run(restoration.members(doing))
    asyncio.run(restoration.control_planes(doing))

    eventually("the API answers", lambda: "kept" in plane.names(MAPS))
    assert "since" not in plane.names(MAPS)
    own = plane.content(AuthorityCertificate("kubernetes"))
    eventually(
        "programs behind the API trust the cluster's authority alone",
        lambda: (plane.api(BEHIND) or {"data": {}})["data"].get("client-ca-file") == own,
    )
    listed = plane.api(f"{MAPS}?resourceVersion=0")
    assert {item["metadata"]["name"] for item in listed["items"]} >= {"kept"}
    assert "since" not in {item["metadata"]["name"] for item in listed["items"]}
    assert int(listed["metadata"]["resourceVersion"]) > last
    assert plane.api(f"{secrets}/word")["data"]["word"] == "b2YgYmVmb3Jl"
    after = plane.create(MAPS, "ConfigMap", "after")
    assert int(after["metadata"]["resourceVersion"]) > last
    # The controller manager serves what is new.
    plane.create("/api/v1/namespaces", "Namespace", "new")
    eventually(
        "a new namespace has its service account",
        lambda: "default" in plane.names("/api/v1/namespaces/new/serviceaccounts"),
    )
