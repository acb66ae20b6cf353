"""What only a state has, as a file; and a state that is made from it for what is there."""

import hashlib
import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from certs import passphrase
from certs.backup import new_backup_keys
from certs.bundle import Authorities, Bundle
from certs.renewal import renewed_authorities
from certs.ssh import new_key_pair, new_seed
from hypervisors.adapters import is_made
from hypervisors.libvirt.resources import DOMAIN, NETWORK, SEED, VOLUME
from hypervisors.virtualbox.resources import MACHINE as BOX
from hypervisors.virtualbox.resources import NETWORK as ADAPTER
from lab.problem import Problem
from ops import adopted, kept_secrets, machine_keys, recover
from ops.kept_secrets import KeptSecrets
from ops.machine_keys import MachineRow
from ops.reach import kept_access, kept_authorities, secrets_of
from plan import identity, layout
from plan.material import material
from preview import kinds
from preview.change import ResourceChange, Verb
from preview.recorder import Recorder, Registered
from preview.recording import Recording
from preview.registration import Registration
from probe.kept_files import KeptFiles
from spec.cluster import Cluster, parse
from spec.kept import written
from tests.declared import declared, registrations
from tests.ops.exported import exported

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
PASSPHRASE = "four words of a test"
FILE = Path("dev.secrets")


@pytest.fixture(scope="module")
def authorities() -> Authorities:
    return renewed_authorities(None, NOW)


@pytest.fixture(scope="module")
def secrets(authorities: Authorities) -> KeptSecrets:
    login = new_key_pair()
    return KeptSecrets(
        stack="dev",
        made=NOW,
        authorities=json.dumps(authorities.state(), sort_keys=True),
        stashes={
            "ssh-key": {"private": login.private, "public": login.public, "seed": new_seed()},
            "backup-keys": new_backup_keys().state(),
        },
    )


def spec_of(stack: str = "dev", **more: Any) -> Cluster:
    value: dict[str, Any] = {
        "networks": {"machines": "192.168.1.0/24"},
        "machines": {
            "master": {"address": "192.168.1.10", "roles": "aei"},
            "minion": {"address": "192.168.1.11", "roles": "i"},
        },
        "hypervisor": {"uri": "qemu:///system", "image": "base"},
    }
    return parse(value | more, name=stack)


# -- the file --------------------------------------------------------------------------------------


def test_a_file_gives_its_secrets_to_its_passphrase_alone(
    secrets: KeptSecrets, tmp_path: Path
) -> None:
    file = tmp_path / "dev.secrets"
    file.write_bytes(kept_secrets.encrypted(secrets, PASSPHRASE))
    assert secrets.stashes["ssh-key"]["seed"].encode() not in file.read_bytes()
    assert kept_secrets.decrypted(file, PASSPHRASE) == secrets
    for key in (secrets.stashes["ssh-key"]["private"], secrets.stashes["backup-keys"]["identity"]):
        assert key not in repr(secrets)
    with pytest.raises(Problem, match="does not open with this passphrase"):
        kept_secrets.decrypted(file, f"{PASSPHRASE}.")
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(Problem, match="does not open"):
        kept_secrets.decrypted(file, PASSPHRASE)


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"authorities": {}}, {"stashes": 3}, {"made": 1}]
)
def test_a_file_of_another_content_is_refused(
    secrets: KeptSecrets, tmp_path: Path, change: dict[str, Any]
) -> None:
    value = json.loads(secrets.written()) | change
    file = tmp_path / "dev.secrets"
    file.write_bytes(passphrase.encrypted(json.dumps(value).encode(), PASSPHRASE))
    with pytest.raises(Problem, match="later version" if "format" in change else "no secrets"):
        kept_secrets.decrypted(file, PASSPHRASE)


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="there is no file"):
        kept_secrets.decrypted(tmp_path / "none", PASSPHRASE)
    (tmp_path / "plain").write_text("{}")
    with pytest.raises(Problem, match="has no secrets of a stack"):
        kept_secrets.decrypted(tmp_path / "plain", PASSPHRASE)


