"""kubectl reads the kubeconfig as it was meant."""

import json
import subprocess
from base64 import b64decode
from pathlib import Path

import pytest

from certs.kubeconfig import kubeconfig
from certs.table import Authority
from lab.artifacts import Store
from lab.cache import Cache
from lab.manifest import artifacts
from lab.progress import Silence
from spec.versions import versions_for
from tests.certs.clusters import PEOPLE, made


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    store = Store(Cache(), Silence(), tmp_path)
    [wanted] = [
        artifact
        for artifact in artifacts(versions_for(), store.architecture)
        if artifact.name == "kubectl"
    ]
    program = store.find(wanted)
    if not program:
        pytest.skip("the artifact store has no kubectl: ./hardway artifacts fetch")
    return program.path


@pytest.mark.parametrize("name", ["dev", "1e3", "5e12"])
def test_kubectl_reads_it(kubectl: Path, tmp_path: Path, name: str) -> None:
    world = made("single")
    pair = world.bundles[PEOPLE].pairs["admin"]
    authority = world.authorities.signers[Authority.KUBERNETES].certificate
    file = tmp_path / "kubeconfig"
    file.write_text(
        kubeconfig(
            cluster_name=name,
            server="https://192.168.1.10:6443",
            authority_pem=authority,
            certificate_pem=pair.certificate,
            key_pem=pair.key,
            user="kubernetes-admin",
        )
    )
    command = [
        str(kubectl),
        "--kubeconfig",
        str(file),
        "config",
        "view",
        "--raw",
        "--minify",
        "-o",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    view = json.loads(done.stdout)
    assert view["current-context"] == f"kubernetes-admin@{name}"
    [cluster], [user], [context] = view["clusters"], view["users"], view["contexts"]
    assert context["context"] == {"cluster": name, "user": "kubernetes-admin"}
    assert (cluster["name"], user["name"]) == (name, "kubernetes-admin")
    assert cluster["cluster"]["server"] == "https://192.168.1.10:6443"
    assert _text(cluster["cluster"]["certificate-authority-data"]) == authority
    assert _text(user["user"]["client-certificate-data"]) == pair.certificate
    assert _text(user["user"]["client-key-data"]) == pair.key


def _text(data: str) -> str:
    return b64decode(data, validate=True).decode()
