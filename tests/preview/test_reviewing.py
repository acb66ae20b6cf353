"""What a change means, judged from outside: by what was written into the spec."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from certs.renewal import ENCRYPTION, SERVICE_ACCOUNT
from certs.table import Authority, held_by
from hypervisors.libvirt.resources import DOMAIN, VOLUME
from preview.change import ResourceChange, Verb
from preview.comparing import changes
from preview.consequences import API
from preview.kinds import CERTIFICATES, GUARD, OBJECTS
from preview.markdown import markdown
from preview.registration import enveloped, is_secret
from preview.review import (
    CertificateChange,
    FileChange,
    MachineReview,
    Review,
    Severity,
    StepChange,
)
from preview.reviewing import _explained, _paths, _resources, reviewed
from preview.terminal import shown
from tests.declared import described, golden
from tests.plan.golden import NAMES, golden_plan, golden_spec
from tests.policy.declared import gone, kept
from tests.preview.recorded import DEFAULT, changed


def after(**fields: Any) -> Review:
    """The review of the default cluster with other fields."""
    return review(DEFAULT, {**DEFAULT, **fields})


def review(before: dict[str, Any], new: dict[str, Any]) -> Review:
    all_changes, refused = changed(before, new)
    assert not refused
    return reviewed(all_changes)


def test_an_object_that_drifted_is_told_with_both_states() -> None:
    (objects,) = (resource for resource in golden("default") if resource.kind == OBJECTS)
    key = "object Deployment kube-system/coredns spec.replicas"
    states = {"is": "5 (set by kubectl)", "shouldBe": "2"}
    drifted = replace(objects, inputs={**objects.inputs, "differs": {key: states}})
    change = ResourceChange(
        verb=Verb.UPDATE, before=drifted, after=objects, keys=("differs", "steps")
    )
    (line,) = _resources((change,))
    assert (line.name, line.verb) == ("objects", Verb.UPDATE)
    assert line.why == f"{key} is 5 (set by kubectl) and should be 2"


def test_a_secret_that_a_program_keeps_as_its_digest_from_now_on_is_no_change() -> None:
    guard = next(resource for resource in golden("default") if resource.kind == GUARD)
    texts = {name: enveloped(f"the text of {name}") for name in ("items", "steps")}
    digests = {
        name: enveloped(hashlib.sha256(text["value"].encode()).hexdigest())
        for name, text in texts.items()
    }
    earlier = replace(guard, inputs={**guard.inputs, **texts})
    now = replace(guard, inputs={**guard.inputs, **digests})
    (change,) = changes((earlier,), (now,))
    assert (change.verb, change.keys) == (Verb.SAME, ())
    another = replace(now, inputs={**now.inputs, "items": enveloped("0" * 64)})
    (change,) = changes((earlier,), (another,))
    assert (change.verb, change.keys) == (Verb.UPDATE, ("items",))


def test_rows_that_a_program_keeps_as_their_digest_from_now_on_are_no_change() -> None:
    bundle = next(resource for resource in golden("default") if resource.kind == CERTIFICATES)
    rows = {"kubelet": {"names": ["m0", "10.0.0.1"], "days": 365.0}}
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    earlier = replace(bundle, inputs={**bundle.inputs, "rows": rows})
    now = replace(bundle, inputs={**bundle.inputs, "rows": digest})
    (change,) = changes((earlier,), (now,))
    assert (change.verb, change.keys) == (Verb.SAME, ())
    others = replace(bundle, inputs={**bundle.inputs, "rows": "0" * 64})
    (change,) = changes((earlier,), (others,))
    assert (change.verb, change.keys) == (Verb.UPDATE, ("rows",))


def machines(**more: Any) -> dict[str, Any]:
    return {**DEFAULT["machines"], **more}


def named(review: Review) -> dict[str, MachineReview]:
    return {machine.name: machine for machine in review.machines}


def files(machine: MachineReview) -> dict[str, FileChange]:
    return {file.path: file for step in machine.steps for file in step.files}


def worst(review: Review) -> list[str]:
    return [
        consequence.sentence
        for consequence in review.consequences
        if consequence.severity is Severity.DANGER
    ]


def sentences(review: Review) -> list[str]:
    return [consequence.sentence for consequence in review.consequences]


# -- nothing, and everything -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_without_a_change_nothing_is_told(name: str) -> None:
    result = review(described(name), described(name))
    assert result.empty
    assert {machine.verb for machine in result.machines} == {Verb.SAME}
    assert result.unchanged > 20
    assert (result.resources, result.steps, result.certificates, result.artifacts) == (
        (),
        (),
        (),
        (),
    )


@pytest.mark.parametrize("name", NAMES)
def test_of_a_new_cluster_every_machine_is_new_and_nobody_is_disturbed(name: str) -> None:
    result = reviewed(changes((), golden(name)))
    assert {machine.verb for machine in result.machines} == {Verb.CREATE}
    assert {machine.name for machine in result.machines} == set(described(name)["machines"])
    assert not result.disturbances
    assert not result.consequences
    assert all(machine.certificates for machine in result.machines)


# -- one thing each --------------------------------------------------------------------------------


def test_another_minion_touches_no_other_machine() -> None:
    result = after(machines=machines(**{"minion-3": {"address": "192.168.1.13"}}))
    assert {name: machine.verb for name, machine in named(result).items()} == {
        "master": Verb.SAME,
        "minion-1": Verb.SAME,
        "minion-2": Verb.SAME,
        "minion-3": Verb.CREATE,
    }
    assert not result.disturbances
    assert not worst(result)
    assert not result.artifacts, "the others have the same programs"


def test_a_role_that_leaves_a_machine_is_shown_with_all_that_goes() -> None:
    before = described("available")
    former = {**before["machines"]["control-2"], "roles": "i"}
    result = review(before, {**before, "machines": {**before["machines"], "control-2": former}})
    left = named(result)["control-2"]
    assert left.verb is Verb.UPDATE
    (step,) = (step for step in left.steps if step.verb is Verb.DELETE)
    assert step.name == "control-plane"
    assert not step.restarts
    gone = {file.path for file in step.files if file.after is None}
    assert f"/etc/systemd/system/{API}" in gone
    assert any(
        "control-plane leaves control-2" in sentence and API in sentence
        for sentence in sentences(result)
    )


def test_a_minion_that_goes_is_drained_and_said_to_be_lost() -> None:
    rest = machines()
    del rest["minion-2"]
    result = after(machines=rest)
    assert named(result)["minion-2"].verb is Verb.DELETE
    assert any("minion-2" in consequence.sentence for consequence in result.consequences)
    assert not worst(result)


def test_a_changed_file_is_shown_line_by_line_with_the_service_that_it_restarts() -> None:
    result = after(proxy_mode="iptables")
    for machine in result.machines:
        assert machine.verb is Verb.UPDATE
        changed_file = files(machine)["/etc/kubernetes/kube-proxy.yaml"]
        assert "mode: nftables\n" in (changed_file.before or "")
        assert "mode: iptables\n" in (changed_file.after or "")
        assert changed_file.restarts == ("kube-proxy.service",)
        assert {step.name for step in machine.steps} <= {"node", "etcd"}
    assert {disturbance.machine for disturbance in result.disturbances} == set(DEFAULT["machines"])
    assert "-mode: nftables" in markdown(result)
    assert any("mode: nftables" in line and "-" in line for line in shown(result))


@pytest.mark.parametrize("field", [{"vni": 2}, {"port": 4789}, {"backend": "host-gw"}])
def test_another_pod_network_restarts_flanneld_everywhere_and_says_what_pods_feel(
    field: dict[str, Any],
) -> None:
    result = after(flannel=field)
    restarted = {
        disturbance.machine
        for disturbance in result.disturbances
        if "flanneld.service" in disturbance.services
    }
    assert restarted == set(DEFAULT["machines"])
    (felt,) = (sentence for sentence in sentences(result) if "pods of different nodes" in sentence)
    assert all(name in felt for name in DEFAULT["machines"])
    assert not any(
        "pods of different nodes" in sentence
        for sentence in sentences(after(proxy_mode="iptables"))
    )


def test_a_label_and_a_taint_are_named_for_the_node_that_gets_them() -> None:
    taints = [{"key": "dedicated", "value": "build", "effect": "NoSchedule"}]
    minion = {"address": "192.168.1.11", "labels": {"gpu": "a100"}, "taints": taints}
    result = after(machines=machines(**{"minion-1": minion}))
    steps = [step for machine in result.machines for step in machine.steps]
    shown_files = {file.path: file for step in steps for file in step.files}
    nodes = shown_files["/etc/kubernetes/addons/nodes.yaml"]
    assert "minion-1" not in (nodes.before or "")
    assert "minion-1" in (nodes.after or "")
    for line in ("label gpu=a100", "taint dedicated=build:NoSchedule"):
        assert line in (nodes.after or "")
    (disturbed,) = result.disturbances
    assert (disturbed.machine, disturbed.services) == ("minion-1", ("kubelet.service",))


def test_more_memory_makes_a_machine_anew_around_its_disk() -> None:
    result = after(machines=machines(**{"minion-1": {"address": "192.168.1.11", "memory": 4096}}))
    machine = named(result)["minion-1"]
    assert machine.verb is Verb.REPLACE
    assert any("memory" in line.why and "4096" in line.why for line in machine.resources)
    assert {step.verb for step in machine.steps} == {Verb.REPLACE}
    assert {line.name: line.verb for line in result.resources}["ready"] is Verb.UPDATE
    assert named(result)["minion-2"].verb is Verb.SAME
    assert any(
        "minion-1" in sentence and "with its disk" in sentence for sentence in sentences(result)
    )
    assert not any("lost" in sentence for sentence in sentences(result))
    assert not worst(result)


def test_etcd_whose_machine_is_made_anew_has_its_disk_again() -> None:
    master = {**DEFAULT["machines"]["master"], "memory": 4096}
    alone = sentences(after(machines=machines(master=master)))
    assert any(
        "etcd takes no writes" in sentence and "with its disk" in sentence for sentence in alone
    )
    spec = described("available")
    grown = {**spec["machines"], "etcd-1": {**spec["machines"]["etcd-1"], "memory": 4096}}
    of_three = sentences(review(spec, {**spec, "machines": grown}))
    assert any("keeps its quorum with 2 of 3" in sentence for sentence in of_three)
    assert not any("lost" in sentence or "empty disk" in sentence for sentence in alone + of_three)


def grown(spec: dict[str, Any], *names: str) -> Review:
    larger = {
        name: {**machine, "disk": 20} if name in names else machine
        for name, machine in spec["machines"].items()
    }
    return review(spec, {**spec, "machines": larger})


@pytest.mark.parametrize("name", ["master", "minion-1"])
def test_a_larger_disk_grows_in_place(name: str) -> None:
    result = grown(DEFAULT, name)
    machine = named(result)[name]
    assert machine.verb is Verb.UPDATE
    assert {step.name for step in machine.steps} == {"ready"}
    assert f"{name}: disk 10 -> 20 GiB, grown in place with what is on it" in sentences(result)
    assert any("disk 10 -> 20 GiB, grown in place" in line for line in shown(result))
    assert not {line.name for line in machine.resources} & {name, f"{name}-disk", f"{name}-seed"}
    assert not any("lost" in sentence or "anew" in sentence for sentence in sentences(result))
    assert not worst(result)
    assert {machine.verb for machine in result.machines if machine.name != name} == {Verb.SAME}


def test_disks_of_all_members_of_etcd_grow_at_once() -> None:
    spec = described("available")
    result = grown(spec, *spec["machines"])
    assert {machine.verb for machine in result.machines} == {Verb.UPDATE}
    assert not worst(result)
    assert not result.findings


def emptied(cluster: str, *names: str) -> Review:
    """Of machines that are made anew with their disks, as by ``--replace``."""
    domains = gone(kept(cluster), DOMAIN, Verb.REPLACE, *names)
    return reviewed(gone(domains, VOLUME, Verb.REPLACE, *(f"{name}-disk" for name in names)))


def test_the_only_member_of_etcd_is_not_made_anew_unnoticed() -> None:
    result = emptied("default", "master")
    assert any("etcd loses all" in sentence for sentence in worst(result))
    assert any("API" in sentence for sentence in worst(result))


def test_two_of_three_members_are_a_quorum_and_one_is_none() -> None:
    first, two = emptied("available", "etcd-1"), emptied("available", "etcd-1", "etcd-2")
    assert any("keeps its quorum with 2 of 3" in sentence for sentence in worst(first))
    assert any("loses its quorum" in sentence for sentence in worst(two))


def test_where_machines_are_made_is_no_change_of_the_description() -> None:
    first, second = (
        {**DEFAULT, "hypervisor": {"uri": "qemu:///system", "image": "base", "disk_cache": cache}}
        for cache in ("default", "none")
    )
    result = review(first, second)
    assert "specification" not in {line.name for line in result.resources}
    assert {machine.verb for machine in result.machines} == {Verb.REPLACE}


def test_a_new_version_names_programs_and_restarts_what_runs_them() -> None:
    spec = described("v1.35")
    result = review(spec, {**spec, "kubernetes": "1.36.4"})
    assert result.kubernetes == ("1.35.1", "1.36.4")
    lines = {(artifact.before or "", artifact.after or "") for artifact in result.artifacts}
    assert any(
        a.startswith("kubelet 1.35.1 ") and b.startswith("kubelet 1.36.4 ") for a, b in lines
    )
    master = named(result)["master"]
    restarted = {unit for step in master.steps for unit in step.restarts}
    assert {"kube-apiserver.service", "kubelet.service", "kube-proxy.service"} <= restarted
    assert any("API is away" in consequence.sentence for consequence in result.consequences)


def test_an_etcd_that_goes_back_says_how_and_what_becomes_of_backups() -> None:
    result = after(etcd={"version": "3.6.14"})
    (sentence,) = (text for text in sentences(result) if "goes back" in text)
    assert sentence == (
        "etcd goes back from 3.7.1 to 3.6.14: while all members answer, they get to keep their "
        "data in the format of 3.6.14, and then restart with it one at a time; backups of 3.7.1 "
        "cannot be restored with 3.6.14"
    )
    assert ("master", "etcd.service") in [
        (disturbance.machine, unit)
        for disturbance in result.disturbances
        for unit in disturbance.services
    ]


def test_an_encryption_key_that_turns_over_shows_its_stages_and_restarts_of_api_servers() -> None:
    result = after(keys={"encryption": 2})
    (sentence,) = (text for text in sentences(result) if "encryption key" in text)
    assert sentence == (
        "the encryption key turns over: key2 is known by all API servers, then used, then all "
        "Secrets are rewritten, then key1 leaves the machines; for that the API server of master "
        "restarts three times"
    )
    restarts = [
        (disturbance.machine, unit)
        for disturbance in result.disturbances
        for unit in disturbance.services
    ]
    assert restarts == [("master", API)]
    assert any("API is away" in text for text in sentences(result))


def test_a_pair_of_service_accounts_that_turns_over_shows_its_stages_and_restarts() -> None:
    result = after(keys={"service_accounts": 2})
    (sentence,) = (text for text in sentences(result) if "service accounts" in text)
    assert sentence == (
        "the service accounts' key pair turns over: pair2 is trusted by all API servers beside "
        "pair1, then signs; for that the API server of master restarts twice; tokens of pair1 are "
        "accepted until the first update more than 26 hours later, for which API servers restart "
        "once more"
    )
    restarts = {
        (disturbance.machine, unit)
        for disturbance in result.disturbances
        for unit in disturbance.services
    }
    assert restarts == {("master", API), ("master", "kube-controller-manager.service")}


SERVERS = {"etcd.service", API}
MANAGER = "kube-controller-manager.service"


@pytest.mark.parametrize(
    ("before", "after_it", "phrase", "restarts", "quiet"),
    [
        (
            [1],
            [1, 2],
            "trusted as well; add-ons' pods start anew; your own pods",
            SERVERS,
            set(),
        ),
        ([1, 2], [2, 1], "signs in place of 1; people take a new", {MANAGER}, SERVERS),
        ([2, 1], [2], "kubeconfigs with a certificate of number 1 are refused", SERVERS, set()),
    ],
)
def test_authorities_that_turn_over_restart_only_what_must(
    before: list[int], after_it: list[int], phrase: str, restarts: set[str], quiet: set[str]
) -> None:
    old, new = (
        {**DEFAULT, "authorities": {"kubernetes": numbers, "etcd": numbers}}
        for numbers in (before, after_it)
    )
    result = review(old, new)
    announced = [text for text in sentences(result) if "the authority " in text]
    assert [text.partition(":")[0] for text in announced] == [
        "the authority kubernetes",
        "the authority etcd",
    ]
    assert phrase in announced[0]
    restarted = {
        unit
        for disturbance in result.disturbances
        if disturbance.machine == "master"
        for unit in disturbance.services
    }
    assert restarts <= restarted
    assert not quiet & restarted


@pytest.mark.parametrize("name", ["default", "existing"])
@pytest.mark.parametrize(
    ("before", "after_it", "sentence"),
    [
        (None, [1, 2], "the SSH key: all machines let number 2 in as well"),
        (
            [1, 2],
            [2, 1],
            (
                "the SSH key: logins use number 2 in place of 1, for which every step runs once "
                "more and restarts nothing"
            ),
        ),
        ([2, 1], [2], "the SSH key: all machines refuse number 1"),
    ],
)
def test_an_ssh_key_that_turns_over_is_a_sentence_and_no_list_of_logins(
    name: str, before: list[int] | None, after_it: list[int], sentence: str
) -> None:
    whole = described(name)
    result = review(
        {**whole, "ssh_keys": before} if before else whole, whole | {"ssh_keys": after_it}
    )
    assert [text for text in sentences(result) if "SSH" in text] == [sentence]
    assert result.disturbances == ()
    steps = {step.name: step.why for machine in result.machines for step in machine.steps}
    lines = [line for machine in result.machines for line in machine.resources]
    if before and {*before} == {*after_it}:
        assert (steps, lines, result.steps) == ({}, [], ())
        assert [line.name for line in result.resources] == ["specification"]
        assert result.counts[Verb.UPDATE] > len(result.machines), "the engine's count"
    else:
        assert steps == {"identity": "the SSH keys that it lets in change"}
        kinds = {line.kind for line in lines}
        assert kinds == ({"Guard", "ExistingMachine"} if name == "existing" else {"Guard"})
        assert {line.verb for line in lines} == {Verb.UPDATE}


def test_members_of_etcd_that_come_and_go_are_told_in_their_order() -> None:
    machines = {
        f"e{number}": {"address": f"192.168.1.{20 + number}", "roles": "e"}
        for number in range(1, 6)
    }

    def spec(*names: str) -> dict[str, Any]:
        own = {name: machines[name] for name in names}
        return {**DEFAULT, "machines": {**DEFAULT["machines"], **own}}

    alone, three = spec("e1"), spec("e1", "e2", "e3")
    shown_lines = sentences(review(alone, three))
    assert (
        "etcd's members e1 become e1, e2 and e3: e2 and e3 join one at a time, with all data "
        "before a vote" in shown_lines
    )
    leaves = "while all others are well, before a machine or data go"
    shown_lines = sentences(review(three, alone))
    assert (
        f"etcd's members e1, e2 and e3 become e1: e2 and e3 leave one at a time, {leaves}"
        in shown_lines
    )
    assert not any(
        "loses" in sentence or "keeps its quorum" in sentence for sentence in shown_lines
    )
    shown_lines = sentences(review(three, spec("e1", "e2", "e4")))
    assert (
        "etcd's members e1, e2 and e3 become e1, e2 and e4: e4 joins, with all data before a vote; "
        f"then e3 leaves, {leaves}" in shown_lines
    )


def test_members_and_planes_that_are_several_restart_one_at_a_time() -> None:
    spec = described("available")
    old = {**spec, "kubernetes": "1.36.4"}
    result = review(old, spec)
    how = {
        unit: disturbance.how
        for disturbance in result.disturbances
        for unit in disturbance.services
    }
    assert how["kube-apiserver.service"] == "one machine at a time"
    assert how["kubelet.service"] == "after their pods have moved"
    assert any("API stays up" in consequence.sentence for consequence in result.consequences)
    assert not worst(result)


@pytest.mark.parametrize(("rollout", "number"), [({}, 1), ({"nodes": "50%"}, 2)])
def test_nodes_of_another_version_give_their_pods_away_before(
    rollout: dict[str, Any], number: int
) -> None:
    spec = {**described("available"), "rollout": rollout}
    nodes = sorted(spec["machines"])
    result = review({**spec, "kubernetes": "1.36.4"}, spec)
    rolling = [sentence for sentence in sentences(result) if "give their pods" in sentence]
    assert len(rolling) == 1
    assert f", {number} at a time, and take pods again once they are Ready" in rolling[0]
    assert {name for name in nodes if name in rolling[0]} == {
        machine.name for machine in result.machines if any(s.rolls for s in machine.steps)
    }
    assert not any("without a drain" in sentence for sentence in sentences(result))


def test_a_restart_of_the_same_version_says_that_it_needs_no_drain() -> None:
    labels = {"address": "192.168.1.11", "labels": {"gpu": "a100"}}
    result = after(machines=machines(**{"minion-1": labels}))
    restart = "kubelet restarts on minion-1: pods run on, without a drain"
    assert restart in sentences(result)
    assert not any("give their pods" in sentence for sentence in sentences(result))


def test_how_many_nodes_roll_at_once_is_no_change_of_any_node() -> None:
    result = after(rollout={"nodes": 2})
    assert {name: machine.verb for name, machine in named(result).items()} == {
        "master": Verb.UPDATE,  # it has the manifests
        "minion-1": Verb.SAME,
        "minion-2": Verb.SAME,
    }
    assert not result.disturbances


def test_a_certificate_with_another_name_says_why_and_who_reads_it_without_a_restart() -> None:
    spec = described("available")
    endpoint = {"kind": "virtual-ip", "address": "192.168.50.6"}
    result = review(spec, {**spec, "endpoint": endpoint})
    control = named(result)["control-1"]
    (certificate,) = (c for c in control.certificates if c.name == "apiserver")
    assert certificate.verb is Verb.UPDATE
    assert "192.168.50.6" in certificate.why or "name" in certificate.why
    identity = next(step for step in control.steps if step.name == "identity")
    assert identity.hidden
    assert not identity.files
    assert identity.restarts == ()
    assert identity.why == "these change and are read without a restart: apiserver"
    assert "kube-apiserver.service" not in str(result.disturbances)


def test_each_key_that_may_change_is_known_by_its_files() -> None:
    plan = golden_plan("default").nodes["master"]
    spec = golden_spec("default")
    names = [row.name for row in held_by(spec, "master")]
    paths = {
        path
        for name in (*Authority, SERVICE_ACCOUNT, ENCRYPTION, *names)
        for path in _paths(
            CertificateChange(name=name, holder="m", verb=Verb.UPDATE, why=""), frozenset()
        )
    }
    assert paths == {file.path for file in plan.secret_files}


def test_a_certificate_that_is_read_once_restarts_who_reads_it() -> None:
    """Where etcd is flannel's store, flanneld has its certificate for as long as it runs."""
    changes = [
        CertificateChange(name=name, holder="m", verb=Verb.UPDATE, why="renew: soon over")
        for name in ("flannel", "apiserver", "etcd-server")
    ]
    step = StepChange(resource="m-identity", name="identity", verb=Verb.UPDATE, hidden=True)
    needs = {unit.name: unit.needs for unit in golden_plan("default").nodes["master"].units}
    assert _explained(step, changes, needs, frozenset()).why == (
        "these change: flannel; these change and are read without a restart: apiserver, etcd-server"
    )