def test_a_passphrase_comes_from_a_file_where_nobody_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passphrase"
    file.write_text(f"{PASSPHRASE}\nanother line\n")
    assert kept_secrets.passphrase_from(file, new=True) == PASSPHRASE
    monkeypatch.setattr(kept_secrets, "at_terminal", lambda: False)
    with pytest.raises(Problem, match="--passphrase-file"):
        kept_secrets.passphrase_from(None, new=False)
    file.write_text("short\n")
    with pytest.raises(Problem, match="has 5 characters"):
        kept_secrets.passphrase_from(file, new=True)
    assert kept_secrets.passphrase_from(file, new=False) == "short"


def test_a_spec_that_was_not_applied_is_named(secrets: KeptSecrets) -> None:
    spec = spec_of()
    kept = replace(secrets, applied=written(spec))
    assert kept.differs_from(spec) is None
    assert secrets.differs_from(spec) is None, "nobody knows"
    later = spec_of(networks={"machines": "192.168.1.0/24", "services": "10.9.0.0/24"})
    assert "is not what was applied on 2026-11-30" in str(kept.differs_from(later))


def test_the_secrets_of_a_state_are_all_that_its_stashes_keep(secrets: KeptSecrets) -> None:
    rows = [(kinds.STASH, name, {"output": dict(kept)}) for name, kept in secrets.stashes.items()]
    state = exported((kinds.AUTHORITIES, "authorities", {"kept": secrets.authorities}), *rows)
    held = kept_secrets.secrets_in(state, "dev")
    assert replace(held, made=NOW) == secrets
    with pytest.raises(Problem, match="has no keys yet"):
        kept_secrets.secrets_in(exported(), "dev")


# -- whether it fits -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"authorities": {"kubernetes": [1, 2]}}, "authorities.kubernetes"),
        ({"keys": {"encryption": 2}}, "keys.encryption"),
        ({"keys": {"service_accounts": 2}}, "keys.service_accounts"),
        ({"ssh_keys": [1, 2]}, "ssh_keys"),
    ],
)
def test_keys_that_turned_over_since_are_refused(
    secrets: KeptSecrets, change: dict[str, Any], field: str
) -> None:
    recover.demand_fitting(secrets, spec_of(), FILE)
    with pytest.raises(Problem, match=f"other keys than Pulumi.dev.yaml names in {field}: "):
        recover.demand_fitting(secrets, spec_of(**change), FILE)


def test_keys_of_another_stack_are_refused(secrets: KeptSecrets) -> None:
    with pytest.raises(Problem, match="keys of the stack 'dev', and not of 'lab2'"):
        recover.demand_fitting(secrets, spec_of("lab2"), FILE)


def test_only_a_state_of_its_own_is_written_again(
    secrets: KeptSecrets, authorities: Authorities
) -> None:
    kept = (kinds.AUTHORITIES, "authorities", {"kept": secrets.authorities})
    stack: tuple[str, str, dict[str, str]] = (adopted.STACK, "hardway-dev", {})

    def state_with(*rows: tuple[str, str, dict[str, str]]) -> dict[str, Any]:
        state = exported(*rows)
        for row in state["deployment"]["resources"]:
            row["custom"] = row["type"] != adopted.STACK
        return state

    unused: tuple[dict[str, Any], ...] = (
        {"deployment": {}},
        state_with(stack),
        state_with(stack, (f"{adopted.PROVIDERS}libvirt", "libvirt", {})),
        state_with(stack, kept),
    )
    for state in unused:
        recover.demand_unused(state, secrets, "dev")
    renewed = replace(authorities, service_accounts=renewed_authorities(None, NOW).service_accounts)
    again = json.dumps(renewed.state())
    recover.demand_unused(
        state_with(stack, (kinds.AUTHORITIES, "authorities", {"kept": again})), secrets, "dev"
    )
    others = json.dumps(renewed_authorities(None, NOW).state())
    for state in (
        state_with(stack, kept, (kinds.COMMAND, "master-etcd", {})),
        state_with(stack, (kinds.AUTHORITIES, "authorities", {"kept": others})),
        state_with(stack, (DOMAIN, "master", {})),
    ):
        with pytest.raises(Problem, match=r"the stack 'dev' has a state.* --file dev.state"):
            recover.demand_unused(state, secrets, "dev")


