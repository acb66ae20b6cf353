"""Secrets leave a text in whatever form they stand in it; what is none stays."""

import json
import secrets
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from certs.authority import new_authority, new_service_account_pair
from certs.kubeconfig import kubeconfig
from certs.ssh import new_key_pair
from certs.table import Authority
from ops.redaction import LEFT_OUT, Redaction
from tests.certs.clusters import NOW

SIGNER = new_authority(Authority.KUBERNETES, NOW)
KEYS = {
    "ssh": new_key_pair().private,
    "pkcs8": SIGNER.key,
    "service account": new_service_account_pair().private,
}
RANDOM = b64encode(secrets.token_bytes(32)).decode()


def bodies(key: str) -> list[str]:
    """The lines of a key that nobody may see."""
    return [line for line in key.splitlines() if not line.startswith("-----")]


def shapes(key: str) -> dict[str, str]:
    return {
        "as it is": key,
        "in JSON": json.dumps({"key": key}),
        "in JSON in JSON": json.dumps(json.dumps({"key": key})),
        "indented": "key: |\n" + "".join(f"    {line}\n" for line in key.splitlines()),
        "in a log": "".join(f"Nov 21 10:00:00 m x[1]: {line}\n" for line in key.splitlines()),
        "in base64": f"data: {b64encode(key.encode()).decode()}\n",
        "without its beginning": key[70:],
        "without its end": key[:-60] + "\n",
    }


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("shape", shapes(KEYS["ssh"]))
@pytest.mark.parametrize("known", [True, False])
def test_a_key_leaves_in_every_shape(kind: str, shape: str, known: bool) -> None:
    key = KEYS[kind]
    text = f"before: it.\n{shapes(key)[shape]}\n.after: it\n"
    left = Redaction([key] if known else [])(text)
    # What was cut in half is looked for by its whole lines.
    for body in bodies(key):
        for form in (body, b64encode(body.encode()).decode()[4:-4]):
            assert form not in left
    assert b64encode(key.encode()).decode()[:60] not in left
    assert "PRIVATE KEY-----\\n" not in left
    assert left.startswith("before: it.")
    assert left.endswith(".after: it\n")


def test_known_secrets_leave_wherever_they_stand() -> None:
    bundle = json.dumps({"admin": {"certificate": SIGNER.certificate, "key": KEYS["pkcs8"]}})
    quoted = 'with "quotes" \\ in it'
    redaction = Redaction([bundle, f"  {RANDOM}\n", quoted, "short"])
    text = f"--key={RANDOM}x {KEYS['pkcs8']} a {json.dumps(quoted)} short"
    left = redaction(text)
    for gone in (RANDOM, *bodies(KEYS["pkcs8"]), "quotes"):
        assert gone not in left
    assert left.endswith(" short")


def test_a_kubeconfig_leaves_its_key_and_known_ones_their_parts() -> None:
    config = kubeconfig(
        cluster_name="dev",
        server="https://192.168.1.10:6443",
        authority_pem=SIGNER.certificate,
        certificate_pem=SIGNER.certificate,
        key_pem=KEYS["pkcs8"],
        user="admin",
    )
    encoded = b64encode(KEYS["pkcs8"].encode()).decode()
    assert encoded in config
    left = Redaction([])(config)
    assert encoded[40:80] not in left
    assert b64encode(SIGNER.certificate.encode()).decode() in left
    assert "https://192.168.1.10:6443" in left
    assert encoded[40:80] not in Redaction([config])(f"x={encoded}")
    left = Redaction([config])("\n".join(f"log: {line}" for line in bodies(KEYS["pkcs8"])))
    assert all(body not in left for body in bodies(KEYS["pkcs8"]) if len(body) >= 16)


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer TOKEN",
        "authorization: basic TOKEN",
        '{"token": "TOKEN"}',
        "token=TOKEN&x=1",
        "password: 'TOKEN'",
        "client-key-data: TOKEN",
    ],
)
def test_what_looks_like_a_token_leaves(text: str) -> None:
    token = "c2VjcmV0LXRva2VuLW9mLW5vYm9keQ"
    left = Redaction([])(text.replace("TOKEN", token))
    assert token[:8] not in left
    assert left.count(LEFT_OUT) == 1


def test_a_service_accounts_token_leaves() -> None:
    def part(value: object) -> str:
        return b64encode(json.dumps(value).encode()).decode().rstrip("=")

    token = f"{part({'alg': 'RS256', 'kid': 'x'})}.{part({'iss': 'https://kubernetes'})}.{'s' * 86}"
    left = Redaction([])(f"E1121 got {token}, refused")
    assert left == f"E1121 got {LEFT_OUT}, refused"


def test_ordinary_logs_stay() -> None:
    text = (
        "I1121 10:00:00.1 1 flags.go:64] FLAG: --tls-private-key-file=/etc/kubernetes/pki/x.key\n"
        'I1121 FLAG: --token-auth-file=""\n'
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
        "secret kube-system/x not found; master.18a3b5c6d7e8f901 Normal Ready\n"
        "sha256:3df8f794c306209590bf6b92a26c6d87b19c059417bafbdeef6e863baf61e460\n"
    )
    assert Redaction([*KEYS.values(), RANDOM])(text) == text


def test_a_large_text_takes_little_time(tmp_path: Path) -> None:
    import time

    text = ("a" * 2**20) + "\n" + "eyJ" * 2**18 + "LS0tLS1CRUdJTi" * 2**14
    redaction = Redaction(secrets.token_hex(32) for _ in range(500))
    begun = time.process_time()
    redaction(text)
    assert time.process_time() - begun < 10


def test_openssl_finds_no_key_in_what_is_left(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text(KEYS["pkcs8"])
    command = ["openssl", "pkey", "-noout", "-in", str(file)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    file.write_text(Redaction([])(KEYS["pkcs8"]))
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
