"""What is compared with a machine, for every golden cluster, and what is not."""

from fnmatch import fnmatchcase

import pytest

from plan import unit
from plan.held import (
    FOREIGN_FILES,
    Difference,
    ForeignFiles,
    compared,
    differences,
    held,
    is_foreign,
    mending,
    secret_digests,
)
from plan.item import AS_KEPT, UNREAD, Item, Kind
from plan.model import Directory, File, NodePlan, Source, Step
from tests.plan.golden import NAMES, golden_plan, golden_spec


@pytest.fixture(params=NAMES)
def plans(request: pytest.FixtureRequest) -> list[NodePlan]:
    spec, plan = golden_spec(request.param), golden_plan(request.param)
    return [compared(spec, planned) for planned in plan.nodes.values()]


def test_all_that_a_plan_says_is_compared_or_somebody_elses(plans: list[NodePlan]) -> None:
    for plan in plans:
        items = held(plan)
        names: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        for item in items:
            names[item.kind].add(item.name)
        assert len(items) == len({item.key for item in items})
        files = {part.path for part in plan.files} | {part.path for part in plan.secret_files}
        files |= {part.path for part in plan.units}
        links = {link.path for step in plan.steps for link in step.links}
        assert names[Kind.FILE] | {part for part in files if is_foreign(part)} == files
        assert names[Kind.DIRECTORY] == {part.path for part in plan.directories}
        assert names[Kind.LINK] == links
        assert names[Kind.SERVICE] == {part.name for part in plan.units}
        assert {item.path for item in items if item.path} == {a.store_path for a in plan.artifacts}
        assert names[Kind.MASKED] == {name for step in plan.steps for name in step.masked}
        assert names[Kind.PACKAGE] == {name for step in plan.steps for name in step.packages}
        assert {item.step for item in items} <= {step.name for step in plan.steps}


def test_nothing_of_ours_is_taken_for_somebody_elses(plans: list[NodePlan]) -> None:
    for plan in plans:
        paths = {part.path for part in plan.files} | {part.path for part in plan.secret_files}
        paths |= {part.path for part in plan.units} | {part.path for part in plan.directories}
        assert not [path for path in paths if is_foreign(path)]


def test_a_service_must_run_the_very_file_that_the_plan_names(plans: list[NodePlan]) -> None:
    for plan in plans:
        stored = {artifact.store_path for artifact in plan.artifacts}
        units = {service.name: service for service in plan.units}
        for item in held(plan):
            if item.kind is Kind.SERVICE:
                program = item.wanted.rpartition(" ")[2]
                own = units[item.name].program
                if own.startswith("/usr/local/"):
                    assert program in stored
                else:  # a package's, which its updates may move
                    assert own.endswith(program)
                    assert "/" not in program
                assert units[item.name].path in item.needs
                assert item.wanted.startswith("enabled, runs ")


def test_what_a_service_reads_again_is_nothing_that_it_was_started_with(
    plans: list[NodePlan],
) -> None:
    read = 0
    for plan in plans:
        services = {item.name: item for item in held(plan) if item.kind is Kind.SERVICE}
        for service in plan.units:
            assert not {*services[service.name].needs} & {*service.reads}
            read += len(service.reads)
    assert read


def test_kernel_settings_and_modules_are_those_of_the_files(plans: list[NodePlan]) -> None:
    for plan in plans:
        items = {item.key: item.wanted for item in held(plan)}
        text = {file.path: file.content for file in plan.files}
        for path, kind in (
            ("/etc/sysctl.d/90-hardway.conf", Kind.SETTING),
            ("/etc/modules-load.d/hardway.conf", Kind.MODULE),
        ):
            listed = [line.split(" = ") for line in text.get(path, "").splitlines()]
            keys = {key for key in items if key.startswith(f"{kind} ")}
            assert keys == {f"{kind} {fields[0]}" for fields in listed}
            for fields in listed:
                assert items[f"{kind} {fields[0]}"] == (fields[1] if fields[1:] else "loaded")


def test_no_secret_and_no_digest_of_one_is_readable(plans: list[NodePlan]) -> None:
    def material(source: Source) -> str:
        return f"{source}\n"

    for plan in plans:
        digests = secret_digests(plan, material)
        assert digests.keys() == {file.path for file in plan.secret_files}
        texts = "\n".join(item.wanted for item in held(plan))
        assert not [digest for digest in digests.values() if digest in texts]


# -- what others own -----------------------------------------------------------------------------


@pytest.mark.parametrize("foreign", FOREIGN_FILES, ids=lambda foreign: str(foreign.paths))
def test_what_somebody_else_owns_is_not_compared_and_says_why(foreign: ForeignFiles) -> None:
    path = foreign.paths.replace("*", "some/thing")
    plan = NodePlan(
        node="m",
        steps=(
            Step(name="one", files=(File(path=path, content="\n"),)),
            Step(name="two", directories=(Directory(path=path),)),
        ),
    )
    assert held(plan) == ()
    assert foreign.owner
    assert len(foreign.reason.split()) > 3
    assert [candidate for candidate in FOREIGN_FILES if fnmatchcase(path, candidate.paths)] == [
        foreign
    ]