# -- what machines have ----------------------------------------------------------------------------

THERE = {
    (kinds.MACHINE, DOMAIN, "master"): "uuid of master",
    (kinds.MACHINE, VOLUME, "master-disk"): "/disks/dev-master.qcow2",
}


def judged_of(
    spec: Cluster,
    secrets: KeptSecrets,
    there: dict[adopted.Identity, str],
    answers: dict[str, KeptFiles],
    file: Path,
) -> list[MachineRow]:
    wanted = machine_keys.expected(spec, secrets.read_authorities)
    return machine_keys.judged(spec, secrets, wanted, there, answers, file)


def has(spec: Cluster, authorities: Authorities, node: str) -> dict[str, str]:
    """The digests of what an update writes to a machine, as that machine has it."""
    content = material(spec.name, authorities, Bundle())
    written = {}
    for file in identity.step(spec, node).secret_files:
        try:
            text = content(file.source)
        except KeyError:  # a certificate of the machine's own
            continue
        written[file.path] = hashlib.sha256(text.encode()).hexdigest()
    return written


def test_machines_with_the_keys_are_taken(secrets: KeptSecrets, authorities: Authorities) -> None:
    spec = spec_of()
    files = KeptFiles(
        digests={**has(spec, authorities, "master"), layout.ETCD_ANSWERED: "of no matter"}
    )
    master, minion = judged_of(spec, secrets, THERE, {"master": files}, FILE)
    assert (master.made, master.says, master.has_etcd) == (
        "there",
        "has the keys of the file",
        True,
    )
    assert (minion.made, minion.says, minion.has_etcd) == (
        "not there",
        "the update makes it",
        False,
    )


def test_a_machine_with_another_key_is_refused(
    secrets: KeptSecrets, authorities: Authorities
) -> None:
    spec = spec_of()
    others = renewed_authorities(None, NOW)
    for path in (layout.AUTHORITY_KEY, layout.ETCD_AUTHORITY, layout.ENCRYPTION):
        digests = has(spec, authorities, "master") | {path: has(spec, others, "master")[path]}
        with pytest.raises(Problem, match=f"master has another {path} than dev.secrets"):
            judged_of(spec, secrets, THERE, {"master": KeptFiles(digests=digests)}, FILE)


def test_former_service_account_keys_may_be_forgotten_since(
    secrets: KeptSecrets, authorities: Authorities
) -> None:
    spec = spec_of()
    digests = has(spec, authorities, "master") | {layout.SERVICE_ACCOUNT_PUBLIC: "another"}
    judged_of(spec, secrets, THERE, {"master": KeptFiles(digests=digests)}, FILE)


def test_an_empty_machine_is_no_founder_and_a_silent_one_is_shown(secrets: KeptSecrets) -> None:
    spec = spec_of()
    both = THERE | {(kinds.MACHINE, DOMAIN, "minion"): "uuid of minion"}
    silent = KeptFiles(digests={}, fault="minion does not answer")
    rows = judged_of(spec, secrets, both, {"master": KeptFiles(digests={}), "minion": silent}, FILE)
    assert [(row.says, row.has_etcd) for row in rows] == [
        ("has no keys of a cluster", False),
        ("minion does not answer", False),
    ]
    assert machine_keys.founders_of(spec, rows) == []
    with pytest.raises(Problem, match="no machine answers: minion does not answer"):
        judged_of(spec, secrets, both, {"minion": silent}, FILE)
    refused = KeptFiles(digests={}, fault="minion does not let root in", refused=True)
    with pytest.raises(Problem, match="is not of its keys"):
        judged_of(spec, secrets, both, {"minion": refused}, FILE)


