"""``./hardway pulumi``: the stack that is named, and what would go past the engine's refusals."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from lab.command_line import read
from lab.problem import Problem
from lab.stack import Stack
from ops import pulumi
from ops.pulumi import refusals
from tests.checkout import Checkout
from tests.ops.conftest import CLUSTER

URN = "urn:pulumi:dev::hardway::"
TOP = f"{URN}hardway:index:Cluster"
SPECIFICATION = f"{TOP}$pulumi-python:dynamic/hardway:Specification::specification"
VOLUME = f"{TOP}$hardway:index:Machine$libvirt:index/volume:Volume::"


def refused(*arguments: str, members: Sequence[str] = ("master",)) -> list[str]:
    return [str(problem) for problem in refusals(read(arguments), "dev", lambda: members)]


@pytest.mark.parametrize("verb", ["up", "update", "preview", "pre"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("--target", f"{VOLUME}minion1-disk"),
        ("-t", f"{TOP}$hardway:index:Machine::minion1"),
        (f"--target={TOP}$hardway:index:*::minion1",),
        ("--target-replace", f"{VOLUME}minion1-disk"),
        ("--exclude", SPECIFICATION),
        ("--exclude", "**specification"),
        ("--exclude", "**"),
    ],
)
def test_what_leaves_the_specification_out_is_refused(
    verb: str, arguments: tuple[str, ...]
) -> None:
    (sentence,) = refused(verb, *arguments)
    assert "the specification goes past its check" in sentence


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--target", SPECIFICATION, "--target", f"{VOLUME}minion1-disk"),
        ("-t", "**::specification", "-t", f"{VOLUME}minion1-disk"),
        ("--exclude", f"{VOLUME}minion1-disk"),
        ("--exclude", "*"),
        ("--replace", f"{VOLUME}minion1-disk"),
    ],
)
def test_what_has_the_specification_in_it_is_not(arguments: tuple[str, ...]) -> None:
    assert refused("up", *arguments) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--replace", f"{VOLUME}master-disk"),
        ("up", "--replace=**::master-disk"),
        ("up", "--replace", "**"),
        ("up", "--target-replace", f"{VOLUME}master-disk", "-t", SPECIFICATION),
        ("preview", "--replace", f"{VOLUME}master-disk"),
        ("destroy", "--target", f"{VOLUME}master-disk"),
        ("state", "taint", "-y", f"{VOLUME}master-disk"),
        ("--color", "never", "state", "taint", f"{VOLUME}minion1-disk", f"{VOLUME}master-disk"),
    ],
)
def test_a_member_s_disk_is_not_made_anew(arguments: tuple[str, ...]) -> None:
    (sentence,) = refused(*arguments)
    assert "of the disk of master loses all that the cluster knows" in sentence
    (sentence,) = refused(*arguments, members=("master", "other"))[:1]
    assert "of the disk of master loses what this member of etcd has agreed to" in sentence


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--replace", f"{VOLUME}minion1-disk"),
        ("up", "--replace", f"{TOP}$hardway:index:Machine$libvirt:index/domain:Domain::master"),
        ("state", "untaint", f"{VOLUME}master-disk"),
        ("refresh", "--target", f"{VOLUME}master-disk"),
        ("destroy",),
    ],
)
def test_what_loses_nothing_is_passed_on(arguments: tuple[str, ...]) -> None:
    assert refused(*arguments) == []


@pytest.mark.parametrize("verb", ["rm", "remove", "delete"])
def test_the_specification_stays_in_the_state(verb: str) -> None:
    (sentence,) = refused("state", verb, SPECIFICATION)
    assert "nothing would be refused any more" in sentence
    assert refused("state", verb, f"{VOLUME}minion1-disk") == []


SPEC = """\
from pathlib import Path
import pulumi
from pulumi import dynamic

class Provider(dynamic.ResourceProvider):
    def create(self, props):
        return dynamic.CreateResult("it", props)

class Specification(dynamic.Resource, module="hardway", name="Specification"):
    pass

spec = Path("applied").read_text()
Specification(Provider(), "specification", {"spec": spec})
"""
APPLIED = """\
name: dev
networks: {machines: 192.168.1.0/24}
hypervisor: {uri: "qemu:///system", image: base}
machines:
  old: {address: 192.168.1.10, roles: [control-plane, etcd]}
  more: {address: 192.168.1.11, roles: [minion]}
"""


@pytest.mark.engine
def test_the_members_are_those_that_were_applied(stack: Stack) -> None:
    assert pulumi._members(stack) == ("master",), "of the file, where there is no state"
    folder = stack.file.parent
    (folder / "applied").write_text(APPLIED)
    (folder / "__main__.py").write_text(SPEC)
    stack.create()
    done = stack.pulumi("up", "--yes", "--skip-preview", capture=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert pulumi._members(stack) == ("old",)


@pytest.mark.engine
def test_the_stack_that_is_named_gets_its_own_description(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    (checkout.folder / "__main__.py").write_text(
        "import pulumi\n"
        "pulumi.export('it', pulumi.get_stack() + pulumi.Config('a').require('it'))\n"
    )
    for name in ("dev", "lab2"):
        configuration = {"hardway:cluster": CLUSTER, "a:it": f"-{name}"}
        text = yaml.safe_dump({"config": configuration})
        (checkout.folder / f"Pulumi.{name}.yaml").write_text(text)
    for arguments in (
        ("up", "--yes", "--skip-preview", "--stack", "lab2"),
        ("--non-interactive", "up", "--yes", "-fs", "lab2"),
        ("--color", "never", "preview", "--stack=lab2", "--expect-no-changes"),
        ("--stack", "lab2", "preview", "--expect-no-changes"),
    ):
        done = checkout.run("./hardway", "pulumi", *arguments)
        assert done.returncode == 0, (arguments, done.stdout + done.stderr)
    done = checkout.run("./hardway", "pulumi", "stack", "output", "it", "-s", "lab2")
    assert done.stdout.strip() == "lab2-lab2"
    done = checkout.run("./hardway", "pulumi", "up", "--yes", "--target", "**::nobody")
    assert done.returncode == 1
    assert "--target without the specification goes past its check" in " ".join(done.stderr.split())


def test_the_refusal_has_a_next_step() -> None:
    (problem,) = refusals(read(["up", "-t", "x"]), "dev", tuple)
    assert isinstance(problem, Problem)
    assert problem.remedy
