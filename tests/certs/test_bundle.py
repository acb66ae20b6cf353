"""Bundles go into JSON and back, and never show a key."""

import json
import subprocess
from base64 import b64decode
from pathlib import Path

import pytest

from certs.bundle import Authorities, Bundle, BundleError
from certs.renewal import decided, renewed_authorities
from certs.table import Authority
from tests.certs.clusters import NOW, authorities, made, rows_of

WORLD = made("apart")


def _secrets() -> set[str]:
    """Every line of every key."""
    texts = [pair.key for bundle in WORLD.bundles.values() for pair in bundle.pairs.values()]
    texts += [signer.key for signer in WORLD.authorities.signers.values()]
    texts += [
        *(pair.private for pair in WORLD.authorities.service_accounts.keys.values()),
        *WORLD.authorities.encryption.keys.values(),
    ]
    return {line for text in texts for line in text.splitlines() if "-----" not in line and line}


def test_no_key_is_shown() -> None:
    shown = [WORLD.authorities, *WORLD.authorities.signers.values()]
    shown += [WORLD.authorities.service_accounts, WORLD]
    for name, bundle in WORLD.bundles.items():
        shown += [bundle, *bundle.pairs.values()]
        shown += decided(rows_of(WORLD.spec)[name], bundle, WORLD.authorities.signers, NOW)
    text = "".join(f"{value!r}{value!s}{value}" for value in shown)
    assert "BEGIN CERTIFICATE" in text
    assert "PRIVATE" not in text
    assert not [line for line in _secrets() if line in text]


def test_bundles_survive_json() -> None:
    for bundle in WORLD.bundles.values():
        assert Bundle.from_state(json.loads(json.dumps(bundle.state()))) == bundle
    state = json.loads(json.dumps(WORLD.authorities.state()))
    assert Authorities.from_state(state) == WORLD.authorities
    numbers = {Authority.KUBERNETES: (2, 1), Authority.ETCD: (3,)}
    turned = renewed_authorities(None, NOW, authorities=numbers)
    state = json.loads(json.dumps(turned.state()))
    assert Authorities.from_state(state) == turned
    assert [turned.numbers(authority) for authority in Authority] == [(2, 1), (3,), (1,)]


def test_all_of_a_state_is_strings() -> None:
    states = [WORLD.authorities.state(), *(bundle.state() for bundle in WORLD.bundles.values())]
    for state in states:
        for name, parts in state.items():
            assert type(name) is str
            assert all(type(key) is type(text) is str for key, text in parts.items())


@pytest.mark.parametrize(
    ("name", "part"),
    [("kubernetes", "certificate"), ("etcd", "key"), ("service-account", "private")],
)
def test_a_damaged_state_is_told_without_its_keys(name: str, part: str) -> None:
    state = WORLD.authorities.state()
    del state[name][part]
    with pytest.raises(BundleError, match=f"the state has no {part} of {name}") as caught:
        Authorities.from_state(state)
    assert not [line for line in _secrets() if line in str(caught.value)]
    with pytest.raises(BundleError, match="the state has no key of admin"):
        Bundle.from_state({"admin": {"certificate": "x"}})


def test_the_service_accounts_public_key_is_that_of_the_private_one(tmp_path: Path) -> None:
    pair = authorities().service_accounts.keys["pair1"]
    key = tmp_path / "sa.key"
    key.write_text(pair.private)
    command = ["openssl", "pkey", "-in", str(key), "-pubout"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == pair.public


def test_the_encryption_key_is_32_bytes_and_every_clusters_own() -> None:
    keys = {authorities().encryption.keys["key1"] for _ in range(3)}
    assert [len(b64decode(key, validate=True)) for key in keys] == [32, 32, 32]
