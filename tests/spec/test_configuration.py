"""A stack's file gives each key the value that the program gets, or one sentence."""

from pathlib import Path
from typing import Any

import pytest

from lab.paths import PROJECT
from spec.cluster import parse
from spec.configuration import CLUSTER, configuration
from spec.refusal import SpecError


def written(folder: Path, content: str | bytes) -> Path:
    file = folder / "Pulumi.dev.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_the_default_stack_is_read() -> None:
    read = configuration(PROJECT / "Pulumi.dev.yaml")
    assert list(read) == [CLUSTER]
    assert set(parse(read[CLUSTER], name="dev").machines) == {"master", "minion1", "minion2"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "# nothing\n",
        "config:\n",
        "config: {}\n",
        "other: 1\n",
        "config:\n  hardway:cluster:\n",
    ],
)
def test_a_file_without_a_cluster_points_to_one_that_has_it(tmp_path: Path, content: str) -> None:
    read = configuration(written(tmp_path, content))
    with pytest.raises(SpecError, match=r"a copy of Pulumi\.dev\.yaml") as caught:
        parse(read.get(CLUSTER), name="dev")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ("- config\n", "no mapping"),
        ("word\n", "no mapping"),
        ("config: []\n", "config is no mapping"),
        ("config: word\n", "config is no mapping"),
        (b"config:\n  hardway:cluster: \xe9\n", "no UTF-8 text in line 2"),
        ("config: {}\n".encode("utf-16"), "no UTF-8 text in line 1"),
        ("config:\n\ufeff  hardway:cluster: {}\n", "U+FEFF in line 2"),
        ("config:\n  hardway:cluster: {zone: 2026-01-31}\n", "a date to YAML"),
        ("config:\n  hardway:cluster: &a [*a]\n", "contains itself"),
        ("config:\n  hardway:cluster: &a {b: *a}\n", "contains itself"),
        ("config:\n  hardway:cluster: 1\n  cluster: 2\n", "under two names"),
        ("config:\n  a:b:c: 1\n", "NAMESPACE:NAME"),
        ("config:\n  hardway:cluster: {}\nconfig: {}\n", "again in line 3"),
        ("config:\n  hardway:cluster: {zone: {secure: v1:a}}\n", "without --secret"),
    ],
)
def test_what_is_no_stack_file_ends_in_one_sentence(
    tmp_path: Path, content: str | bytes, phrase: str
) -> None:
    with pytest.raises(SpecError) as caught:
        configuration(written(tmp_path, content))
    (line,) = str(caught.value).splitlines()
    assert line.startswith("Pulumi.dev.yaml")
    assert phrase in line
    assert ", so " in line
    assert "; " in line


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("config:\n  cluster: {a: 1}\n", {"a": 1}),
        ("config:\n  hardway:config:cluster: {a: 1}\n", {"a": 1}),
        ("\ufeffconfig:\r\n  hardway:cluster: {b: 2, a: 1}\r\n", {"a": 1, "b": 2}),
    ],
)
def test_a_cluster_is_found_as_pulumi_finds_it(tmp_path: Path, content: str, value: Any) -> None:
    assert configuration(written(tmp_path, content))[CLUSTER] == value
