"""Every golden cluster keeps every rule, and each rule is broken by one spoiled thing."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from policy.rule import UNKNOWN, Fact, known_facts
from policy.rules import RULES, judge
from preview.change import ResourceChange, Verb
from preview.registration import HIDDEN, SECRET, SIGNATURE, Registration, is_secret
from preview.review import Finding
from tests.declared import golden
from tests.plan.golden import NAMES
from tests.policy.declared import (
    MEMBERS,
    gone,
    kept,
    made,
    spoiled,
    with_inputs,
    with_options,
)

Changes = tuple[ResourceChange, ...]

READABLE, IDENTITY, DOMAIN, DISK = (
    "master-control-plane",
    "master-identity",
    "libvirt:index/domain:Domain",
    "libvirt:index/volume:Volume",
)


def secret(value: Any) -> dict[str, Any]:
    return {SIGNATURE: SECRET, "value": value}


def rules_of(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.rule for finding in findings}


def declared(name: str, cluster: str = "default") -> Registration:
    (resource,) = [
        candidate for candidate in golden(cluster) if candidate.name == name and candidate.custom
    ]
    return resource


# -- what the program declares ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_golden_clusters_break_no_rule(name: str) -> None:
    assert judge(made(name)) == ()
    assert judge(kept(name)) == ()


def test_rules_have_names_of_their_own_and_a_sentence() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", rule.name)
        assert rule.why.endswith(".")
        assert rule.why.count(".") == 1


# -- commands --------------------------------------------------------------------------------------


def connection(**changed: Any) -> dict[str, Any]:
    return secret({**declared(READABLE).inputs["connection"]["value"], **changed})


def script(line: str, instead: str) -> str:
    text: str = declared("master-ready").inputs["stdin"]
    changed, count = re.subn(line, instead, text, count=1, flags=re.MULTILINE)
    assert count == 1
    return changed


BROKEN: dict[str, list[tuple[str, Callable[[], Callable[[Registration], Registration]]]]] = {
    "command-dies-with-its-machine": [
        (READABLE, lambda: with_options(deleted_with=None)),
        (READABLE, lambda: with_options(deleted_with="master-disk")),
    ],
    "command-has-limits": [
        (READABLE, lambda: with_options(timeouts={})),
        (READABLE, lambda: with_options(timeouts={"create": "60s", "update": "60s"})),
        (
            READABLE,
            lambda: with_options(timeouts={"create": "60s", "update": "0s", "delete": "1m"}),
        ),
    ],
    "command-knows-its-host": [
        (READABLE, lambda: with_inputs(connection=connection(hostKey=""))),
        (READABLE, lambda: with_inputs(connection=connection(hostKey=None))),
        (READABLE, lambda: with_inputs(connection=secret({"host": "192.168.1.10"}))),
    ],
    "command-is-only-updated": [
        (READABLE, lambda: with_inputs(triggers=["a digest"])),
        (READABLE, lambda: with_inputs(delete="rm -rf /etc/kubernetes")),
    ],
    "command-is-the-shell": [
        (READABLE, lambda: with_inputs(create="apt-get install etcd")),
        (READABLE, lambda: with_inputs(create="bash -euo pipefail -s")),
        (READABLE, lambda: with_inputs(update="true")),
        (READABLE, lambda: with_inputs(stdin=None)),
    ],
    "secret-script-stays-hidden": [
        (IDENTITY, lambda: with_inputs(logging=None)),
        (IDENTITY, lambda: with_inputs(logging="stdout")),
        (IDENTITY, lambda: with_options(additional_secret_outputs=("stdout",))),
    ],
    "artifact-has-a-digest": [
        (
            "master-ready",
            lambda: with_inputs(
                stdin=script(r"^artifact\t(\S+)\t[0-9a-f]{64}\t", r"artifact\t\1\t\t")
            ),
        ),
        (
            "master-ready",
            lambda: with_inputs(
                stdin=script(r"^artifact\t(\S+)\t[0-9a-f]{64}\t", r"archived\t\1\tmd5:00\ta/b\t")
            ),
        ),
    ],
    "plugin-has-a-version": [
        (READABLE, lambda: with_options(version="")),
        ("libvirt", lambda: with_options(version="latest")),
        ("master", lambda: with_options(version="")),
    ],
    "no-private-key-in-the-clear": [
        (IDENTITY, lambda: with_inputs(stdin=declared(IDENTITY).inputs["stdin"]["value"])),
        (
            READABLE,
            lambda: with_inputs(connection=declared(READABLE).inputs["connection"]["value"]),
        ),
        ("ready", lambda: with_inputs(access=declared("ready").inputs["access"]["value"])),
        ("people-keys", lambda: with_inputs(kept=declared("people-keys").inputs["kept"]["value"])),
        (
            "authorities",
            lambda: with_inputs(kept=declared("authorities").inputs["kept"]["value"]),
        ),
        (
            "master-seed",
            lambda: with_inputs(userData=declared("master-seed").inputs["userData"]["value"]),
        ),
        ("ssh-key", lambda: with_inputs(input=declared("ssh-key").inputs["input"]["value"])),
    ],
}
"""Rule to the resource that is spoiled and how."""


@pytest.mark.parametrize(
    ("rule", "resource", "how"),
    [(rule, name, how) for rule, cases in BROKEN.items() for name, how in cases],
)
def test_a_rule_finds_the_one_thing_that_is_spoiled(
    rule: str, resource: str, how: Callable[[], Callable[[Registration], Registration]]
) -> None:
    changes = spoiled(made("default"), resource, how())
    assert changes != made("default")
    findings = judge(changes)
    assert {(finding.rule, finding.resource) for finding in findings} == {(rule, resource)}
    for finding in findings:
        assert resource in finding.sentence


def test_each_rule_is_broken_by_some_test_here() -> None:
    others = {"etcd-disk-is-kept", "etcd-keeps-its-quorum", "living-cluster-can-take-it"}
    assert BROKEN.keys() | others == {rule.name for rule in RULES}


def as_if_untold(
    changes: Changes, secrets: Callable[[Any], Any] = lambda _: {SIGNATURE: SECRET}
) -> Changes:
    """Without any option and with nothing of a secret, as from whoever does not see them."""
    return tuple(
        replace(
            change,
            after=replace(
                change.declared,
                deleted_with=None,
                timeouts={},
                additional_secret_outputs=(),
                version="",
                inputs={
                    key: secrets(value) if is_secret(value) else value
                    for key, value in change.declared.inputs.items()
                },
            ),
        )
        for change in changes
    )


@pytest.mark.parametrize(
    "secrets",
    [
        lambda _: {SIGNATURE: SECRET},
        lambda _: {SIGNATURE: SECRET, "value": HIDDEN},
        lambda _: {SIGNATURE: SECRET, "value": UNKNOWN},
        lambda _: UNKNOWN,
    ],
)
def test_what_is_not_told_is_no_violation(secrets: Callable[[Any], Any]) -> None:
    assert judge(as_if_untold(made("default"), secrets)) == ()


def test_a_recorder_tells_everything_and_another_what_it_has() -> None:
    assert known_facts(made("default")) == frozenset(Fact)
    assert known_facts(as_if_untold(made("default"))) == {Fact.SECRECY, Fact.BEFORE}
    assert known_facts(as_if_untold(made("default"), lambda _: UNKNOWN)) == {Fact.BEFORE}


# -- private keys ----------------------------------------------------------------------------------


def pem() -> str:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


def openssh() -> str:
    return (
        ed25519.Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        .decode()
    )


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def service_account_token() -> str:
    part = base64.urlsafe_b64encode(json.dumps({"alg": "ES256", "typ": "JWT"}).encode()).decode()
    return f"{part.rstrip('=')}.{part.rstrip('=')}.{'c2lnbmF0dXJl' * 3}"


def kubeconfig(user: dict[str, str]) -> str:
    return yaml.safe_dump({"users": [{"name": "admin", "user": user}]})


PRIVATE: dict[str, Callable[[], str]] = {
    "pkcs8": pem,
    "openssh": openssh,
    "rsa": lambda: "-----BEGIN RSA PRIVATE KEY-----\n",
    "encrypted": lambda: "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    "pkcs8 in base64": lambda: in_base64(pem()),
    "openssh in base64": lambda: in_base64(openssh()),
    "openssh in base64 of the other alphabet": lambda: base64.urlsafe_b64encode(
        openssh().encode()
    ).decode(),
    "base64 of base64": lambda: in_base64(in_base64(pem())),
    "base64 behind a path": lambda: f"data/{in_base64(pem())}",
    "wrapped base64": lambda: base64.encodebytes(pem().encode()).decode(),
    "kubeconfig": lambda: kubeconfig({"client-key-data": in_base64(pem())}),
    "kubeconfig in base64": lambda: in_base64(kubeconfig({"client-key-data": in_base64(pem())})),
    "kubeconfig as json": lambda: json.dumps({"client-key-data": "QUJD"}),
    "kubeconfig with a token": lambda: kubeconfig({"token": "0123456789abcdef0123"}),
    "service account's token": service_account_token,
    "bootstrap token": lambda: "kubeadm join --token 07401b.f395accd246ae52d",
    "encryption key": lambda: f"secret: {in_base64('k' * 32)}",
}


@pytest.mark.parametrize("kind", PRIVATE)
def test_what_is_private_is_found_in_every_dress_and_is_not_repeated(kind: str) -> None:
    text = PRIVATE[kind]()
    before = declared(READABLE).inputs["stdin"]
    for where in (
        with_inputs(stdin=before.replace("\nunit\t", f"\n  # {text}\nunit\t", 1)),
        with_inputs(environment={"deep": [{"deeper": text}]}),
    ):
        (finding,) = judge(spoiled(made("default"), READABLE, where))
        assert finding.rule == "no-private-key-in-the-clear"
        assert not any(line in finding.sentence for line in text.splitlines() if len(line) > 9)
    hidden = with_inputs(environment=secret({"deep": [{"deeper": text}]}))
    assert judge(spoiled(made("default"), READABLE, hidden)) == ()


def test_the_key_above_a_value_tells_what_it_is() -> None:
    structured = with_inputs(environment={"client-key-data": in_base64("a key"), "token": "short"})
    (finding,) = judge(spoiled(made("default"), READABLE, structured))
    assert "a kubeconfig's private key in its input environment" in finding.sentence


# -- etcd ------------------------------------------------------------------------------------------


def members() -> list[str]:
    spec = yaml.safe_load(declared("specification", MEMBERS).inputs["spec"])
    return [name for name, machine in spec["machines"].items() if "etcd" in machine["roles"]]


def respecified(cluster: str, change: Callable[[dict[str, Any]], None]) -> Changes:
    """The cluster's change with another spec than before."""
    spec = yaml.safe_load(declared("specification", cluster).inputs["spec"])
    change(spec)
    return spoiled(kept(cluster), "specification", with_inputs(spec=yaml.safe_dump(spec)))


