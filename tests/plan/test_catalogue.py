"""The table of add-ons: whole, and the only place that needs a new one."""

import ast

import pytest

from lab.paths import PROJECT
from plan import addons
from plan.addons.catalogue import ADD_ONS, enabled
from plan.cluster import cluster_plan
from spec.artifacts import DEFAULT_ADDONS, artifact_rows
from spec.cluster import Addons, Cluster, SpecError
from tests.declared import declared, described, registrations
from tests.plan import own_add_on
from tests.plan.shell import cluster


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    own_add_on.add(monkeypatch)


def with_everything() -> Cluster:
    """A cluster with all add-ons."""
    needed = {"load_balancer": {"addresses": "192.168.1.200-192.168.1.220"}}
    return cluster(addons={**dict.fromkeys(ADD_ONS, True), **needed})


def test_each_switch_of_the_spec_is_an_add_on_of_the_table() -> None:
    switches = {name for name, value in Addons() if not isinstance(value, tuple)}
    assert switches == ADD_ONS.keys()
    assert {row.addon for row in artifact_rows()} - {None} <= ADD_ONS.keys()
    for name, add_on in ADD_ONS.items():
        assert add_on.name == name
        assert add_on.images, name


def test_a_cluster_has_the_add_ons_that_its_spec_switches_on() -> None:
    assert {add_on.name for add_on in enabled(cluster())} == DEFAULT_ADDONS
    everything = with_everything()
    assert [add_on.name for add_on in enabled(everything)] == list(ADD_ONS)
    assert not enabled(cluster(addons=dict.fromkeys(ADD_ONS, False)))


def test_an_add_ons_rights_are_all_the_rights_among_its_objects() -> None:
    of_rights = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    spec = with_everything()
    for add_on in ADD_ONS.values():
        assert {manifest["kind"] for manifest in add_on.rights(spec)} <= set(of_rights)
        assert not {manifest["kind"] for manifest in add_on.manifests(spec)} & set(of_rights)


def test_nobody_but_the_catalogue_imports_an_add_on() -> None:
    """Only their own folder and tests name the modules."""
    importing = {
        path.relative_to(PROJECT).as_posix()
        for path in PROJECT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
        for name in (f"{node.module}.{alias.name}" for alias in node.names)
        if name.startswith(tuple(f"plan.addons.{module}" for module in ADD_ONS))
    }
    assert "plan/addons/catalogue.py" in importing
    assert [file for file in importing if not file.startswith(("plan/addons/", "tests/"))] == []


@pytest.mark.usefixtures("own")
def test_an_add_on_of_its_own_is_in_the_plan() -> None:
    without, having = cluster(), cluster(addons={own_add_on.NAME: True})
    assert addons.wanted(having).keys() - addons.wanted(without).keys() == {"echo-once"}
    assert addons.apply(having).settings["manifests"].count("echo-once.yaml") == 1
    before, after = (cluster_plan(spec) for spec in (without, having))
    names = [condition.name for condition in after.conditions]
    assert names == [*(row.name for row in before.conditions[:-1]), "echo", "services"]


@pytest.mark.usefixtures("own")
def test_an_add_on_of_its_own_is_declared() -> None:
    whole = described("default")
    more = {**whole, "addons": {own_add_on.NAME: True}}
    before, after = (
        {row.name: row.inputs for row in registrations(declared(value))} for value in (whole, more)
    )
    assert before.keys() == after.keys(), "an add-on costs no resource"
    # The other step that knows of it has the admin's key in its data, which nobody reads here.
    steps = {name: inputs["stdin"] for name, inputs in after.items() if "stdin" in inputs}
    readable = [name for name, data in steps.items() if isinstance(data, str)]
    changed = {name for name in readable if steps[name] != before[name]["stdin"]}
    assert changed == {"master-control-plane"}
    assert "/etc/kubernetes/addons/echo-once.yaml" in steps["master-control-plane"]
    assert "hardway.local/pause" in steps["master-control-plane"]
    assert "three pods of the test" in str(after["ready"])
    assert "three pods of the test" not in str(before["ready"])


@pytest.mark.usefixtures("own")
def test_a_near_miss_is_refused_with_the_name() -> None:
    with pytest.raises(SpecError, match=r"^addons\.echo_onse is an unknown key.* write echo_once$"):
        cluster(addons={"echo_onse": True})
