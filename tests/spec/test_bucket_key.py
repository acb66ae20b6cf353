"""The access key of a bucket stands beside the cluster, as two secrets, where a bucket is."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from spec.bucket_key import FULL_KEY, demand_bucket_key
from spec.cluster import Cluster, parse
from spec.configuration import configuration
from spec.kept import written
from spec.refusal import SpecError
from tests.spec.sentences import SENTENCE

BUCKET = {"kind": "s3", "endpoint": "https://s3.example.org", "bucket": "backups"}
COPIES = {
    "host": "backup.example.org",
    "user": "keeper",
    "host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5Yk0v4e7n1oQ2p6r8s0t2u4w6y8A0C2E4G6I8K0M2O",
    "directory": "/srv/backups",
}
KEY = {"access_key_id": "NUMBER", "secret_access_key": "se+cr/et="}


def described(to: dict[str, Any] | None) -> Cluster:
    value = {
        "networks": {"machines": "192.168.1.0/24"},
        "machines": {"master": {"address": "192.168.1.10"}},
        "backup": {"to": to},
    }
    return parse(value, name="dev")


def test_a_bucket_has_a_key_and_nothing_else_has() -> None:
    demand_bucket_key(described(BUCKET), KEY)
    demand_bucket_key(described(BUCKET), {half: {"secure": "AAABAK0"} for half in KEY})
    demand_bucket_key(described(COPIES), {})
    demand_bucket_key(described(None), {})


@pytest.mark.parametrize(
    ("to", "halves", "sentences"),
    [
        (BUCKET, {}, ["has no access_key_id", "has no secret_access_key"]),
        (BUCKET, {"access_key_id": "x"}, ["has no secret_access_key, so its server would refuse"]),
        (BUCKET, {**KEY, "token": "x"}, ['"hardway:bucket".token is no half of an access key']),
        (COPIES, KEY, ["belongs to no bucket"]),
        (None, KEY, ["belongs to no bucket"]),
        *(
            (BUCKET, {**KEY, "secret_access_key": f"unshown{bad}"}, ["is empty, or has a space"])
            for bad in (" ", "\n", '"', "`", "%(x)s", "\\", "ü")
        ),
        (BUCKET, {**KEY, "access_key_id": ""}, ["access_key_id is empty, or has a space"]),
    ],
)
def test_what_does_not_fit_is_refused_and_not_repeated(
    to: dict[str, Any] | None, halves: dict[str, str], sentences: list[str]
) -> None:
    with pytest.raises(SpecError) as caught:
        demand_bucket_key(described(to), halves)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(sentences)
    for line, sentence in zip(lines, sentences, strict=True):
        assert sentence in line
        assert "unshown" not in line
        assert SENTENCE.fullmatch(line), line


SECRET = "{secure: AAABAK0}"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (f"{{access_key_id: {SECRET}, secret_access_key: plain}}", "secret_access_key is no"),
        ("{access_key_id: plain}", "access_key_id is no secret"),
        (SECRET, "is no mapping of halves to secrets"),
        ("word", "is no mapping of halves to secrets"),
    ],
)
def test_a_half_that_everybody_can_read_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(f"config:\n  {FULL_KEY}: {text}\n")
    with pytest.raises(SpecError) as caught:
        configuration(file)
    assert wrong in str(caught.value)
    assert "plain" not in str(caught.value), "it is not repeated"
    assert "config set --secret --path hardway:bucket." in str(caught.value)


def test_a_directory_by_sftp_is_kept_in_the_state_as_it_was_before_there_were_buckets() -> None:
    """Otherwise the next preview of every stack with one would show a change."""
    kept = yaml.safe_load(written(described(COPIES)))
    assert kept["backup"]["to"] == {**COPIES, "port": 22}
    assert parse(kept, name="dev") == described(COPIES)
    kept = yaml.safe_load(written(described(BUCKET)))
    assert kept["backup"]["to"].items() >= BUCKET.items()
    assert parse(kept, name="dev") == described(BUCKET)
