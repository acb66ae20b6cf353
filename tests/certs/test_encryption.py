"""The EncryptionConfiguration against its schema in the Kubernetes reference (v1)."""

import json
from base64 import b64decode
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from certs.authority import new_encryption_key
from certs.bundle import Authorities, BundleError, EncryptionKeys
from certs.encryption import (
    current_configuration,
    encryption_configuration,
    whole_configuration,
)
from certs.renewal import renewed_authorities
from tests.certs.clusters import NOW, authorities


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _of_32_bytes(secret: str) -> str:
    assert len(b64decode(secret, validate=True)) == 32
    return secret


class Key(Strict):
    name: str = Field(min_length=1)
    secret: Annotated[str, AfterValidator(_of_32_bytes)]


class SecretboxKeys(Strict):
    keys: list[Key] = Field(min_length=1)


class Identity(Strict):
    pass


class Secretbox(Strict):
    secretbox: SecretboxKeys


class Clear(Strict):
    identity: Identity


class Resource(Strict):
    resources: list[str] = Field(min_length=1)
    providers: list[Secretbox | Clear] = Field(min_length=1)


class ReadConfiguration(Strict):
    api_version: Literal["apiserver.config.k8s.io/v1"] = Field(alias="apiVersion")
    kind: Literal["EncryptionConfiguration"]
    resources: list[Resource] = Field(min_length=1)


def test_secrets_are_written_with_secretbox_and_old_ones_can_be_read() -> None:
    key = new_encryption_key()
    read = ReadConfiguration.model_validate(yaml.safe_load(encryption_configuration({"key1": key})))
    [resource] = read.resources
    assert resource.resources == ["secrets"]
    first, last = resource.providers
    assert isinstance(first, Secretbox)
    assert isinstance(last, Clear)
    assert [entry.secret for entry in first.secretbox.keys] == [key]


SECRET = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
FILE = f"""\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - secrets
  providers:
  - secretbox:
      keys:
      - name: key1
        secret: {SECRET}
  - identity: {{}}
"""
"""The file of clusters that were made before the key could turn over."""


def test_a_state_from_before_has_key1_and_the_same_file() -> None:
    before = {"encryption": {"secretbox": SECRET}}
    keys = EncryptionKeys.from_state(before)
    assert (keys.keys, keys.current, keys.turn) == ({"key1": SECRET}, "key1", 0)
    assert current_configuration(keys) == FILE
    assert keys.state() == before["encryption"]


def turned(held: Authorities, number: int) -> Authorities:
    return renewed_authorities(held, NOW, number)


def test_each_key_stays_and_every_turn_counts() -> None:
    held = authorities()
    first = held.encryption.keys["key1"]
    for number, names, turn in (
        (1, {"key1"}, 0),
        (3, {"key1", "key3"}, 1),
        (3, {"key1", "key3"}, 1),
        (1, {"key1", "key3"}, 2),
        (2, {"key1", "key2", "key3"}, 3),
    ):
        held = turned(held, number)
        encryption = held.encryption
        assert (set(encryption.keys), encryption.current) == (names, f"key{number}")
        assert encryption.turn == turn
        assert encryption.keys["key1"] == first
        assert len(set(encryption.keys.values())) == len(names)
        assert Authorities.from_state(json.loads(json.dumps(held.state()))) == held
        whole = yaml.safe_load(whole_configuration(encryption))
        listed = [
            (key["name"], key["secret"])
            for key in whole["resources"][0]["providers"][0]["secretbox"]["keys"]
        ]
        assert listed[0] == (encryption.current, encryption.keys[encryption.current])
        assert dict(listed) == encryption.keys


def test_a_new_cluster_begins_with_the_key_that_it_declares() -> None:
    made = renewed_authorities(None, NOW, 5)
    assert made.encryption.keys.keys() == {"key5"}
    assert made.encryption.turn == 0
    assert Authorities.from_state(made.state()) == made
    assert "name: key5" in current_configuration(made.encryption)


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"key2": SECRET},
        {"secretbox": SECRET, "current": "key2", "turn": "1"},
        {"secretbox": SECRET, "turn": "once"},
    ],
)
def test_a_damaged_state_is_no_other_key(damaged: dict[str, str]) -> None:
    with pytest.raises(BundleError, match=r"the state has no .* of encryption"):
        EncryptionKeys.from_state({"encryption": damaged})
