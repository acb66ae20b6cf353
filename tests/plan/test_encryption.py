"""The encryption key turns over on real control planes, under a client that reads and writes."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from certs.encryption import current_configuration, whole_configuration
from ops import snapshot
from plan import layout, walk
from plan.model import AllEncryptionKeys, EncryptionConfiguration
from plan.records import parsed
from probe.failure import Unmet
from probe.keys import Noted, of_encryption
from tests.machine.lab import at_length
from tests.plan.running import Keys
from tests.plan.stored import as_root
from tests.plan.turning import LONE, THREE, TWO, Client, PlanesOf, TurningPlanes, turned


def unharmed(client: Client) -> dict[str, Any]:
    """What the client counted, of which nothing failed and nothing is lost."""
    counts = client.counts()
    assert counts["failed"] == counts["unreadable"] == counts["lost"] == []
    return counts


@as_root
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("names", [LONE, pytest.param(THREE, marks=at_length)])
def test_the_key_turns_over_while_secrets_are_written_and_read(
    planes_of: PlanesOf,
    names: Sequence[str],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    planes = planes_of(names)
    assert all(planes.in_file(name) == ["key1"] for name in names)
    before = {name: planes.starts(name) for name in names}
    with planes.client(tmp_path / "client") as client:
        planes.declare(2)
        planes.update()
        planes.is_all("key2")
    record_property("counts", unharmed(client))
    assert {name: planes.starts(name) - before[name] for name in names} == dict.fromkeys(names, 3)
    planes.demand()


@as_root
@at_length
@pytest.mark.timeout(3600)
def test_it_goes_on_or_back_from_wherever_it_was_cut_off(
    planes_of: PlanesOf, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    planes = planes_of(TWO)

    def cut(number: int, reached: Callable[[list[list[str]]], bool]) -> None:
        """Declare another key, and cut the update off where the published keys are like that."""
        planes.declare(number)
        planes.cut_off(walk.ENCRYPTION, planes.keys.authorities.encryption.turn, reached)
        with pytest.raises(Unmet, match=f"not wholly become key{number}"):
            planes.demand()

    with planes.client(tmp_path / "client") as client:
        # The first API server knows the new key; back.
        cut(2, lambda keys: ["key1", "key2"] in keys)
        planes.declare(1)
        planes.update()
        planes.is_all("key1")
        # The first of them writes with it; on.
        cut(2, lambda keys: ["key2", "key1"] in keys)
        planes.update()
        planes.is_all("key2")
        # All write with it, and Secrets are being rewritten; back.
        cut(1, lambda keys: keys == [["key1", "key2"]] * 2)
        planes.declare(2)
        planes.update()
        planes.is_all("key2")
        # The first one has forgotten the old key; back, and then on with another one.
        cut(3, lambda keys: ["key3"] in keys)
        planes.declare(2)
        planes.update()
        planes.is_all("key2")
    record_property("counts", unharmed(client))

    # Nothing changes where a control plane takes no part, and it is named.
    planes.declare(4)
    before = planes.starts("c1")
    data, count = re.subn(r"(?<=\twalk=)\d+", "2", planes.identity("c1"))
    assert count == 1
    done = planes.machines["c1"].run(data)
    assert done.returncode == 1
    assert "the encryption key does not become key4: c2 has not begun" in done.stderr
    assert planes.in_file("c1") == ["key2"]
    assert planes.starts("c1") == before


@as_root
@at_length
@pytest.mark.timeout(3600)
def test_a_machine_that_is_lost_half_way_and_made_anew_begins_with_the_new_key(
    planes_of: PlanesOf, tmp_path: Path
) -> None:
    planes = planes_of(TWO)
    with planes.client(tmp_path / "client") as client:
        planes.declare(2)
        assert planes.update_until(lambda: "1 key2 key1" in planes.notes().values())
        planes.lose("c2")
        planes.make("c2")
        planes.update()
        # The engine runs this step once the steps with keys of all control planes are done.
        planes.serve("c2")
        planes.is_all("key2")
    unharmed(client)


@as_root
@pytest.mark.timeout(3600)
def test_a_backup_from_before_is_restored_and_encrypted_with_todays_key(
    planes_of: PlanesOf, tmp_path: Path
) -> None:
    planes = planes_of(LONE)
    with planes.client(tmp_path / "client"):
        pass
    before = planes.secrets()
    assert before
    path = tmp_path / "snapshot.db"
    planes.save(path)
    planes.declare(2)
    planes.update()
    planes.is_all("key2")

    keys = planes.keys.authorities.encryption
    held = snapshot.read(path, whole_configuration(keys))
    assert (set(held.encrypted), held.unreadable) == ({"secretbox key1"}, {})
    only = snapshot.read(path, current_configuration(keys))
    assert only.unreadable == held.encrypted
    with planes.restoring(path, held):
        assert planes.in_file("c1") == ["key2", "key1"]
        assert planes.encrypted_with() == {"k8s:enc:secretbox:v1:key1"}
    planes.is_all("key2")
    assert planes.secrets() == before


# -- without machines ------------------------------------------------------------------------------


def test_a_key_that_never_turned_over_is_a_file_like_others_and_later_no_file_holds_more() -> None:
    spec = TurningPlanes.without_machines(THREE)
    keys = Keys(spec)

    def records() -> dict[str, str]:
        text = TurningPlanes.data_of(spec, keys, "c2")
        return {
            kind: content
            for (kind, *fields), content in parsed(text)
            if layout.ENCRYPTION in fields and kind in ("secret", "encrypts")
        }

    assert records() == {"secret": keys.content(EncryptionConfiguration(), {})}
    for number, turn in ((2, 1), (1, 2)):
        keys.authorities = turned(keys.authorities, number)
        assert records() == {"encrypts": keys.content(AllEncryptionKeys(), {})}
        assert records()["encrypts"].startswith(f"# turn {turn}\n")


def test_where_a_change_of_the_key_stands_is_a_sentence() -> None:
    def noted(**planes: str) -> dict[str, Noted]:
        return {plane: Noted(names=tuple(names.split())) for plane, names in planes.items()}

    assert of_encryption("key2", noted(c1="key2", c2="key2"), {"key2": 9}) == ""
    assert of_encryption("key2", {}, {}) == ""
    sentence = of_encryption("key2", noted(c1="key2 key1", c2="key1 key2"), {"key1": 7})
    assert sentence.startswith(
        "the encryption key has not wholly become key2: 7 Secrets have key1; c1 has key2 and key1; "
        "c2 has key1 and key2"
    )
