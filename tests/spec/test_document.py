"""YAML is read without losing a key."""

import pytest
import yaml

from spec.document import load_yaml
from spec.refusal import SpecError


def sentences(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_yaml(text, "a.yaml")
    return str(caught.value).splitlines()


def test_what_is_sound_is_read_as_pyyaml_reads_it() -> None:
    text = "a: &x {b: [1, 2.5, yes, ~, '1']}\nc: *x\nd:\n  <<: *x\n  e: 2026-01-01\n"
    assert load_yaml(text, "a.yaml") == yaml.safe_load(text)
    assert load_yaml("", "a.yaml") is None
    assert load_yaml("a: &x [*x]", "a.yaml") is not None


def test_every_key_that_stands_twice_is_told_with_its_lines() -> None:
    found = sentences("a: 1\nb:\n  - c: 1\n    d: 2\n    c: 3\na: 2\n'a': 3\n")
    assert [line.split(",")[0] for line in found] == [
        "a.yaml: b.0.c stands in line 3 and again in line 5",
        "a.yaml: a stands in line 1 and again in line 6",
        "a.yaml: a stands in line 1 and again in line 7",
    ]
    assert all("write it once" in line for line in found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "in line"),
        ("a: b: c", "in line 1"),
        ("\tkey: 1", "in line 1"),
        ("a: 1\n---\nb: 2\n", "in line"),
        ("a: !!python/object:os.system x", "in line 1"),
        ("a: *nowhere", "in line 1"),
        ("a: 2026-13-45", "in quotes"),
        ("{[1]: 2}", "in line 1"),
        ("a: \x01", "is no YAML"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(text: str, words: str) -> None:
    (line,) = sentences(text)
    assert line.startswith("a.yaml ")
    assert words in line
    assert ", so it cannot be read; " in line


def test_deep_nesting_ends_in_a_sentence() -> None:
    (line,) = sentences("[" * 1500 + "]" * 1500)
    assert "nested too deeply" in line
