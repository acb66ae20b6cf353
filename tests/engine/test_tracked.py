"""Keys and certificates through the real engine: kept, renewed, shown, and never in the clear."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.engine.stack import EngineStack

pytestmark = pytest.mark.engine

PROJECT = Path(__file__).resolve().parents[2]

PROGRAM = """
from certs.table import Authority, held_by
from certs.tracked import TrackedAuthorities, TrackedBundle
from spec.cluster import parse

spec = parse({spec!r}, name="test")
authorities = TrackedAuthorities("authorities", ResourceOptions(), {numbers})
for machine in sorted(spec.machines):
    TrackedBundle(f"{{machine}}-keys", held_by(spec, machine), authorities, ResourceOptions())
"""
PRIVATE = re.compile(r"PRIVATE KEY")


# Providers are found by their module's name, which in the project itself is at hand.
HERE = {"PYTHONPATH": str(PROJECT)}


def program(domain: str = "cluster.local", minions: int = 1, **numbers: object) -> str:
    spec = {
        "dns_domain": domain,
        "networks": {"machines": "192.168.1.0/24"},
        "machines": {
            "master": {"address": "192.168.1.10", "roles": "ai"},
            **{f"m{n}": {"address": f"192.168.1.{20 + n}"} for n in range(minions)},
        },
    }
    keywords = ", ".join(f"{name}={number}" for name, number in numbers.items())
    return PROGRAM.format(spec=spec, numbers=keywords)


def revealed(stack: EngineStack, name: str) -> dict[str, dict[str, str]]:
    resources = json.loads(stack.export())["deployment"]["resources"]
    (resource,) = (candidate for candidate in resources if candidate["urn"].endswith(f"::{name}"))
    kept: dict[str, dict[str, str]] = json.loads(
        json.loads(resource["outputs"]["kept"]["plaintext"])
    )
    return kept


def authorities_elsewhere(stack: EngineStack) -> list[str]:
    """The resources other than the authorities' own that have the key of one."""
    resources = json.loads(stack.export())["deployment"]["resources"]
    signer = revealed(stack, "authorities")["kubernetes"]["key"].splitlines()[1]
    names = [
        resource["urn"].rpartition("::")[2]
        for resource in resources
        if signer in json.dumps(resource)
    ]
    assert "authorities" in names
    return [name for name in names if name != "authorities"]


def test_they_are_made_once_and_each_change_says_why(stack: EngineStack) -> None:
    stack.write(program())
    preview = stack.preview("--diff", environment=HERE)
    up = stack.up("--diff", environment=HERE)
    assert set(up.steps()) == {"authorities", "master-keys", "m0-keys"}
    authorities, master = revealed(stack, "authorities"), revealed(stack, "master-keys")
    assert "BEGIN PRIVATE KEY" in master["apiserver"]["key"]
    assert authorities_elsewhere(stack) == [], "a machine's resource has no key that signs"
    stack.preview("--expect-no-changes", environment=HERE)
    again = stack.up(environment=HERE)
    assert again.steps() == {}
    assert revealed(stack, "authorities") == authorities

    stack.write(program(domain="other.test"))
    changed = stack.preview("--diff", environment=HERE)
    assert changed.steps() == {"master-keys": ["update"]}, "names of one machine's certificate"
    assert re.search(r"apiserver *: .*reissue: its names changed: .*other\.test", changed.text)
    assert "other.test" not in str(revealed(stack, "master-keys"))
    up_again = stack.up("--diff", environment=HERE)
    after = revealed(stack, "master-keys")
    assert {name for name in master if master[name] != after[name]} == {"apiserver"}
    stack.preview("--expect-no-changes", environment=HERE)

    stack.write(program(domain="other.test", minions=2))
    grown = stack.preview("--diff", environment=HERE)
    assert grown.steps() == {"m1-keys": ["create"]}
    runs = (preview, up, again, changed, up_again, grown)
    for text in [stack.state(), *(run.text + json.dumps(run.events) for run in runs)]:
        assert not PRIVATE.search(text)
        assert authorities["encryption"]["secretbox"] not in text


def test_rows_that_an_earlier_program_kept_in_whole_become_digests_without_a_change(
    stack: EngineStack,
) -> None:
    stack.write(program(minions=0))
    stack.up(environment=HERE)
    state, bundle = exported_bundle(stack)
    digests = {name: bundle["inputs"][name] for name in ("rows", "signers")}
    assert len(digests["rows"]) == 64
    assert "apiserver" in bundle["outputs"]["rows"]
    bundle["inputs"]["rows"] = bundle["outputs"]["rows"]
    bundle["inputs"]["signers"] = bundle["outputs"]["kept"]  # its text is in no state any more
    stack.take(json.dumps(state))
    stack.preview("--expect-no-changes", environment=HERE)
    stack.preview("--refresh", "--expect-no-changes", environment=HERE)
    assert stack.up(environment=HERE).steps() == {}
    _, after = exported_bundle(stack)
    assert {name: after["inputs"][name] for name in digests} == digests
    assert after["outputs"] == bundle["outputs"]


