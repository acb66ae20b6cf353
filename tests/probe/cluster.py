"""A real etcd and a real API server on the loopback interface, and kubelets' objects."""

import ssl
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx

from certs.bundle import Pair
from certs.kubeconfig import kubeconfig
from certs.table import Authority
from plan import apiserver, control_plane, etcd
from plan.addons.coredns import NAMESPACE, SELECTOR
from probe.access import Access
from tests.certs.clusters import SINGLE
from tests.engine.stack import eventually
from tests.plan.running import LocalCluster, LocalMachine, programs
from tests.probe.machine import access, answering, one_key

VERSION = f"v{SINGLE.versions.kubernetes}"


class RunningCluster:
    """The default stack's master without its node, and SSH servers for m1 and m2."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.local = LocalCluster(SINGLE, folder)
        self.keys = self.local.keys
        master = LocalMachine(self.local, "master")
        member, step = etcd.step(SINGLE, "master"), control_plane.step(SINGLE, "master")
        master.furnish(member, step)
        stack.enter_context(master.running(member.units[0]))
        stack.enter_context(master.running(apiserver.unit(SINGLE, "master")))
        path = programs(folder / "bin", SINGLE, ("etcdctl",))
        self.servers = {
            name: stack.enter_context(answering(folder / name, master.root, path))
            for name in ("m1", "m2")
        }
        one_key(self.servers)
        self.client = stack.enter_context(self._client(folder))
        self._await_readiness(master)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.local.ports['master', 6443]}"

    def kubeconfig(self, *, pair: Pair | None = None, authority: str | None = None) -> str:
        trusted = authority or self.keys.signers[Authority.KUBERNETES].certificate
        mine = pair or self.keys.of_people()["super-admin"]
        return kubeconfig(
            cluster_name="test",
            server=self.url,
            authority_pem=trusted,
            certificate_pem=mine.certificate,
            key_pem=mine.key,
            user="somebody",
        )

    @property
    def access(self) -> Access:
        return access(self.kubeconfig(), **self.servers)

    def _client(self, folder: Path) -> httpx.Client:
        pair = self.keys.of_people()["super-admin"]
        file = folder / "admin.pem"
        file.write_text(pair.certificate + pair.key)
        context = ssl.create_default_context(
            cadata=self.keys.signers[Authority.KUBERNETES].certificate
        )
        context.load_cert_chain(file)
        return httpx.Client(base_url=self.url, verify=context, timeout=120)

    def _await_readiness(self, master: LocalMachine) -> None:
        def ready() -> bool:
            with suppress(httpx.HTTPError):
                return self.client.get("/readyz").is_success
            return False

        eventually("it is ready", ready, reason=lambda: master.log.read_text()[-2000:])
        # The controller manager, which makes this account, does not run.
        self.post(
            f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": "default"}}
        )

    def post(self, path: str, value: dict[str, Any]) -> None:
        answer = self.client.post(path, json=value)
        assert answer.status_code == 201, answer.text

    def status(self, path: str, value: dict[str, Any]) -> None:
        answer = self.client.patch(
            f"{path}/status",
            json={"status": value},
            headers={"content-type": "application/merge-patch+json"},
        )
        assert answer.is_success, answer.text

    def node(self, name: str, ready: str, version: str = VERSION, message: str = "") -> None:
        """A Node as its kubelet leaves it."""
        if self.client.get(f"/api/v1/nodes/{name}").status_code == 404:
            self.post("/api/v1/nodes", {"metadata": {"name": name}})
        self.status(
            f"/api/v1/nodes/{name}",
            {
                "conditions": [{"type": "Ready", "status": ready, "message": message}],
                "nodeInfo": dict.fromkeys(NODE_INFO, "x") | {"kubeletVersion": version},
            },
        )

    def pod(self, name: str, node: str, status: dict[str, Any]) -> None:
        """A pod of CoreDNS as a kubelet leaves it."""
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        if self.client.get(f"{pods}/{name}").status_code == 404:
            spec = {"nodeName": node, "containers": [{"name": "coredns", "image": "none"}]}
            self.post(pods, {"metadata": {"name": name, "labels": SELECTOR}, "spec": spec})
        self.status(f"{pods}/{name}", status)

    def remove(self, path: str) -> None:
        self.client.delete(path, params={"gracePeriodSeconds": "0"})

    def remove_all(self) -> None:
        self.remove("/api/v1/nodes")
        self.remove(f"/api/v1/namespaces/{NAMESPACE}/pods")


def running(address: str, ready: str = "True") -> dict[str, Any]:
    """The status of a pod that runs."""
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": ready}],
    }


NODE_INFO = (
    "architecture",
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
)