def test_a_disk_without_its_machine_may_begin_what_is_there(secrets: KeptSecrets) -> None:
    spec = spec_of()
    alone = {(kinds.MACHINE, VOLUME, "master-disk"): "/disks/dev-master.qcow2"}
    rows = judged_of(spec, secrets, alone, {}, FILE)
    assert [row.says for row in rows] == [
        "its disk is there: the update starts it",
        "the update makes it",
    ]
    assert machine_keys.founders_of(spec, rows) == ["master"]
    assert machine_keys.founders_of(spec, judged_of(spec, secrets, {}, {}, FILE)) == []


def test_a_member_that_may_have_data_is_waited_for() -> None:
    spec = spec_of(
        machines={
            name: {"address": f"192.168.1.1{number}", "roles": "aei" if number == 0 else "e"}
            for number, name in enumerate(("master", "second", "third"))
        }
    )
    silent = MachineRow(machine="master", made="there", says="it is silent", answers=False)
    empty = MachineRow(machine="second", made="there", says="has no keys of a cluster")
    full = MachineRow(machine="third", made="there", says="has the keys", has_etcd=True)
    assert machine_keys.founders_of(spec, [silent, empty, full]) == ["third"]
    assert machine_keys.founders_of(spec, [empty]) == []
    with pytest.raises(Problem, match="whether etcd has data on master: it is silent"):
        machine_keys.founders_of(spec, [silent, empty])


# -- the state -------------------------------------------------------------------------------------


def recording_of(secrets: KeptSecrets, spec: Cluster, **where: Any) -> Recording:
    """What the program declares for a stack with these secrets."""
    value = {
        "networks": {"machines": "192.168.1.0/24"},
        "machines": {
            name: {"address": str(machine.address), "roles": sorted(machine.roles)}
            for name, machine in spec.machines.items()
        },
    }
    before = Recorder()
    before.seen = [cast("Registered", asdict(kept)) for kept in adopted.held(secrets)]
    recorder = declared(value | where, before=before)
    return Recording(registrations=registrations(recorder))


def ids_of(recording: Recording) -> dict[adopted.Identity, str]:
    """An ID for everything that a hypervisor makes, as each hypervisor has it."""
    there = {d.identity: f"real {d.name}" for d in recording.registrations if is_made(d.kind)}
    return {
        identity: f"{identifier};its own" if identity[1] == SEED else identifier
        for identity, identifier in there.items()
    }


def test_a_state_has_the_secrets_and_the_machines_that_are_there(
    secrets: KeptSecrets, authorities: Authorities
) -> None:
    spec = spec_of()
    recording = recording_of(secrets, spec)
    assert not recording.refused
    there = ids_of(recording)
    assert {kind for _, kind, _ in there} == {NETWORK, VOLUME, SEED, DOMAIN}
    resources = adopted.resources("dev", recording, there, ["master"])
    state = {"deployment": {"resources": resources}}
    assert kept_authorities(state) == authorities
    assert kept_access(spec, state).ssh_key == secrets.stashes["ssh-key"]["private"]
    held = kept_secrets.secrets_in(state, "dev")
    assert replace(held, made=NOW) == replace(secrets, applied=written(spec))

    by_name = {
        (resource["type"], resource["urn"].rpartition("::")[2]): resource for resource in resources
    }
    assert by_name[kinds.SPECIFICATION, "specification"]["outputs"]["founders"] == "master"
    domain = by_name[DOMAIN, "minion"]
    assert domain["id"] == "real minion"
    assert domain["urn"] == (
        f"urn:pulumi:dev::hardway::{kinds.CLUSTER}${kinds.MACHINE}${DOMAIN}::minion"
    )
    assert [disk["volumeId"] for disk in domain["inputs"]["disks"]] == [
        "real minion-disk",
        "real minion-seed",
    ]
    assert [card["networkId"] for card in domain["inputs"]["networkInterfaces"]] == ["real network"]
    assert by_name[SEED, "minion-seed"]["id"] == "real minion-seed;its own"
    types = {resource["type"] for resource in resources}
    assert not types & {kinds.COMMAND, kinds.GUARD, kinds.CERTIFICATES, kinds.READY}


