"""What a VXLAN device tells of the ways to other nodes, from lines of ip(8) and bridge(8)."""

import pytest

from plan.item import LEADS
from probe.observation import ALL, read
from probe.vxlan import NOWHERE, Device, unknown_to_others

# Of a node in a cluster of three, as flanneld 0.28.9 leaves it; and lines that are not flanneld's.
RIGHT = f"""\
device\tflannel.1\t5e:1c:1b:2a:6a:01
route\tflannel.1\t172.16.2.0/24 via 172.16.2.0 onlink
route\tflannel.1\t172.16.3.0/24 via 172.16.3.0 onlink
route\tflannel.1\t169.254.0.0/16 scope link
neighbour\tflannel.1\t172.16.2.0 lladdr 5e:1c:1b:2a:6a:02 PERMANENT
neighbour\tflannel.1\t172.16.3.0 lladdr 5e:1c:1b:2a:6a:03 PERMANENT
neighbour\tflannel.1\t172.16.9.0 FAILED
forwarded\tflannel.1\t5e:1c:1b:2a:6a:02 dst 192.168.1.12 self permanent
forwarded\tflannel.1\t5e:1c:1b:2a:6a:03 dst 192.168.1.13 self permanent
forwarded\tflannel.1\t33:33:00:00:00:01 self permanent
{ALL}
"""
DEVICE = "device\tflannel.1\t5e:1c:1b:2a:6a:ff\n"


def device(answer: str) -> Device:
    return read(answer).devices["flannel.1"]


def test_a_node_with_a_way_to_each_other_node_is_as_planned() -> None:
    known = device(RIGHT)
    assert known.state == LEADS
    assert known.known("192.168.1.13") == "5e:1c:1b:2a:6a:03"
    assert known.known("192.168.1.14") is None


@pytest.mark.parametrize(
    ("left_out", "state"),
    [
        ("route", NOWHERE),
        ("neighbour", "with half a way to 172.16.2.0/24, 172.16.3.0/24"),
        ("forwarded", "with half a way to 172.16.2.0/24, 172.16.3.0/24"),
        ("5e:1c:1b:2a:6a:03 dst", "with half a way to 172.16.3.0/24"),
        ("172.16.2.0 lladdr", "with half a way to 172.16.2.0/24"),
    ],
)
def test_what_is_not_whole_is_told(left_out: str, state: str) -> None:
    lines = [line for line in RIGHT.splitlines(keepends=True) if left_out not in line]
    assert device("".join(lines)).state == state


def test_a_device_that_was_made_anew_knows_nobody() -> None:
    assert device(DEVICE).state == NOWHERE


def test_a_node_to_whose_old_address_others_send_is_named() -> None:
    first = {"flannel.1": device(RIGHT)}
    second = {"flannel.1": device("device\tflannel.1\t5e:1c:1b:2a:6a:02\n")}
    addresses = {"one": "192.168.1.11", "two": "192.168.1.12", "three": "192.168.1.13"}
    assert unknown_to_others({"one": first, "two": second, "three": {}}, addresses) == {
        "one": {},
        "two": {},
        "three": {},
    }
    anew = {"flannel.1": device(DEVICE)}
    state = "at 5e:1c:1b:2a:6a:ff, and one sends to 5e:1c:1b:2a:6a:02"
    assert unknown_to_others({"one": first, "two": anew}, addresses) == {
        "one": {},
        "two": {"flannel.1": state},
    }
