"""What a spec leaves open comes from the offer, and what it says itself wins."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from spec.cluster import ArtifactSource, SpecError, parse
from spec.hypervisor import Libvirt
from spec.offer import OFFER_VARIABLE, Offer, offered, read_offer, with_offer

OURS, THEIRS = "1" * 64, "2" * 64
OFFER = Offer(
    hypervisor=Libvirt(uri="qemu:///system", image="base"),
    artifacts=ArtifactSource(
        mirror="http://192.0.2.1", digests={"kubelet-1.37.1": THEIRS, "etcd-3.7.1": THEIRS}
    ),
    name_servers=(IPv4Address("192.0.2.53"),),
)
VALUE = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {"master": {"address": "192.168.1.10"}},
}


def test_what_is_left_open_is_taken_from_it() -> None:
    spec = with_offer(parse(VALUE, name="dev"), OFFER)
    assert spec.hypervisor == OFFER.hypervisor
    assert spec.artifacts == OFFER.artifacts
    assert spec.networks.name_servers == OFFER.name_servers


@pytest.mark.parametrize("servers", [[], ["192.0.2.1"]])
def test_a_list_of_name_servers_wins_also_an_empty_one(servers: list[str]) -> None:
    networks = {"machines": "192.168.1.0/24", "name_servers": servers}
    spec = with_offer(parse({**VALUE, "networks": networks}, name="dev"), OFFER)
    assert [str(server) for server in spec.networks.name_servers] == servers


def test_what_the_spec_says_wins() -> None:
    own = {
        "hypervisor": {"uri": "qemu+ssh://root@there/system", "image": "mine"},
        "artifacts": {"mirror": "http://mirror.test", "digests": {"kubelet-1.37.1": OURS}},
    }
    spec = with_offer(parse({**VALUE, **own}, name="dev"), OFFER)
    assert isinstance(spec.hypervisor, Libvirt)
    assert spec.hypervisor.image == "mine"
    # Machines of another hypervisor may not reach what lies behind the lab's way out.
    assert spec.networks.name_servers == ()
    assert spec.artifacts.mirror == "http://mirror.test"
    assert spec.artifacts.digests == {"kubelet-1.37.1": OURS, "etcd-3.7.1": THEIRS}


def test_libvirts_of_the_stacks_own_take_the_image_alone() -> None:
    uris = ["qemu+ssh://root@near/system", "qemu+ssh://root@far/system"]
    machines = {
        "master": {"address": "192.168.1.10", "roles": "ai"},
        "minion": {"address": "192.168.2.11", "hypervisor": {"uri": uris[1], "image": "mine"}},
        "other": {"address": "192.168.2.12", "hypervisor": {"uri": uris[1], "image": "mine"}},
    }
    networks = {"machines": ["192.168.1.0/24", "192.168.2.0/24"], "routed": True}
    value = {"hypervisor": {"uri": uris[0]}, "networks": networks, "machines": machines}
    spec = parse(value, name="dev")
    assert [where.uri for where in spec.libvirts_without_image] == uris[:1]
    offer = Offer(
        image="base", artifacts=OFFER.artifacts.model_copy(), name_servers=OFFER.name_servers
    )
    whole = with_offer(spec, Offer.model_validate_json(offer.written()))
    for name, (uri, image) in {
        "master": (uris[0], "base"),
        "minion": (uris[1], "mine"),
        "other": (uris[1], "mine"),
    }.items():
        where = whole.hypervisor_of(name)
        assert isinstance(where, Libvirt)
        assert (where.uri, where.image) == (uri, image)
    # Neither the lab's mirror nor its name servers are known to be reached from there.
    assert whole.artifacts.mirror is None
    assert whole.networks.name_servers == ()
    assert with_offer(whole, OFFER).hypervisor == whole.hypervisor


def test_it_is_found_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(OFFER_VARIABLE, raising=False)
    assert offered() is None
    monkeypatch.setenv(OFFER_VARIABLE, str(tmp_path / "none"))
    assert offered() is None
    (tmp_path / "offer").write_text(OFFER.written())
    monkeypatch.setenv(OFFER_VARIABLE, str(tmp_path / "offer"))
    assert offered() == OFFER
    assert with_offer(parse(VALUE, name="dev"), None).hypervisor is None


def test_an_offer_of_another_revision_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "offer").write_text('{"hypervisor": {"uri": "qemu:///system", "lock": 1}}')
    with pytest.raises(SpecError) as caught:
        read_offer(tmp_path / "offer")
    (line,) = str(caught.value).splitlines()
    for field in ("hypervisor.lock", "artifacts"):
        assert field in line
    assert "./hardway up" in line
