"""The stack's file is read here as the program gets it from the real engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from lab.paths import PROJECT
from spec import bucket_key, passwords
from spec.cluster import parse
from spec.configuration import CLUSTER, configuration
from spec.refusal import SpecError
from tests.engine.stack import EngineStack

if TYPE_CHECKING:
    from lab.toolchain import Toolchain

pytestmark = pytest.mark.engine

PROGRAM = """
cluster = pulumi.Config("hardway").get_object("cluster")
Path("seen.json").write_text(json.dumps(cluster))
"""

ALIKE = r"""
yes no on off y n Yes NO true True TRUE tRue ~ null Null NULL nULL
1e3 5e12 12e03 1E5 1e-7 1e21 1e400 1e-400 1e1_0 .5 5. +.5 -.5 .e1 . .. 0.1 1.36 2.0 1.37.1 3.0e2
123456789.123 34:8 1:2:3 0o7 0o8 0o+7 007 08 0 00 -0 -0.0 +5 -5 0x10 0X1F 0x1g 0x_1 -0x1 0b11 0b2
-0b1 -0o7 1_000 1__0 _1 1_.5 9007199254740993 9223372036854775807 9223372036854775808
18446744073709551615 18446744073709551616 99999999999999999999 0xffffffffffffffffff
-9223372036854775809 += = << a:b a#b -x ?x :x 2026-13-01 2026-1 192.168.1.10 2001:db8::1 1.2.3.4/5
'yes' "1e3" '' '~' !!str&nbsp;1 'it&nbsp;is' "\x41\u00e9\n"
"""
"""Scalars, each of which both readers give one value."""

TOGETHER = """\
      anchor: &anchor {cpus: 2, memory: 0x800, tags: [1, on]}
      alias: *anchor
      merged: {<<: *anchor, cpus: 3}
      first wins: {<<: [{a: 1}, {a: 2, b: 2}], c: 3}
      quoted merge: {'<<': *anchor}
      empty: {a: , b: {}, c: []}
      pair: [a: 1, b]
      set: {a, b}
      folded: >-
        one
        two

        three
      literal: |
        one
          two
      plain: one
        two
      on: true
      'quoted': 1 # comment
      no comment: a# b
      tab:\t1
"""

CHANGED = ["2026-01-31", "2026-1-2", "2026-01-31T10:00:00Z", "!!binary aGk=", '"\\n text"']
"""Scalars of which the engine makes another text than they look like."""

REFUSED = [
    "{a: 1, a: 2}",
    "{1: a, '1': b}",
    "&x [*x]",
    "&x {a: *x}",
    "*nowhere",
    "{<<: 1}",
    "{a: {<<: {b: 1}, <<: {b: 2}}}",
    ".inf",
    "-.Inf",
    ".nan",
    "{[a]: b}",
    "[a, , b]",
    "{a: b?}",
    "!!bool yes",
    "@a",
    "\x7f",
    "a: b",
]
"""What neither of the two reads."""


CLUSTER_OF_ONE = """\
config:
  hardway:cluster:
    networks: {machines: 192.168.1.0/24}
    machines:
      master: {address: 192.168.1.10, taints: [{key: own, effect: PreferNoSchedule}]}
"""


@pytest.fixture(scope="module")
def stack(
    toolchain: "Toolchain", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineStack]:
    """A stack of a project with this one's name, which says the same of its configuration."""
    directory = tmp_path_factory.mktemp("stack")
    project = yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())
    del project["plugins"]  # they are found beside the project's file
    (directory / "Pulumi.yaml").write_text(yaml.safe_dump({**project, "runtime": "python"}))
    made = EngineStack(directory, toolchain.pulumi, toolchain.environment())
    made.init()
    yield made
    made.end()


def written(stack: EngineStack, config: str) -> Path:
    """The stack's file, which keeps its salt."""
    file = stack.directory / "Pulumi.test.yaml"
    (salt,) = (line for line in file.read_text().splitlines() if line.startswith("encryptionsalt"))
    file.write_bytes(f"{salt}\n{config}".encode())
    return file


def engine(stack: EngineStack, config: str, *, fails: bool = False) -> tuple[Path, Any]:
    """The stack's file with this configuration, and the cluster that the program got."""
    file = written(stack, f"config:\n{config}")
    seen = stack.directory / "seen.json"
    seen.unlink(missing_ok=True)
    stack.write(PROGRAM)
    stack.preview(fails=fails)
    assert seen.exists() != fails
    return file, None if fails else json.loads(seen.read_text())