def test_what_was_asked_for_by_name_is_in_the_table() -> None:
    for path in (
        "/var/lib/kubelet/pki/kubelet-client-current.pem",
        "/run/flannel/subnet.env",
        "/etc/cni/net.d/10-hardway.conflist",
        "/var/lib/etcd/member/wal/0.wal",
        "/var/lib/containerd/io.containerd.content.v1.content/blobs",
    ):
        assert is_foreign(path)
    for path in ("/var/lib/etcd", "/etc/cni/net.d", "/var/log/kubernetes"):
        assert not is_foreign(path), "its mode and owner are the plan's"


# -- how it is mended ----------------------------------------------------------------------------


def service(observed: str) -> Difference:
    item = Item(
        kind=Kind.SERVICE, name="one.service", wanted="enabled, runs /store/new", step="node"
    )
    return Difference(item=item, observed=observed)


@pytest.mark.parametrize(
    ("observed", "restarted", "reloaded"),
    [
        ("enabled, stopped", False, False),
        ("enabled, failed", False, False),
        ("disabled, runs /store/new", False, False),
        ("masked, runs /store/new", False, False),
        ("enabled, runs /store/old", True, False),
        ("enabled, runs /store/new (deleted)", True, False),
        (f"enabled, runs /store/new, {UNREAD}", False, True),
        ("enabled, runs /store/new, with settings of /etc/x.conf", True, False),
        ("enabled, stopped, with settings of /etc/x.conf", True, False),
        (f"enabled, runs /store/new, {UNREAD}, started with this /etc/x", True, True),
    ],
)
def test_a_service_is_restarted_only_for_what_it_runs_with(
    observed: str, restarted: bool, reloaded: bool
) -> None:
    repair = mending([service(observed)], [], ["runtime", "node"])
    assert repair.steps == ("node",)
    assert bool(repair.restarts) == restarted
    assert repair.reload == reloaded


def test_a_device_without_ways_has_its_service_restarted() -> None:
    plan = golden_plan("default").nodes["minion-1"]
    items = held(plan)
    (device,) = (item for item in items if item.kind is Kind.VXLAN)
    assert device.name == "flannel.1"
    repair = mending([Difference(item=device, observed="missing")], items, ["runtime", "node"])
    assert (repair.steps, repair.restarts) == (("node",), ("flanneld.service",))


@pytest.mark.parametrize(("cluster", "devices"), [("default", 3), ("single", 0)])
def test_a_way_is_asked_for_where_there_are_other_nodes(cluster: str, devices: int) -> None:
    spec, plan = golden_spec(cluster), golden_plan(cluster)
    items = [item for planned in plan.nodes.values() for item in held(compared(spec, planned))]
    assert sum(item.kind is Kind.VXLAN for item in items) == devices


def test_exactly_the_steps_of_what_differs_run_in_the_plans_order(plans: list[NodePlan]) -> None:
    for plan in plans:
        order = [step.name for step in plan.steps]
        items = held(plan)
        for some in (items[:1], items[-1:], items[::7], items):
            observed = {item.key: "missing" if item in some else item.wanted for item in items}
            differing = differences(items, observed)
            assert {difference.item.key for difference in differing} == {item.key for item in some}
            services = [
                difference for difference in differing if difference.item.kind is not Kind.SERVICE
            ]
            steps = mending(services, items, order).steps
            assert set(steps) == {difference.item.step for difference in services}
            assert list(steps) == sorted(steps, key=order.index)


def test_the_step_with_the_keys_leaves_alone_whom_a_later_step_starts(
    plans: list[NodePlan],
) -> None:
    for plan in plans:
        items, order = held(plan), [step.name for step in plan.steps]
        secret = next(item for item in items if item.wanted.startswith(AS_KEPT))
        observed = {item.key: item.wanted for item in items} | {secret.key: "missing"}
        assert mending(differences(items, observed), items, order).aside == ()
        before = order[: order.index(secret.step)]
        later = next(
            item for item in items if item.kind is Kind.SERVICE and item.step not in before
        )
        observed[later.key] = "enabled, stopped"
        repair = mending(differences(items, observed), items, order)
        assert set(repair.aside) == {unit.name for unit in plan.step(later.step).units}
        assert repair.steps[0] == secret.step


def test_the_observation_says_of_each_kind_what_the_plan_wants(plans: list[NodePlan]) -> None:
    kinds = {item.kind for plan in plans for item in held(plan)}
    assert kinds >= {Kind.FILE, Kind.SERVICE, Kind.ARTIFACT, Kind.LINK}
    for plan in plans:
        for service in plan.units:
            (file,) = [item for item in held(plan) if item.name == service.path]
            (golden,) = [item for item in plan.units if item.path == file.name]
            assert unit.text(golden) == unit.text(service)
