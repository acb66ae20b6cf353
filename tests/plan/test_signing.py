"""The key pair of service accounts' tokens turns over on real control planes, under a client."""

import json
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certs.signing import REPLACED, TRUSTED, private_key, public_keys
from ops import snapshot
from plan import controller_manager, layout, walk
from plan.model import AllEncryptionKeys, AllServiceAccountPairs
from plan.records import parsed
from probe.failure import Unmet
from probe.keys import Noted, of_signing
from tests.engine.stack import eventually
from tests.machine.lab import at_length
from tests.plan.running import Keys
from tests.plan.stored import as_root
from tests.plan.tokens_client import ACCOUNTS, key_of
from tests.plan.turning import LONE, THREE, TWO, Client, PlanesOf, TurningPlanes, turned

TOKENS = "tokens_client"
LATER = TRUSTED + timedelta(minutes=1)


def unharmed(client: Client) -> dict[str, Any]:
    """What the client counted, whose tokens were all accepted."""
    counts = client.counts()
    assert counts["failed"] == counts["refused"] == []
    return counts


def have(planes: TurningPlanes, *names: str) -> None:
    """All control planes trust these pairs, and sign with the first."""
    pairs = planes.keys.authorities.service_accounts
    for plane in planes.names:
        machine = planes.machines[plane]
        assert machine.read(layout.SERVICE_ACCOUNT_PRIVATE) == pairs.keys[names[0]].private
        assert machine.path(layout.SERVICE_ACCOUNT_PRIVATE).stat().st_mode & 0o777 == 0o600
        public = "".join(pairs.keys[name].public for name in sorted(names))
        assert machine.read(layout.SERVICE_ACCOUNT_PUBLIC) == public
        assert len(planes.api(plane, "/openid/v1/jwks")["keys"]) == len(names)
    noted = dict.fromkeys(planes.names, f"{pairs.turn} {' '.join(names)}")
    notes = planes.notes(walk.SERVICE_ACCOUNTS)
    assert {plane: note.removesuffix(" starting") for plane, note in notes.items()} == noted


def grow_old(planes: TurningPlanes) -> None:
    """Have all that control planes published be as old as tokens can get."""
    began = int(time.time() - REPLACED.total_seconds()) - 1
    for plane, note in planes.notes(walk.SERVICE_ACCOUNTS).items():
        planes.ctl("put", f"{walk.SERVICE_ACCOUNTS}{plane}", f"{note} since={began}")


def in_secret(planes: TurningPlanes, name: str) -> str:
    """The token in a Secret that the controller manager fills."""

    def filled() -> bool:
        return "token" in planes.secrets().get(name, {})

    eventually("the Secret has a token", filled)
    return b64decode(planes.secrets()[name]["token"]).decode()


def make_secret(planes: TurningPlanes, name: str) -> None:
    metadata = {"name": name, "annotations": {"kubernetes.io/service-account.name": "robot"}}
    body = {"metadata": metadata, "type": "kubernetes.io/service-account-token"}
    data = ("--header", "Content-Type: application/json", "--data", json.dumps(body))
    planes.api("c1", "/api/v1/namespaces/default/secrets", *data)