def test_both_readers_give_the_same_values(stack: EngineStack) -> None:
    scalars = {
        f"s{number}": scalar.replace("&nbsp;", " ") for number, scalar in enumerate(ALIKE.split())
    }
    lines = [f"      {key}: {text}\n" for key, text in scalars.items()]
    file, seen = engine(stack, "".join(["  hardway:cluster:\n", *lines, TOGETHER]))
    assert len(seen) > 100
    read = configuration(file)[CLUSTER]
    # Told apart as a person would read them: 2 is not 2.0, and true is not 1.
    assert {key: repr(read[key]) for key in read} == {key: repr(seen[key]) for key in seen}
    assert list(read) == list(seen)


@pytest.mark.parametrize("key", ["hardway:cluster", "hardway:config:cluster", "cluster"])
def test_the_cluster_is_found_where_the_engine_finds_it(stack: EngineStack, key: str) -> None:
    file, seen = engine(stack, f"  {key}: {{a: 1}}\n")
    assert configuration(file)[CLUSTER] == seen == {"a": 1}


@pytest.mark.parametrize("value", ["'{}'", "word", "5", "[1]", "''", ""])
def test_what_the_engine_takes_for_no_cluster_is_none(stack: EngineStack, value: str) -> None:
    file, _ = engine(stack, f"  hardway:cluster: {value}\n", fails=True)
    with pytest.raises(SpecError, match=f"^{CLUSTER} "):
        parse(configuration(file).get(CLUSTER), name="test")


def test_what_the_engine_would_change_is_refused(stack: EngineStack) -> None:
    lines = [f"      s{number}: {text}\n" for number, text in enumerate(CHANGED)]
    file, seen = engine(stack, "".join(["  hardway:cluster:\n", *lines]))
    with pytest.raises(SpecError) as caught:
        configuration(file)
    sentences = str(caught.value).splitlines()
    assert len(sentences) == len(CHANGED)
    for number, (text, sentence) in enumerate(zip(CHANGED, sentences, strict=True)):
        assert seen[f"s{number}"] != text
        assert f"in line {number + 4}" in sentence


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_engine_refuses_is_refused(stack: EngineStack, text: str) -> None:
    file, _ = engine(stack, f"  hardway:cluster:\n    a: {text}\n", fails=True)
    with pytest.raises(SpecError, match=r"in line \d|character"):
        configuration(file)


@pytest.mark.parametrize("value", ["12", "true"])
@pytest.mark.parametrize(
    ("field", "spelled"),
    [
        ("machines.master.labels.zone", "machines.master.labels.zone"),
        ("machines.master.taints.0.value", "machines.master.taints[0].value"),
    ],
)
def test_a_number_from_the_command_line_is_refused_with_what_makes_text_of_it(
    stack: EngineStack, field: str, spelled: str, value: str
) -> None:
    file = written(stack, CLUSTER_OF_ONE)
    stack.set_config("--path", f"{CLUSTER}.{spelled}", value)
    with pytest.raises(SpecError) as caught:
        parse(configuration(file)[CLUSTER], name="test")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{field} is {value}, ")
    assert "--type string" in line
    stack.set_config("--path", f"{CLUSTER}.{spelled}", value, "--type", "string")
    machine = parse(configuration(file)[CLUSTER], name="test").machines["master"]
    assert value in (machine.labels.get("zone"), machine.taints[0].value)


SECRETS = """
from pulumi.runtime.config import get_config, is_config_secret
keys = ("hardway:passwords", "hardway:bucket")
Path("seen.json").write_text(json.dumps([[get_config(key), is_config_secret(key)] for key in keys]))
"""


def test_what_is_secret_beside_the_cluster_is_what_the_program_gets(stack: EngineStack) -> None:
    file = written(stack, CLUSTER_OF_ONE)
    for name, password in (("registry.example.org:5000", "right"), ("docker.io", "hub")):
        stack.set_config("--secret", "--path", f'{passwords.FULL_KEY}["{name}"]', password)
    halves = {"access_key_id": "1234567890", "secret_access_key": "se+cr/et="}
    for half, value in halves.items():
        path = bucket_key.command(half).split()[-1]
        stack.set_config("--secret", "--path", path, value)
    config = configuration(file)
    assert config[passwords.FULL_KEY].keys() == {"registry.example.org:5000", "docker.io"}
    assert config[bucket_key.FULL_KEY].keys() == halves.keys()
    stack.write(SECRETS)
    stack.preview()
    seen = json.loads((stack.directory / "seen.json").read_text())
    (of_registries, hidden), (of_bucket, also_hidden) = seen
    assert json.loads(of_registries) == {"registry.example.org:5000": "right", "docker.io": "hub"}
    assert json.loads(of_bucket) == halves
    assert hidden
    assert also_hidden
