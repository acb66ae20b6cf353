"""Passwords of registries stand beside the cluster, as secrets, each with a registry's user."""

from pathlib import Path
from typing import Any

import pytest

from spec.cluster import Cluster, parse
from spec.configuration import configuration
from spec.passwords import FULL_KEY, demand_passwords
from spec.refusal import SpecError
from tests.spec.sentences import SENTENCE


def described(**registries: Any) -> Cluster:
    value = {
        "networks": {"machines": "192.168.1.0/24"},
        "machines": {"master": {"address": "192.168.1.10"}},
        "registries": registries,
    }
    return parse(value, name="dev")


WITH_USER = described(**{"docker.io": {"user": "ann"}, "quay.io": {"insecure": True}})


def test_each_user_has_a_password_and_each_password_a_user() -> None:
    demand_passwords(WITH_USER, ["docker.io"])
    demand_passwords(described(), [])


@pytest.mark.parametrize(
    ("names", "sentences"),
    [
        ([], ["registries.docker.io.user has no password"]),
        (["docker.io", "quay.io"], ['"hardway:passwords".quay.io belongs to no registry with']),
        (["quay.io"], ["has no password", "belongs to no registry"]),
    ],
)
def test_what_does_not_fit_is_refused(names: list[str], sentences: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        demand_passwords(WITH_USER, names)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(sentences)
    for line, sentence in zip(lines, sentences, strict=True):
        assert sentence in line
        assert SENTENCE.fullmatch(line), line


SECRET = "{secure: AAABAK0}"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (f"{{docker.io: {SECRET}, quay.io: plain}}", "quay.io is no secret"),
        ("{docker.io: ''}", "docker.io is no secret"),
        (SECRET, "is no mapping of registries to secrets"),
        ("word", "is no mapping of registries to secrets"),
    ],
)
def test_a_password_that_everybody_can_read_is_refused(
    tmp_path: Path, text: str, wrong: str
) -> None:
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(f"config:\n  {FULL_KEY}: {text}\n")
    with pytest.raises(SpecError) as caught:
        configuration(file)
    assert wrong in str(caught.value)
    assert "plain" not in str(caught.value).replace("no mapping", ""), "it is not repeated"
    assert "config set --secret --path" in str(caught.value)


def test_secrets_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(f"config:\n  {FULL_KEY}: {{docker.io: {SECRET}}}\n")
    assert configuration(file) == {FULL_KEY: {"docker.io": {"secure": "AAABAK0"}}}