def exported_bundle(stack: EngineStack) -> tuple[dict[str, Any], dict[str, Any]]:
    """The whole state with its secrets in the clear, and the master's certificates in it."""
    state = json.loads(stack.export())
    (bundle,) = (
        resource
        for resource in state["deployment"]["resources"]
        if resource["urn"].endswith("::master-keys")
    )
    return state, bundle


def test_another_encryption_key_is_a_change_and_no_key_is_ever_lost(stack: EngineStack) -> None:
    texts, kept = [], []
    for number, turn, names in (
        (1, None, {"secretbox"}),
        (2, "1", {"secretbox", "key2"}),
        (1, "2", {"secretbox", "key2"}),
    ):
        stack.write(program(minions=0, encryption=number))
        preview = stack.preview("--diff", environment=HERE)
        up = stack.up("--diff", environment=HERE)
        assert preview.steps() == up.steps()
        if turn:
            assert up.steps() == {"authorities": ["update"]}
            assert f"replace: it turns over: key{number} is known by all API servers" in up.text
        encryption = revealed(stack, "authorities")["encryption"]
        assert encryption.get("turn") == turn
        assert encryption.keys() - {"current", "turn"} == names
        kept.append({name: encryption[name] for name in names})
        stack.preview("--expect-no-changes", environment=HERE)
        texts += [stack.state(), *(run.text + json.dumps(run.events) for run in (preview, up))]
    assert kept[0].items() <= kept[1].items()
    assert kept[1] == kept[2]
    assert not [key for key in kept[2].values() if any(key in text for text in texts)]


def test_the_trust_in_a_former_pair_of_service_accounts_ends_after_its_time(
    stack: EngineStack,
) -> None:
    stack.write(program(minions=0))
    stack.up(environment=HERE)
    stack.write(program(minions=0, service_accounts=2))
    turned = stack.up("--diff", environment=HERE)
    assert turned.steps() == {"authorities": ["update"]}
    assert re.search(r"replace: it turns over: pair2 is trusted .* after \d{4}-\d\d-", turned.text)
    stack.preview("--expect-no-changes", environment=HERE)
    first = revealed(stack, "authorities")["service-account"]
    assert first["former"] == "pair1"
    stack.preview("--expect-no-changes", environment=later(stack, "hours=25"))
    then = later(stack, "hours=27")
    assert stack.preview("--diff", environment=then).steps() == {"authorities": ["update"]}
    over = stack.up("--diff", environment=then)
    assert "no other one is trusted any more: pair1" in over.text
    pairs = revealed(stack, "authorities")["service-account"]
    assert "former" not in pairs
    assert first.items() - pairs.items() == {
        ("turn", "1"),
        ("former", "pair1"),
        ("since", first["since"]),
    }
    stack.preview("--expect-no-changes", environment=then)
    assert not PRIVATE.search(turned.text + over.text + stack.state())


def test_an_authority_turns_over_in_three_updates(stack: EngineStack) -> None:
    pairs = []
    for numbers, names in (
        ((1,), {"etcd"}),
        ((1, 2), {"etcd", "etcd number 2"}),
        ((2, 1), {"etcd", "etcd number 1"}),
        ((2,), {"etcd"}),
    ):
        stack.write(program(minions=0, authorities=f"{{Authority.ETCD: {numbers}}}"))
        preview = stack.preview("--diff", environment=HERE)
        up = stack.up("--diff", environment=HERE)
        assert preview.steps() == up.steps()
        kept = revealed(stack, "authorities")
        assert {name for name in kept if name.startswith("etcd")} == names
        pairs.append(revealed(stack, "master-keys"))
        stack.preview("--expect-no-changes", environment=HERE)
        assert not PRIVATE.search(preview.text + up.text + stack.state())
    first, trusted, signed, alone = pairs
    assert first == trusted
    assert signed == alone
    changed = {name for name in first if first[name] != signed[name]}
    # flannel's is of etcd's authority as well.
    assert changed == {
        *("apiserver-etcd-client", "etcd-healthcheck-client", "etcd-peer", "etcd-server"),
        "flannel",
    }


def later(stack: EngineStack, by: str) -> dict[str, str]:
    """The environment in which providers run so much later, in words of ``timedelta``."""
    text = f"""
import certs.tracked
from datetime import timedelta
real = certs.tracked._Kept.now
certs.tracked._Kept.now = lambda self: real(self) + timedelta({by})
"""
    # The provider runs in a process of its own, which imports this before the provider's module.
    (stack.directory / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": f"{stack.directory}:{PROJECT}"}


def test_a_due_certificate_is_a_change_that_says_when_it_ends(stack: EngineStack) -> None:
    stack.write(program(minions=0))
    stack.up(environment=HERE)
    first = revealed(stack, "authorities"), revealed(stack, "master-keys")
    for days, due in ((200, set()), (300, {"master-keys"})):
        then = later(stack, f"days={days}")
        preview = stack.preview("--diff", environment=then)
        assert set(preview.steps()) == due, days
    assert re.search(r"kubelet-client *: .*renew: it expires on \d{4}-\d\d-\d\d", preview.text)
    stack.up(environment=then)
    authorities, master = revealed(stack, "authorities"), revealed(stack, "master-keys")
    assert authorities == first[0]
    assert all(master[name] != first[1][name] for name in first[1])
