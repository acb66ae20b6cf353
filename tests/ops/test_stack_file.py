"""A file that is no stack's file ends in one sentence, whatever verb reads it."""

import subprocess

import pytest

from tests.checkout import Checkout

NO_STACK = {
    "no keys": (b"config:\n", "a copy of Pulumi.dev.yaml"),
    "nothing": (b"", "a copy of Pulumi.dev.yaml"),
    "no value": (b"config:\n  hardway:cluster:\n", "a copy of Pulumi.dev.yaml"),
    "a list": (b"- config\n", "no mapping"),
    "a word": (b"config\n", "no mapping"),
    "Latin-1": (b"config:\n  hardway:cluster: \xe9\n", "no UTF-8 text in line 2"),
    "a date": (
        b"config:\n  hardway:cluster:\n    machines: {m: {labels: {built: 2026-01-31}}}\n",
        "in line 3 is a date to YAML",
    ),
    "a knot": (b"config:\n  hardway:cluster: &a {b: *a}\n", "contains itself"),
    "twice": (
        b"config:\n  hardway:cluster:\n    machines:\n      m: {}\n      m: {}\n",
        "stands in line 4 and again in line 5",
    ),
}

READERS = (
    ("up",),
    ("preview",),
    ("preview", "--live"),
    ("validate",),
    ("drift",),
    ("kubectl", "get", "nodes"),
    ("kubeconfig",),
    ("ssh", "m"),
    ("diagnose",),
    ("env",),
    ("picture",),
    ("pulumi", "preview"),
    ("pulumi", "config"),
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


def said_of(checkout: Checkout, content: bytes, *arguments: str) -> str:
    """The one sentence with which a verb ends."""
    (checkout.folder / "Pulumi.dev.yaml").write_bytes(content)
    done: subprocess.CompletedProcess[str] = checkout.run("./hardway", *arguments)
    assert done.returncode != 0, done.stdout
    message = " ".join(done.stderr.split())
    assert message.startswith("Error: "), message
    assert message.endswith("."), message
    assert "Traceback" not in message
    assert "config set" not in message
    assert not checkout.state.exists(), "nothing was made before"
    return message


@pytest.mark.parametrize(
    ("verb", "kind"),
    [*(("up", kind) for kind in NO_STACK), ("preview", "nothing"), ("preview", "twice")],
)
def test_what_is_no_stack_file_is_one_sentence(checkout: Checkout, verb: str, kind: str) -> None:
    content, phrase = NO_STACK[kind]
    assert phrase in said_of(checkout, content, verb)


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_every_verb_that_reads_it_says_so(checkout: Checkout, arguments: tuple[str, ...]) -> None:
    content, expected = NO_STACK["Latin-1"]
    assert expected in said_of(checkout, content, *arguments)


def test_doctor_says_so_beside_all_else(checkout: Checkout) -> None:
    (checkout.folder / "Pulumi.dev.yaml").write_bytes(NO_STACK["Latin-1"][0])
    done = checkout.run("./hardway", "doctor")
    assert done.returncode == 1
    assert "UTF-8" in done.stdout
    assert "Traceback" not in done.stderr
