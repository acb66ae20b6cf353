"""``drift``: what a person and a program see, and that no machine waits for another."""

import asyncio
import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from certs.bundle import Bundle
from certs.ssh import new_key_pair
from ops import drift as module
from ops.drift import API, Comparison, WantedObjects, objects_of, verdict, wanted_of
from ops.expiry import Ending
from plan import addons
from plan.cluster import cluster_plan
from plan.contents import ITEMS, OBJECTS, packed
from plan.declared import DeclaredObject
from plan.held import Difference, absent, compared, held, scripts
from plan.item import AS_KEPT, Item, Kind
from preview.kinds import AUTHORITIES, CERTIFICATES, CLUSTER, GUARD, MACHINE
from preview.kinds import OBJECTS as OBJECTS_KIND
from probe import observation
from probe.access import Access, MachineAccess
from probe.api import Api, ApiError
from probe.machines import Unreachable
from probe.observation import Facts, Wanted, everywhere
from spec.cluster import ArtifactSource, Cluster
from tests.engine.sshd import Sshd, make_sshd, privilege_separation_directory, sshd
from tests.ops.exported import exported
from tests.plan.golden import golden_spec
from tests.plan.running import Keys
from tests.probe.machine import machine

__all__ = ["make_sshd", "privilege_separation_directory", "sshd"]

DIGESTS = "a" * 64, "b" * 64
ITEM = Item(
    kind=Kind.FILE,
    name="/etc/kubernetes/kubelet.yaml",
    wanted=f"sha256:{DIGESTS[0]} 0600 root:root",
    step="node",
)
DIFFERENCE = Difference(item=ITEM, observed=f"sha256:{DIGESTS[1]} 0600 root:root")
OF_OBJECT = Difference(
    item=Item(
        kind=Kind.OBJECT,
        name="Deployment kube-system/coredns spec.replicas",
        wanted="2",
        step="add-ons-apply",
    ),
    observed="5 (set by kubectl at 2030-01-02T03:04:05Z)",
)
SILENT = ApiError("https://192.168.1.10:6443 cannot be reached (Connection refused)")
AWAY = Unreachable("minion-2 (192.168.1.12 port 22) does not answer over SSH in time")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"m": ()}, Comparison.CLEAN),
        ({"m": (), "n": (DIFFERENCE,)}, Comparison.DRIFTED),
        ({"m": (), "n": AWAY}, Comparison.UNKNOWN),
        ({"m": (DIFFERENCE,), "n": AWAY}, Comparison.UNKNOWN),
        ({"m": (), API: (OF_OBJECT,)}, Comparison.DRIFTED),
        ({"m": (DIFFERENCE,), API: SILENT}, Comparison.UNKNOWN),
    ],
)
def test_the_verdict_is_the_worst_that_was_heard(answers: Any, expected: Comparison) -> None:
    assert verdict(answers) is expected


@dataclass
class ReachedForDrift:
    spec: Cluster
    access: Access
    unapplied: str | None
    stack: None = None
    state: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = golden_spec("default")

    def run(
        answers: Mapping[str, Any],
        *arguments: str,
        unapplied: str | None = None,
        ending: tuple[Ending, ...] = (),
        is_up: bool = True,
    ) -> Result:
        machines = {n: MachineAccess(address="127.0.0.1", host_key="none") for n in answers}
        reached = ReachedForDrift(spec, Access(machines=machines, ssh_key="none"), unapplied)

        async def asked(access: Access, wanted: Mapping[str, Wanted]) -> Any:
            del access
            return {name: answers[name] for name in wanted}

        async def api(kubeconfig: str, declared: tuple[DeclaredObject, ...]) -> Any:
            assert (kubeconfig, declared) == ("none", addons.declared(spec))
            if isinstance(of_api := answers.get(API, ()), Exception):
                raise of_api
            return of_api

        objects = WantedObjects(declared=addons.declared(spec), kubeconfig="none")
        monkeypatch.setattr(module, "reach", lambda _: reached)
        monkeypatch.setattr("ops.expiry.ending_soon", lambda _: ending)
        monkeypatch.setattr(module, "everywhere", asked)
        monkeypatch.setattr(module, "differing", api)
        monkeypatch.setattr(module, "objects_of", lambda *_: objects if is_up else None)
        app = typer.Typer()
        module.register(app)
        return CliRunner().invoke(app, list(arguments))

    return run