@pytest.mark.parametrize("verb", [Verb.REPLACE, Verb.DELETE])
def test_a_kept_members_disk_must_stay(verb: Verb) -> None:
    (finding,) = judge(gone(kept("default"), DISK, verb, "master-disk"))
    assert (finding.rule, finding.resource) == ("etcd-disk-is-kept", "master-disk")
    assert judge(gone(kept("default"), DISK, verb, "minion-1-disk")) == ()


def test_a_kept_members_machine_is_not_deleted_beside_its_disk() -> None:
    findings = judge(gone(kept("default"), DOMAIN, Verb.DELETE, "master"))
    assert ("etcd-disk-is-kept", "master") in {
        (finding.rule, finding.resource) for finding in findings
    }


def test_a_member_alone_may_get_more_memory() -> None:
    assert judge(gone(kept("default"), DOMAIN, Verb.REPLACE, "master")) == ()
    assert judge(gone(kept("default"), DOMAIN, Verb.REPLACE, "master", "minion-1")) == ()


def test_one_machine_of_several_members_may_be_made_anew() -> None:
    for member in members():
        assert judge(gone(kept(MEMBERS), DOMAIN, Verb.REPLACE, member)) == ()


def test_machines_of_a_majority_may_not() -> None:
    first, second, third = members()
    for names in [(first, second), (second, third), (first, second, third)]:
        (finding,) = judge(gone(kept(MEMBERS), DOMAIN, Verb.REPLACE, *names))
        assert finding.rule == "etcd-keeps-its-quorum"
        assert all(name in finding.sentence for name in names)