# -- what must never be in it ----------------------------------------------------------------------


def test_an_add_on_that_is_switched_off_says_which_data_goes() -> None:
    spec = {**DEFAULT, "addons": {"storage": True}}
    (sentence,) = (s for s in sentences(review(spec, DEFAULT)) if "add-on" in s)
    assert sentence.startswith("the add-on storage is switched off: its objects are removed; the")
    assert "stay in /var/lib/local-path" in sentence
    assert not any("add-on" in s for s in sentences(review(DEFAULT, spec)))


def secrets(all_changes: tuple[ResourceChange, ...]) -> set[str]:
    """Every secret text of both sides, and the lines of those that have several."""

    def texts(value: Any, hidden: bool) -> Iterator[tuple[bool, str]]:
        if is_secret(value):
            yield from texts(value["value"], True)
        elif isinstance(value, dict):
            for item in value.values():
                yield from texts(item, hidden)
        elif isinstance(value, list):
            for item in value:
                yield from texts(item, hidden)
        elif isinstance(value, str):
            yield hidden, value

    all_texts = [
        pair
        for change in all_changes
        for side in (change.before, change.after)
        if side
        for pair in texts(dict(side.inputs), False)
    ]
    plain = {line for hidden, text in all_texts if not hidden for line in text.splitlines()}
    lines = {line for hidden, text in all_texts if hidden for line in text.splitlines()}
    return {line for line in lines - plain if len(line) > 24}


@pytest.mark.parametrize("name", NAMES)
def test_no_report_has_a_secret(name: str) -> None:
    spec = described(name)
    spec_after = {**spec, "addons": {"name_servers": ["192.0.2.53"]}}
    all_changes, _ = changed(spec, spec_after)
    result = reviewed(all_changes)
    assert not result.empty
    hidden = {line for line in secrets(all_changes) if "PRIVATE KEY" in line or len(line) > 40}
    assert len(hidden) > 10, "the search below looks for something"
    for text in (
        json.dumps(asdict(result), default=str),
        markdown(result),
        "\n".join(shown(result)),
    ):
        assert not [line for line in hidden if line in text]
        assert "PRIVATE KEY" not in text
