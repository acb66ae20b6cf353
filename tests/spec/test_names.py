"""Names and keys are judged as those judge them who have to take them."""

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lab.artifacts import Store
from lab.cache import Cache
from lab.manifest import artifacts
from lab.progress import Silence
from spec.checks.nodes import FROM_THE_MACHINE
from spec.checks.places import is_public_key
from spec.versions import versions_for
from tests.spec.sentences import refused
from tests.spec.test_refusals import changed

LABELS = {
    "tier": "front",
    "a.b_c-D9": "A.b_c-9",
    "example.org/zone": "",
    "x" * 63: "y" * 63,
    "x" * 64: "y",
    "zone": "y" * 64,
    "-zone": "a",
    "zone-": "a",
    "zo ne": "a",
    "a/b/c": "a",
    "/zone": "a",
    "Example.org/zone": "a",
    "example_org/zone": "a",
    f"{'a' * 64}.org/zone": "a",
    "zone.": "a",
    "value": "-a",
    "node-role.kubernetes.io/worker": "a",
    "node-restriction.kubernetes.io/team": "a",
    "kubernetes.io/team": "a",
    "k8s.io/team": "a",
    "team.k8s.io/a": "a",
    "node.kubernetes.io/team": "a",
    "sub.node.kubernetes.io/team": "a",
    "kubelet.kubernetes.io/team": "a",
    "topology.kubernetes.io/zone": "a",
    "topology.kubernetes.io/rack": "a",
    "beta.kubernetes.io/instance-type": "a",
    "failure-domain.beta.kubernetes.io/zone": "a",
    "notkubernetes.io/team": "a",
}


@pytest.fixture(scope="module")
def kubelet() -> Path:
    store = Store(Cache(), Silence(), Path("/nonexistent"))
    every = artifacts(versions_for(), store.architecture)
    program = store.find(next(artifact for artifact in every if artifact.name == "kubelet"))
    if program is None:
        pytest.skip("the artifact store has no kubelet: ./hardway artifacts fetch")
    return program.path


def takes(kubelet: Path, labels: dict[str, str]) -> str:
    """What kubelet says against labels: it looks at them before its configuration."""
    written = ",".join(f"{key}={value}" for key, value in labels.items())
    done = subprocess.run(
        [kubelet, f"--node-labels={written}", "--config=/nonexistent/config.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    output = done.stderr + done.stdout
    assert done.returncode != 0
    refusal = "node labels" in output or "--node-labels" in output
    assert refusal or "/nonexistent/config.yaml" in output, output[-500:]
    return output if refusal else ""


def test_labels_are_taken_as_the_real_kubelet_takes_them(kubelet: Path) -> None:
    ours = {key: refused(changed({"machines m1 labels": {key: LABELS[key]}})) for key in LABELS}
    taken = {key: LABELS[key] for key, sentences in ours.items() if not sentences}
    assert takes(kubelet, taken) == ""
    for key in LABELS.keys() - taken.keys():
        assert takes(kubelet, {key: LABELS[key]}), key


def test_what_kubelet_finds_out_itself_is_refused_though_it_would_take_it(kubelet: Path) -> None:
    labels = dict.fromkeys(sorted(FROM_THE_MACHINE - {"beta.kubernetes.io/hostname"}), "x")
    assert takes(kubelet, labels) == ""
    for key in labels:
        assert refused(changed({"machines m1 labels": {key: "x"}}))


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["ed25519", "ecdsa-256", "ecdsa-521", "rsa"],
)
def test_a_public_key_file_is_a_host_key(
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> None:
    line = (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )
    kind, encoded = line.split()
    assert is_public_key(line)
    assert is_public_key(f"{line} root@m1\n")
    another_kind = "ssh-rsa" if kind != "ssh-rsa" else "ssh-ed25519"
    for wrong in (
        encoded,
        kind,
        f"{another_kind} {encoded}",
        f"{kind} {encoded[:-3]}!",
        f"{line}\n{line}",
    ):
        assert not is_public_key(wrong)
    short = base64.b64encode(base64.b64decode(encoded)[:3]).decode()
    assert not is_public_key(f"{kind} {short}")
