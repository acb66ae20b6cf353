"""YAML is read without losing a key."""

import pytest

from spec.document import load_yaml
from spec.refusal import SpecError


def sentences(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_yaml(text, "a.yaml")
    return str(caught.value).splitlines()


def test_a_document_is_read_by_the_core_schema() -> None:
    text = "a: &x {b: [1, 2.5, yes, ~, '1', 0o7]}\nc: *x\nd:\n  <<: *x\n  e: '2026-01-01'\n"
    shared = {"b": [1, 2.5, "yes", None, "1", 7]}
    assert load_yaml(text, "a.yaml") == {
        "a": shared,
        "c": shared,
        "d": {**shared, "e": "2026-01-01"},
    }
    assert load_yaml("", "a.yaml") is None


def test_every_key_that_stands_twice_is_told_with_its_lines() -> None:
    told_lines = sentences("a: 1\nb:\n  - c: 1\n    d: 2\n    c: 3\na: 2\n'a': {e: 1, e: 2}\n")
    assert [line.split(",")[0] for line in told_lines] == [
        "a.yaml: b.0.c stands in line 3 and again in line 5",
        "a.yaml: a stands in line 1 and again in line 6",
        "a.yaml: a stands in line 1 and again in line 7",
        "a.yaml: a.e stands in line 7 and again in line 7",
    ]
    assert all("write it once" in line for line in told_lines)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("a: [1", "in line"),
        ("a: b: c", "in line 1"),
        ("\tkey: 1", "in line 1"),
        ("a: 1\n---\nb: 2\n", "in line"),
        ("a: !!python/object:os.system x", "in line 1"),
        ("a: *nowhere", "in line 1"),
        ("a: 2026-01-31", "in quotes"),
        ("a: {2026-01-31: 1}", "in quotes"),
        ("a: .inf", "in line 1"),
        ("a:\n  1: b", "in line 2"),
        ("a: !!binary eA==", "has the tag !!binary"),
        ("a: {<<: 1}", "in line 1"),
        ("a: &x [*x]", "contains itself"),
        ("a: &x {b: {c: *x}}", "contains itself"),
        ("a: {b: what?}", "a question mark"),
        ('a: "\\nb"', "white space"),
        ("%YAML 1.2\n---\na: 1", "version"),
        ("{[1]: 2}", "in line 1"),
        ("a: \x01", "is no YAML"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(text: str, phrase: str) -> None:
    (line,) = sentences(text)
    assert line.startswith(("a.yaml ", "a.yaml: "))
    assert phrase in line
    assert ", so " in line
    assert "; " in line


def test_deep_nesting_ends_in_a_sentence() -> None:
    (line,) = sentences("[" * 1500 + "]" * 1500)
    assert "nested too deeply" in line


def test_aliases_that_multiply_end_in_a_sentence() -> None:
    levels = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (line,) = sentences("\n".join(levels))
    assert "repeated by aliases" in line
