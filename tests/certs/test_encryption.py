"""The EncryptionConfiguration against its schema in the Kubernetes reference (v1)."""

from base64 import b64decode
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from certs.authority import new_encryption_key
from certs.encryption import encryption_configuration


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
    read = ReadConfiguration.model_validate(yaml.safe_load(encryption_configuration(key)))
    [resource] = read.resources
    assert resource.resources == ["secrets"]
    first, last = resource.providers
    assert isinstance(first, Secretbox)
    assert isinstance(last, Clear)
    assert [entry.secret for entry in first.secretbox.keys] == [key]
