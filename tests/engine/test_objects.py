"""Drift of an object through the real engine and a real API server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.paths import PROJECT
from plan.contents import OBJECTS
from plan.declared import DeclaredObject
from tests.engine.sshd import Sshd
from tests.engine.stack import CliRun, EngineStack
from tests.plan.test_node_objects import NodesWorld, world_in
from tests.probe.machine import machine

pytestmark = pytest.mark.engine

PROGRAM = """
from components.guard import login
from components.objects import Objects
from plan.contents import OBJECTS, StepCommand

values = json.loads(Path("declared.json").read_text())
objects = Objects(
    "objects",
    declared=OBJECTS.validate_python(values["objects"]),
    kubeconfig=values["kubeconfig"],
    login=login("master", values["access"], values["key"]),
    step=StepCommand(**values["step"]),
    opts=ResourceOptions(),
)
pulumi.export("repairs", objects.repairs)
"""
HERE = {"PYTHONPATH": str(PROJECT)}

WANTED = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "wanted", "namespace": "default"},
    "data": {"a": "first\n"},
}
PATH = "/api/v1/namespaces/default/configmaps/wanted"
CHANGED = "other content (set by kubectl-patch at "


class Applied:
    """A stack with an object, and the API that has it."""

    def __init__(self, stack: EngineStack, sshd: Sshd, world: NodesWorld, folder: Path) -> None:
        self.stack, self.world, self.ran = stack, world, folder / "ran"
        admin = folder / "admin.conf"
        admin.write_text(world.admin)
        (folder / "wanted.json").write_text(json.dumps(WANTED))
        declared = (DeclaredObject(path=PATH, manifest=WANTED),)
        step = (
            f"echo ran >>{self.ran}\nKUBECONFIG={admin} HOME={folder} {world.path}/kubectl apply "
            f"--server-side --force-conflicts --field-manager hardway -f {folder}/wanted.json\n"
        )
        values = {
            "objects": OBJECTS.dump_python(declared, mode="json"),
            "kubeconfig": world.admin,
            "access": vars(machine(sshd)),
            "key": (sshd.directory / "client_key").read_text(),
            "step": {
                "name": "add-ons-apply",
                "line": "exec bash -euo pipefail -s",
                "data": step,
                "seconds": 60,
                "secret": True,
            },
        }
        (stack.directory / "declared.json").write_text(json.dumps(values))
        stack.write(PROGRAM)

    def times(self) -> int:
        """How often the step ran."""
        return len(self.ran.read_text().split()) if self.ran.exists() else 0

    def change(self) -> None:
        patch = json.dumps({"data": {"a": "by-hand"}}, separators=(",", ":"))
        self.world.kubectl(f"patch configmap wanted --type merge --patch {patch}")

    def content(self) -> str:
        return self.world.kubectl("get configmap wanted --output jsonpath={.data.a}")

    def preview(self, *options: str) -> CliRun:
        return self.stack.preview(*options, environment=HERE)

    def up(self, *options: str) -> CliRun:
        return self.stack.up(*options, environment=HERE)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with world_in(tmp_path_factory.mktemp("objects")) as world:
        yield world


@pytest.fixture
def applied(stack: EngineStack, sshd: Sshd, world: NodesWorld, tmp_path: Path) -> Applied:
    world.kubectl("delete configmap wanted --ignore-not-found")
    made = Applied(stack, sshd, world, tmp_path)
    made.up()
    assert (made.times(), made.content()) == (1, "first\n"), "what is not there is brought about"
    return made


def test_only_a_refresh_asks_and_exactly_what_was_changed_is_told_and_mended(
    applied: Applied,
) -> None:
    applied.preview("--refresh", "--expect-no-changes")
    applied.change()
    applied.preview("--expect-no-changes")
    preview = applied.preview("--refresh", "--diff")
    print(preview.text)
    assert preview.steps()["objects"][-1] == "update"
    assert "object ConfigMap default/wanted data.a" in preview.text
    assert CHANGED in preview.text
    assert applied.content() == "by-hand", "a preview changes nothing"

    run = applied.up("--refresh")
    print(run.text)
    assert f"object ConfigMap default/wanted data.a is {CHANGED}" in run.text
    assert "master: the step add-ons-apply runs again" in run.text
    assert (applied.times(), applied.content()) == (2, "first\n")
    assert applied.up("--refresh").steps().get("objects") in (None, ["refresh"])
    assert applied.times() == 2
    key = applied.world.admin.split("client-key-data: ")[1].split()[0]
    assert key not in f"{preview.text}{run.text}{applied.stack.state()}"


def test_a_cluster_that_is_older_than_the_comparison_gets_a_look_and_nothing_else(
    applied: Applied,
) -> None:
    program = (applied.stack.directory / "__main__.py").read_text()
    applied.stack.write("")
    applied.up()
    (applied.stack.directory / "__main__.py").write_text(program)
    assert applied.up().steps() == {"objects": ["create"]}
    assert applied.times() == 1