def test_disks_count_like_machines() -> None:
    first, second, _ = members()
    changes = gone(kept(MEMBERS), DOMAIN, Verb.REPLACE, first)
    findings = judge(gone(changes, DISK, Verb.REPLACE, f"{second}-disk"))
    assert rules_of(findings) == {"etcd-keeps-its-quorum", "etcd-disk-is-kept"}


def test_a_new_member_has_no_data_to_count_on() -> None:
    first, _, third = members()

    def another(spec: dict[str, Any]) -> None:
        old = spec["machines"][third]["roles"]
        spec["machines"][third]["roles"] = ["minion"]
        spec["machines"]["minion-1"]["roles"] = old

    changes = respecified(MEMBERS, another)
    assert judge(changes) == ()
    assert rules_of(judge(gone(changes, DOMAIN, Verb.REPLACE, first))) == {"etcd-keeps-its-quorum"}
    assert judge(gone(changes, DOMAIN, Verb.REPLACE, third)) == ()
    assert judge(gone(changes, DISK, Verb.REPLACE, f"{third}-disk")) == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_cluster_may_go(name: str) -> None:
    assert judge([replace(change, verb=Verb.DELETE, after=None) for change in kept(name)]) == ()


def test_what_a_living_cluster_cannot_take_is_said_as_by_the_spec() -> None:
    def older(spec: dict[str, Any]) -> None:
        spec["kubernetes"] = "1.36.3"

    findings = judge(respecified("default", older))
    assert {(finding.rule, finding.resource) for finding in findings} == {
        ("living-cluster-can-take-it", "specification")
    }
    assert any("older minor version" in finding.sentence for finding in findings)


def test_a_spec_of_an_older_program_is_no_obstacle() -> None:
    changes = tuple(
        replace(change, before=with_inputs(spec="machines: {}")(change.declared))
        if change.name == "specification"
        else change
        for change in kept("default")
    )
    assert judge(changes) == ()