def printed(monkeypatch: pytest.MonkeyPatch, width: int) -> Any:
    monkeypatch.setenv("TERM", "dumb")
    console = Console(width=width, highlight=False, soft_wrap=False, color_system=None)
    monkeypatch.setattr(module, "stdout", console)
    return console


NAMES = ("master", "minion-1", "minion-2")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_person_reads_machine_thing_and_both_states_at_any_width(
    run: Any, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    printed(monkeypatch, width)
    done = run({"master": (), "minion-1": (DIFFERENCE,), "minion-2": AWAY})
    output = " ".join(done.stdout.split())
    assert done.exit_code == 3
    assert "holds master: all of" in output
    assert "differs minion-1: file /etc/kubernetes/kubelet.yaml is sha256:bbbbbbbbbbbb" in output
    assert "and should be sha256:aaaaaaaaaaaa 0600 root:root" in output
    assert "unknown minion-2: minion-2 (192.168.1.12 port 22) does not answer" in output
    assert "./hardway up --refresh" in output
    assert all(len(line) <= width for line in done.stdout.splitlines())


def test_a_program_reads_whole_digests_and_which_step_mends(run: Any) -> None:
    done = run({"master": (), "minion-1": (DIFFERENCE,), "minion-2": ()}, "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert report["verdict"] == "drifted"
    assert report["machines"]["master"] == {"asked": True, "differences": []}
    (difference,) = report["machines"]["minion-1"]["differences"]
    assert difference["kind"] == "file"
    assert difference["is"].split(":")[1].startswith(DIGESTS[1])
    assert difference["should_be"] == ITEM.wanted
    assert difference["step"] == "node"


def test_a_cluster_as_planned_says_so(run: Any) -> None:
    done = run(dict.fromkeys(NAMES, ()))
    assert done.exit_code == 0
    assert "Nothing has drifted." in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if " the API: " in line)
    (count,) = re.findall(r"holds +the API: all of (\d+) things", line)
    assert int(count) == len(addons.declared(golden_spec("default")))


def test_an_object_is_told_as_what_is_on_a_machine(run: Any) -> None:
    answers = dict.fromkeys(NAMES, ()) | {API: (OF_OBJECT,)}
    done = run(answers)
    assert done.exit_code == 1
    assert f"differs  the API: {OF_OBJECT.sentence}" in " ".join(done.stdout.split("\n"))
    report = json.loads(run(answers, "--json").stdout)
    assert set(report["machines"]) == set(NAMES)
    (difference,) = report["api"]["differences"]
    assert difference == {
        "kind": "object",
        "name": OF_OBJECT.item.name,
        "is": OF_OBJECT.observed,
        "should_be": "2",
        "step": "add-ons-apply",
    }


def test_an_api_that_does_not_answer_has_not_drifted(run: Any) -> None:
    done = run(dict.fromkeys(NAMES, ()) | {API: SILENT}, "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["api"] == {"asked": False, "error": str(SILENT)}
    done = run(dict.fromkeys(NAMES, ()), "--json", is_up=False)
    assert done.exit_code == 3
    assert json.loads(done.stdout)["api"]["error"] == "it is not up yet"


SOON = Ending(holder="master", name="kubelet-server", end=datetime.now(UTC) + timedelta(days=29))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (dict.fromkeys(NAMES, ()), 2),
        (dict.fromkeys(NAMES, ()) | {"master": (DIFFERENCE,)}, 1),
        (dict.fromkeys(NAMES, ()) | {"master": AWAY}, 3),
    ],
)
def test_a_certificate_that_ends_soon_is_told_beside_what_the_machines_say(
    run: Any, answers: Any, expected: int
) -> None:
    done = run(answers, ending=(SOON,))
    assert done.exit_code == expected
    assert f"kubelet-server of master ends on {SOON.end:%Y-%m-%d}" in done.stdout
    report = json.loads(run(answers, "--json", ending=(SOON,)).stdout)
    assert report["certificates"] == [
        {"holder": "master", "name": "kubelet-server", "ends": SOON.end.isoformat()}
    ]