def test_secrets_that_the_file_lacks_are_not_made_up(secrets: KeptSecrets) -> None:
    recording = recording_of(secrets, spec_of())
    recover.demand_whole(secrets, recording, FILE)
    fewer = {name: kept for name, kept in secrets.stashes.items() if name != "backup-keys"}
    with pytest.raises(Problem, match="has no backup-keys, which the stack has by now"):
        recover.demand_whole(replace(secrets, stashes=fewer), recording, FILE)


def test_what_an_update_would_make_anew_or_restart_is_named() -> None:
    def change(kind: str, name: str, verb: Verb) -> ResourceChange:
        declared = Registration(kind=kind, name=name)
        return ResourceChange(verb=verb, before=declared, after=declared)

    changes = [
        change(DOMAIN, "m1", Verb.REPLACE),
        change(DOMAIN, "m2", Verb.UPDATE),
        change(VOLUME, "m2-disk", Verb.SAME),
        change(NETWORK, "network", Verb.DELETE),
        change(BOX, "m3", Verb.UPDATE),
        change(kinds.COMMAND, "m1-etcd", Verb.REPLACE),
    ]
    assert list(recover.differing(changes)) == ["m1", "network", "m3"]


def test_the_engine_reads_each_resource_after_what_it_names(secrets: KeptSecrets) -> None:
    recording = recording_of(secrets, spec_of())
    seen: set[str] = set()
    for resource in adopted.resources("dev", recording, ids_of(recording)):
        named = {resource.get("parent"), resource.get("provider", "").rpartition("::")[0]}
        assert named - {None, ""} <= seen, resource["urn"]
        assert resource["urn"] not in seen
        seen.add(resource["urn"])


def test_no_secret_is_in_plain_text(secrets: KeptSecrets) -> None:
    recording = recording_of(secrets, spec_of())
    resources = adopted.resources("dev", recording, ids_of(recording))
    hidden = secrets_of({"deployment": {"resources": resources}})
    for kept in secrets.stashes.values():
        assert {text for name, text in kept.items() if name not in ("public", "recipient")} - {
            kept.get("ssh_public")
        } <= hidden
    assert secrets.authorities in hidden


def test_what_is_not_there_is_left_to_the_update(secrets: KeptSecrets) -> None:
    recording = recording_of(secrets, spec_of())
    there = {
        identity: identifier
        for identity, identifier in ids_of(recording).items()
        if not identity[2].startswith("minion")
    }
    names = {
        resource["urn"].rpartition("::")[2]
        for resource in adopted.resources("dev", recording, there)
    }
    assert {"master", "master-disk", "master-seed", "network"} <= names
    assert not {name for name in names if name.startswith("minion")}


def test_machines_of_virtualbox_have_their_provider_with_them(secrets: KeptSecrets) -> None:
    spec = spec_of()
    recording = recording_of(
        secrets, spec, hypervisor={"kind": "virtualbox", "image": "/images/base.vdi"}
    )
    there = ids_of(recording)
    assert {kind for _, kind, _ in there} == {ADAPTER, BOX}
    resources = adopted.resources("dev", recording, there)
    boxes = [resource for resource in resources if resource["type"] == BOX]
    assert {box["inputs"]["network"] for box in boxes} == {"real network"}
    for resource in resources:
        if resource["type"].startswith("pulumi-python:dynamic"):
            assert resource["inputs"]["__provider"] == resource["outputs"]["__provider"]