@as_root
@pytest.mark.timeout(1800)
def test_a_lone_api_server_signs_with_the_new_pair_and_trusts_the_old_one_long_enough(
    planes_of: PlanesOf, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    planes = planes_of(LONE)
    before = planes.starts("c1"), planes.starts("c1", controller_manager.UNIT)
    with planes.client(tmp_path / "client", TOKENS) as client:
        old = (tmp_path / "client/old.token").read_text()
        make_secret(planes, "of-before")
        of_before = in_secret(planes, "of-before")
        planes.declare(service_accounts=2)
        planes.update()
        have(planes, "pair2", "pair1")
        eventually("the new pair signs", lambda: len(client.counts()["signers"]) == 2)
        make_secret(planes, "of-after")
        eventually("it signs", lambda: key_of(in_secret(planes, "of-after")) != key_of(old))
    counts = unharmed(client)
    record_property("counts", counts)
    after = planes.starts("c1"), planes.starts("c1", controller_manager.UNIT)
    assert (after[0] - before[0], after[1] - before[1]) == (2, 1)
    assert [planes.status("c1", token) for token in (old, of_before)] == ["200", "200"]
    planes.demand()

    # The state does not know when an API server began to sign: one that began late keeps both.
    planes.declare(service_accounts=2, later=LATER)
    planes.update()
    assert planes.machines["c1"].read(layout.SERVICE_ACCOUNT_PUBLIC).count("BEGIN") == 2
    assert planes.status("c1", old) == "200"
    planes.demand()
    grow_old(planes)
    planes.run("c1", planes.identity("c1"))
    have(planes, "pair2")
    assert planes.starts("c1") == after[0] + 1
    refused = [planes.status("c1", token) for token in (old, of_before)]
    assert refused == ["401", "401"]
    assert planes.status("c1", in_secret(planes, "of-after")) == "200"
    planes.demand()


@as_root
@at_length
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("names", [THREE])
def test_both_keys_turn_over_in_the_same_update_and_nobody_is_refused(
    planes_of: PlanesOf,
    names: Sequence[str],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    planes = planes_of(names)
    before = {name: planes.starts(name) for name in names}
    with (
        planes.client(tmp_path / "tokens", TOKENS) as client,
        planes.client(tmp_path / "secrets") as another,
    ):
        planes.declare(encryption=2, service_accounts=2)
        planes.update()
        planes.is_all("key2")
        have(planes, "pair2", "pair1")
        eventually("the new pair signs", lambda: len(client.counts()["signers"]) == 2)
    record_property("counts", unharmed(client))
    counts = another.counts()
    assert counts["failed"] == counts["unreadable"] == counts["lost"] == []
    assert {name: planes.starts(name) - before[name] for name in names} == dict.fromkeys(names, 5)
    planes.demand()
    old = (tmp_path / "tokens/old.token").read_text()
    grow_old(planes)
    planes.declare(encryption=2, service_accounts=2, later=LATER)
    planes.update()
    have(planes, "pair2")
    assert [planes.status(name, old) for name in names] == ["401"] * len(names)


@as_root
@at_length
@pytest.mark.timeout(3600)
def test_it_goes_on_or_back_from_wherever_it_was_cut_off(
    planes_of: PlanesOf, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    planes = planes_of(THREE)

    def cut(reached: Callable[[list[list[str]]], bool]) -> None:
        """Cut the update off where the published pairs are like that."""
        turn = planes.keys.authorities.service_accounts.turn
        planes.cut_off(walk.SERVICE_ACCOUNTS, turn, reached)

    with planes.client(tmp_path / "client", TOKENS) as client:
        # The first API server trusts the new pair; back.
        planes.declare(service_accounts=2)
        cut(lambda pairs: ["pair1", "pair2"] in pairs)
        with pytest.raises(Unmet, match="has not wholly become pair2"):
            planes.demand()
        planes.declare()
        planes.update()
        have(planes, "pair1", "pair2")
        # The first of them signs with it; on.
        planes.declare(service_accounts=2)
        cut(lambda pairs: ["pair2", "pair1"] in pairs)
        # Without the field in the spec, the first pair is declared.
        planes.spec = planes.spec.model_copy(update={"keys": None})
        with pytest.raises(Unmet, match="has not wholly become pair1"):
            planes.demand()
        planes.declare(service_accounts=2)
        planes.update()
        have(planes, "pair2", "pair1")
    record_property("counts", unharmed(client))

    # The first one refuses tokens of the old pair; back.
    grow_old(planes)
    planes.declare(service_accounts=2, later=LATER)
    cut(lambda pairs: ["pair2"] in pairs)
    planes.declare(service_accounts=1)
    planes.update()
    have(planes, "pair1", "pair2")
    planes.demand()


@as_root
@at_length
@pytest.mark.timeout(3600)
def test_a_control_plane_that_is_new_in_the_same_update_gets_what_publishes_its_keys(
    planes_of: PlanesOf, tmp_path: Path
) -> None:
    planes = planes_of(LONE)
    with planes.client(tmp_path / "client", TOKENS) as client:
        make_secret(planes, "of-before")
        planes.become(TWO)
        machine = planes.machines["c2"]
        program = walk_program(planes)
        content = machine.path(program).read_bytes()
        machine.path(program).unlink()
        machine.write(f"/srv/sha256/{Path(program).name}", content)
        planes.declare(encryption=2, service_accounts=2)
        with machine.serving("/srv", 8000):
            planes.update()
        assert machine.path(program).read_bytes() == content
        planes.everywhere(TWO, planes.serve)
        have(planes, "pair2", "pair1")
        planes.is_all("key2")
    unharmed(client)


def walk_program(planes: TurningPlanes) -> str:
    """Where etcdctl is on a machine."""
    made = walk.walk(planes.spec, "c2", "")
    assert made
    return made.program


@as_root
@at_length
@pytest.mark.timeout(3600)
def test_after_a_restore_the_pairs_are_those_of_today(planes_of: PlanesOf, tmp_path: Path) -> None:
    planes = planes_of(LONE)
    with planes.client(tmp_path / "client", TOKENS):
        old = (tmp_path / "client/old.token").read_text()
        make_secret(planes, "of-before")
        in_secret(planes, "of-before")
    path = tmp_path / "snapshot.db"
    planes.save(path)
    planes.declare(service_accounts=2)
    planes.update()
    grow_old(planes)
    planes.declare(service_accounts=2, later=LATER)
    planes.update()
    held = snapshot.read(path, planes.content("c1")(AllEncryptionKeys()))
    with planes.restoring(path, held):
        pass
    have(planes, "pair2")
    planes.demand()
    # A Secret of the snapshot has a token that nobody accepts, and gets a new one once it has none.
    former = in_secret(planes, "of-before")
    assert planes.status("c1", old) == planes.status("c1", former) == "401"
    patch = '[{"op": "remove", "path": "/data/token"}]'
    headers = ("--request", "PATCH", "--header", "Content-Type: application/json-patch+json")
    url = "/api/v1/namespaces/default/secrets/of-before"
    planes.api("c1", url, *headers, "--data", patch)
    eventually("it has a new one", lambda: in_secret(planes, "of-before") != former)
    assert planes.status("c1", in_secret(planes, "of-before")) == "200"
    assert planes.api("c1", ACCOUNTS)["items"]


# -- without machines ------------------------------------------------------------------------------


def test_a_pair_that_never_turned_over_is_two_files_like_others() -> None:
    spec = TurningPlanes.without_machines(THREE)
    keys = Keys(spec)
    own = (layout.SERVICE_ACCOUNT_PRIVATE, layout.SERVICE_ACCOUNT_PUBLIC)

    def records() -> list[tuple[str, str]]:
        text = TurningPlanes.data_of(spec, keys, "c2")
        return [
            (kind, content)
            for (kind, *fields), content in parsed(text)
            if {*own} & {*fields} and kind in ("secret", "signs")
        ]

    pairs = keys.authorities.service_accounts
    assert records() == [("secret", private_key(pairs)), ("secret", public_keys(pairs))]
    keys.authorities = turned(keys.authorities, service_accounts=2)
    assert records() == [("signs", keys.content(AllServiceAccountPairs(), {}))]
    assert records()[0][1].startswith("# turn 1\n# trusted pair2 pair1\n- name: pair1\n")
    keys.authorities = turned(keys.authorities, service_accounts=2, later=LATER)
    assert records()[0][1].startswith("# turn 2\n# trusted pair2\n- name: pair1\n")


def test_where_a_change_of_the_pair_stands_is_a_sentence() -> None:
    def noted(since: int = 0, **planes: str) -> dict[str, Noted]:
        return {
            plane: Noted(names=tuple(names.split()), since=since) for plane, names in planes.items()
        }

    day = 24 * 3600
    assert of_signing("pair1", {}, day) == ""
    assert of_signing("pair2", noted(c1="pair2 pair1", c2="pair2"), day) == ""
    assert of_signing("pair2", noted(c1="pair2"), 9 * day) == ""
    assert of_signing("pair2", noted(day, c1="pair2 pair1"), 3 * day) == (
        "API servers still trust tokens of pair1, though pair2 has signed for 48 hours: "
        "./hardway up --refresh ends that"
    )
    assert of_signing("pair2", noted(c1="pair1 pair2", c2="pair2 pair1"), day).startswith(
        "the service accounts' key pair has not wholly become pair2: c1 has pair1 and pair2; "
        "c2 has pair2 and pair1"
    )