def test_what_was_not_applied_is_told_and_is_no_drift(run: Any) -> None:
    message = "Pulumi.dev.yaml has changes that were not applied"
    done = run(dict.fromkeys(NAMES, ()), unapplied=message)
    assert done.exit_code == 0
    assert message in done.stdout
    assert json.loads(run(dict.fromkeys(NAMES, ()), "--json", unapplied=message).stdout)[
        "unapplied"
    ]


def test_a_machine_that_is_not_up_is_told(run: Any) -> None:
    done = run({"master": (), "minion-1": ()}, "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["machines"]["minion-2"]["error"] == "it is not up yet"


# -- what is compared ----------------------------------------------------------------------------


def test_what_machines_should_hold_is_the_plans_and_the_keys_are_the_states() -> None:
    spec = golden_spec("default")
    keys = Keys(spec)
    pairs = {node: keys.of(node) for node in spec.machines}

    kept = [
        (f"{CLUSTER}${MACHINE}${CERTIFICATES}", f"{node}-keys", Bundle(pairs[node]).state())
        for node in pairs
    ]
    kept += [(AUTHORITIES, "authorities", keys.authorities.state())]
    state = exported(
        *((kind, name, {"kept": json.dumps(keys_kept)}) for kind, name, keys_kept in kept)
    )
    for node, wanted in wanted_of(spec, state).items():
        plan = compared(spec, cluster_plan(spec).nodes[node])
        for file in plan.secret_files:
            content = keys.content(file.source, pairs[node])
            if not file.path.endswith(".conf"):  # the cluster's name is in a kubeconfig
                assert wanted.secrets[file.path] == hashlib.sha256(content.encode()).hexdigest()
        hidden = [item for item in wanted.items if item.wanted.startswith(AS_KEPT)]
        assert {item.name for item in hidden} == set(wanted.secrets)


def test_what_was_applied_counts_and_not_what_this_program_would_plan() -> None:
    spec = golden_spec("default")

    def guard(node: str, items: str) -> tuple[str, str, dict[str, str]]:
        own = {
            "items": items,
            "secrets": '{"/etc/key": "digest"}',
            "login": f'{{"node": "{node}"}}',
        }
        return GUARD, f"{node}-guard", own

    of_another_program = guard("minion-1", "what nobody reads any more")
    wanted = wanted_of(spec, exported(guard("master", packed(ITEMS, (ITEM,))), of_another_program))
    assert list(wanted) == list(spec.machines)
    assert wanted["master"] == Wanted(items=(ITEM,), secrets={"/etc/key": "digest"})
    for node in ("minion-1", "minion-2"):
        plan = compared(spec, cluster_plan(spec).nodes[node])
        assert wanted[node].items == (*scripts(), *held(plan), *absent(plan))


def test_with_every_guard_nothing_is_planned() -> None:
    """The bytes of artifacts may be unknown here, as where the lab's offer is gone."""
    spec = golden_spec("default").model_copy(update={"artifacts": ArtifactSource()})
    state = exported(
        *(
            (
                GUARD,
                f"{node}-guard",
                {
                    "items": packed(ITEMS, ()),
                    "secrets": "{}",
                    "login": json.dumps({"node": node}),
                },
            )
            for node in spec.machines
        )
    )
    assert set(wanted_of(spec, state)) == set(spec.machines)


def test_the_objects_are_those_that_were_applied_and_the_keys_those_of_the_state() -> None:
    spec = golden_spec("default")
    assert objects_of(spec, exported()) is None
    keys = Keys(spec)
    people = keys.of_people()
    state = (
        (AUTHORITIES, "authorities", {"kept": json.dumps(keys.authorities.state())}),
        (CERTIFICATES, "people-keys", {"kept": json.dumps(Bundle(people).state())}),
    )
    planned = objects_of(spec, exported(*state))
    assert planned is not None
    assert planned.declared == addons.declared(spec)
    assert Api(planned.kubeconfig).server == spec.api_url
    key = b64encode(people["super-admin"].key.encode()).decode()
    assert key in planned.kubeconfig, "no object is needed for its rights"
    assert key not in repr(planned)
    applied = addons.declared(spec)[:1]
    for packed_objects, declared in ((packed(OBJECTS, applied), applied), ("?", planned.declared)):
        own = (OBJECTS_KIND, "objects", {"objects": packed_objects})
        kept = objects_of(spec, exported(*state, own))
        assert kept is not None
        assert kept.declared == declared


# -- all at once ---------------------------------------------------------------------------------


def test_fifty_machines_are_asked_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"m{number}" for number in range(50)]
    here, all_here = 0, asyncio.Event()

    async def looked(machines: Any, node: str, items: Any, secrets: Any) -> Any:
        nonlocal here
        del machines, items, secrets
        here += 1
        if here == len(names):
            all_here.set()
        # Nobody is answered before everybody is asked.
        await all_here.wait()
        if node == "m7":
            raise Unreachable("m7 is away")
        item = DIFFERENCE.item
        return {item.key: DIFFERENCE.observed if node == "m8" else item.wanted}, Facts()

    monkeypatch.setattr(observation, "_looked", looked)
    wanted = dict.fromkeys(names, Wanted(items=(DIFFERENCE.item,), secrets={}))
    answers = asyncio.run(everywhere(Access(machines={}, ssh_key=""), wanted))
    assert list(answers) == names
    assert isinstance(answers["m7"], Unreachable)
    assert [name for name, answer in answers.items() if answer == (DIFFERENCE,)] == ["m8"]


@pytest.mark.engine
def test_fifty_connections_are_open_at_once_and_each_answers_for_itself(
    sshd: Sshd, tmp_path: Path
) -> None:
    names = [f"m{number}" for number in range(50)]
    opened = machine(sshd)
    access = Access(
        machines=dict.fromkeys(names, opened),
        ssh_key=(sshd.directory / "client_key").read_text(),
    )
    owner = f"{tmp_path.owner()}:{tmp_path.group()}"
    wanted = {}
    for number, name in enumerate(names):
        folder = tmp_path / name
        folder.mkdir()
        folder.chmod(0o700 if number % 5 else 0o750)
        item = Item(kind=Kind.DIRECTORY, name=str(folder), wanted=f"0700 {owner}", step="one")
        wanted[name] = Wanted(items=(item,), secrets={})
    answers = asyncio.run(everywhere(access, wanted))
    assert [name for name in names if answers[name]] == names[::5]
    log = sshd.log()
    assert log.count("Accepted publickey") == 50
    assert "drop connection" not in log


@pytest.mark.engine
def test_a_machine_with_another_key_is_not_asked(sshd: Sshd) -> None:
    opened = machine(sshd)
    impostor = MachineAccess(
        address=opened.address,
        port=opened.port,
        user=opened.user,
        host_key=new_key_pair().public,
    )
    access = Access(machines={"m": impostor}, ssh_key=(sshd.directory / "client_key").read_text())
    answers = asyncio.run(everywhere(access, {"m": Wanted(items=(), secrets={})}))
    assert "it is another machine" in str(answers["m"])
