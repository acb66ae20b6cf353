"""``docs/configuration.md``: as the models are, whole and true. ``make docs`` rewrites it."""

import copy
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest
import yaml

from lab.paths import PROJECT
from spec.cluster import Cluster, SpecError, parse
from spec.reference import BEGIN, END, with_tables
from tests.spec.pem import PEM
from tests.spec.sentences import refused

DOCUMENT = PROJECT / "docs" / "configuration.md"

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5Yk0v4e7n1oQ2p6r8s0t2u4w6y8A0C2E4G6I8K0M2O"

WHOLE: dict[str, Any] = {
    "name": "dev",
    "kubernetes": "1.37.1",
    "architecture": "amd64",
    "dns_domain": "example.org",
    "networks": {
        "machines": "192.168.1.0/24",
        "routed": True,
        "pods": "10.64.0.0/10",
        "services": "10.1.0.0/16",
        "pods_per_node": 23,
        "name_servers": ["192.168.1.1"],
        "time_servers": ["192.168.1.1"],
        "mtu": 1400,
    },
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "a", "memory": 4096},
        "m1": {
            "address": "192.168.1.11",
            "roles": "i",
            "cpus": 2,
            "memory": 4096,
            "disk": 20,
            "labels": {"example.org/room": "north"},
            "taints": [{"key": "example.org/x", "value": "y", "effect": "PreferNoSchedule"}],
        },
    },
    "endpoint": {"kind": "virtual-ip", "address": "192.168.1.9"},
    "runtime": "docker",
    "rollout": {"nodes": "25%"},
    "registries": {"docker.io": {"mirrors": ["https://mirror"]}},
    "proxy": {"http": "http://proxy", "https": "http://proxy:80", "no_proxy": [".example.org"]},
    "etcd": {"generation": 2, "version": "3.6.14"},
    "keys": {"encryption": 2, "service_accounts": 2},
    "authorities": {"kubernetes": [1, 2], "etcd": [2, 1], "front_proxy": [2]},
    "ssh_keys": [2, 1],
    "backup": {
        "every": "6h",
        "keep": 7,
        "to": {
            "kind": "sftp",
            "host": "backup.example.org",
            "port": 22,
            "user": "keeper",
            "host_key": KEY,
            "directory": "/srv/backups",
        },
    },
    "flannel": {"backend": "vxlan", "store": "kubernetes", "vni": 7, "port": 4789},
    "proxy_mode": "iptables",
    "addons": {
        "coredns": True,
        "name_servers": ["192.168.1.1"],
        "storage": True,
        "network_policy": True,
        "load_balancer": {"addresses": ["192.168.1.200-192.168.1.220"]},
        "metrics_server": {"resolution": 60},
        "monitoring": {"retention": 14, "interval": 60},
        "problem_detector": True,
        "logs": {"retention": 14, "limit": 5},
        "ingress": {
            "certificate_names": ["shop.example.com"],
            "address": "192.168.1.205",
            "namespaces": ["shop"],
            "default_backend": {"namespace": "shop", "service": "web", "port": 80},
            "gateway": True,
        },
        "dashboard": {"access": "admin"},
        "notebooks": {
            "memory": 1024,
            "cpus": 2,
            "servers": 5,
            "idle": 30,
            "home": 5,
            "password": 2,
            "certificate_names": ["notebooks.example.com"],
        },
    },
    "hypervisor": {
        "kind": "libvirt",
        "uri": "qemu:///system",
        "domain_type": "kvm",
        "pool": "images",
        "image": "base",
        "image_format": "raw",
        "kernel": "/boot/vmlinuz",
        "initrd": "/boot/initrd",
        "kernel_arguments": ["quiet"],
        "disk_cache": "none",
        "console_logs": "/var/log/consoles",
    },
    "artifacts": {"mirror": "http://mirror", "digests": {"kubelet-1.37.1": "0" * 64}},
}
"""Every key that can stand beside the others."""

WITHOUT_HYPERVISOR = {key: value for key, value in WHOLE.items() if key != "hypervisor"}
VIRTUALBOX = {"kind": "virtualbox", "image": "/images/base.vdi"}
EXISTING = {
    "kind": "existing",
    "user": "admin",
    "port": 2222,
    "host_keys": {"192.168.1.10": KEY, "192.168.1.11": KEY},
    "bastion": {"address": "203.0.113.7", "port": 22, "user": "passes", "host_key": KEY},
}
SIZES = ("cpus", "memory", "disk")
BALANCER = {"kind": "balancer", "host": "api.example.org", "port": 443}
BASE_IMAGE = {"source": "/images/debian.qcow2", "sha256": "0" * 64, "sha512": "0" * 128}

NOT_ROUTED = {key: value for key, value in WHOLE["networks"].items() if key != "routed"}

ON_EXISTING = {
    **WHOLE,
    "networks": NOT_ROUTED,
    "hypervisor": EXISTING,
    "machines": {
        name: {key: value for key, value in machine.items() if key not in SIZES}
        for name, machine in WHOLE["machines"].items()
    },
}

ON_BRIDGE = {
    **WHOLE,
    "networks": {**NOT_ROUTED, "bridge": "br0", "gateway": "192.168.1.1"},
}

BUCKET = {
    "kind": "s3",
    "endpoint": "https://s3.example.org:9000",
    "region": "eu-central-1",
    "bucket": "backups",
    "prefix": "clusters/dev",
    "path_style": True,
    "authority": PEM,
}

FORMS: dict[str, Any] = {
    "`backup.to` of the kind `s3`": {**WHOLE, "backup": {**WHOLE["backup"], "to": BUCKET}},
    "`endpoint` of the kind `balancer`": {**WHOLE, "endpoint": BALANCER},
    "`hypervisor` of the kind `virtualbox`": {
        **WHOLE,
        "networks": NOT_ROUTED,
        "hypervisor": VIRTUALBOX,
    },
    "`hypervisor` of the kind `existing`": ON_EXISTING,
    "`hypervisor.bastion`": ON_EXISTING,
    "`registries.<name>`": {
        **WHOLE,
        "runtime": "containerd",
        "registries": {
            "localhost:5000": {
                "mirrors": ["http://m1"],
                "authority": PEM,
                "user": "puller",
                "insecure": True,
            }
        },
    },
    "`base_image`": {**WITHOUT_HYPERVISOR, "base_image": BASE_IMAGE},
    "`machines.<name>.hypervisor`": {
        **WHOLE,
        "networks": {**WHOLE["networks"], "machines": ["192.168.1.0/24", "192.168.2.0/24"]},
        "machines": {
            **WHOLE["machines"],
            "m1": {
                "address": "192.168.2.11",
                "hypervisor": {"uri": "qemu+ssh://root@h2/system", "image": "b"},
            },
        },
    },
    **dict.fromkeys(("`networks.bridge`", "`networks.gateway`"), ON_BRIDGE),
    "`networks.outside`": {
        **WITHOUT_HYPERVISOR,
        "networks": {**WHOLE["networks"], "outside": False},
    },
}
"""Section or key to the form in which its keys stand, where that is another one."""


class Told(NamedTuple):
    """A row of the committed tables."""

    section: str
    key: str
    write: str
    left_out: str
    meaning: str

    @property
    def path(self) -> list[str]:
        """Where the key stands in the forms above."""
        name = "localhost:5000" if self.key.startswith("registries") else "m1"
        return self.key.replace("<name>", name).replace("[]", ".0").split(".")

    @property
    def choices(self) -> list[str]:
        """The values, where all of them are named."""
        values = re.findall(r"`([^`]+)`", self.write)
        return values if re.fullmatch(r"(`[^`]+`(, | or )?)+(, in quotes)?", self.write) else []

    def __str__(self) -> str:
        return f"{self.section}: {self.key}"


@cache
def rows_in_document() -> tuple[Told, ...]:
    section, rows = "", []
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| `"):
            cells = re.split(r"(?<!\\) ?\| ?", line)[1:-1]
            rows.append(Told(section, cells[0].strip("`"), *cells[1:]))
    return tuple(rows)


def form(row: Told) -> dict[str, Any]:
    """A good spec in which the row's key stands."""
    section = f"`{row.key}`" if f"`{row.key}`" in FORMS else row.section
    value: dict[str, Any] = FORMS.get(section, WHOLE)
    return copy.deepcopy(value)


def at(value: Any, path: list[str]) -> Any:
    """What stands at a path."""
    for step in path:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def with_value(row: Told, new: Any) -> dict[str, Any]:
    value = form(row)
    at(value, row.path[:-1])[row.path[-1]] = new
    return value


def without(row: Told) -> dict[str, Any]:
    value = form(row)
    del at(value, row.path[:-1])[row.path[-1]]
    return value


ROWS = rows_in_document()


def test_the_tables_are_what_the_models_give(request: pytest.FixtureRequest) -> None:
    today = with_tables(DOCUMENT.read_text())
    if request.config.getoption("--golden"):
        DOCUMENT.write_text(today)
    assert DOCUMENT.read_text() == today, "run make docs and review the difference"


def test_a_document_without_its_marks_is_refused() -> None:
    for text in ("", BEGIN, f"{END}\n{BEGIN}"):
        with pytest.raises(ValueError, match="no place"):
            with_tables(text)


def test_the_forms_of_these_tests_are_good() -> None:
    for row in ROWS:
        assert refused(form(row)) == []


def test_every_key_of_the_schema_has_a_row_that_tells_all_of_it() -> None:
    """The schema is pydantic's own walk through the models."""
    schema = Cluster.model_json_schema()
    models = {"Cluster": schema, **schema["$defs"]}
    known = sorted(key for model in models.values() for key in model.get("properties", ()))
    assert known == sorted(row.key.rpartition(".")[2] for row in rows_in_document())
    assert (len(known) > 60, len(DEFAULTS) > 20, len(CHOICES) > 12) == (True,) * 3
    for row in rows_in_document():
        assert row.write, row
        assert row.left_out, row
        assert len(row.meaning) > 5, row
        assert row.meaning.endswith((".", ")")), row


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_is_required_is_missed_and_nothing_else_is(row: Told) -> None:
    missed = [
        refusal
        for refusal in refused(without(row))
        if refusal.split(", so ")[0].endswith("is missing")
    ]
    path = ".".join(row.path)
    assert any(refusal.startswith(f"{path} ") for refusal in missed) == (
        row.left_out == "**required**"
    )


DEFAULTS = [row for row in ROWS if row.left_out.startswith("`")]


@pytest.mark.parametrize("row", DEFAULTS, ids=str)
def test_a_default_is_what_counts_where_the_key_is_left_out(row: Told) -> None:
    default = yaml.safe_load(row.left_out.strip("`"))
    assert parsed(with_value(row, default)) == parsed(without(row))


def parsed(value: dict[str, Any]) -> dict[str, Any]:
    try:
        return parse(value, name="dev").model_dump()
    except SpecError as error:  # such as a network that the default of another key overlaps
        return {"refused": str(error)}


CHOICES = [row for row in ROWS if row.choices]


@pytest.mark.parametrize("row", CHOICES, ids=str)
def test_the_values_that_a_row_names_are_taken_and_no_other(row: Told) -> None:
    unknown = ('is "', "is not in the version catalogue")
    for choice in row.choices:
        assert not any(
            word in refusal for refusal in refused(with_value(row, choice)) for word in unknown
        )
    assert any(
        refusal.startswith(".".join(row.path[:-1]))
        for refusal in refused(with_value(row, "another"))
    )


# Key to its least and its most, as the row says them; None where there is no end.
LIMITS: list[tuple[str, int | None, int | None]] = [
    ("networks.pods_per_node", 16, 25),
    ("networks.mtu", 1330, 1500),
    ("machines.<name>.cpus", 1, 128),
    ("machines.<name>.memory", 512, 16777216),
    ("machines.<name>.disk", 6, 65536),
    ("flannel.vni", 1, 16777215),
    ("flannel.port", 1024, 29999),
    ("endpoint.port", 1, 65535),
    ("hypervisor.port", 1, 65535),
]


@pytest.mark.parametrize(("key", "least", "most"), LIMITS)
def test_a_limit_is_where_its_row_says(key: str, least: int, most: int) -> None:
    (row,) = (candidate for candidate in rows_in_document() if candidate.key == key)
    for last, beyond in ((least, least - 1), (most, most + 1)):
        text = f"{row.write} {row.meaning}"
        assert str(last) in text or f"{beyond}-" in text, "the first of a range that is taken"
        assert not mistakes(row, last)
        assert mistakes(row, beyond)


def mistakes(row: Told, value: Any) -> list[str]:
    path = ".".join(row.path)
    return [
        refusal for refusal in refused(with_value(row, value)) if refusal.startswith(f"{path} ")
    ]


def test_the_ports_that_a_row_names_are_taken_by_components() -> None:
    for row in rows_in_document():
        _, heading, ports = row.meaning.partition("The components' ports are ")
        if heading:
            numbers = re.findall(r"\d+", ports)
            assert len(numbers) > 8
            assert all(mistakes(row, int(number)) for number in numbers), row


def test_the_least_sizes_are_those_of_the_row() -> None:
    for key, roles, least in (
        ("memory", "a", 1024),
        ("memory", "e", 512),
        ("disk", "e", 8),
        ("disk", "a", 8),  # a member, since nobody else is
        ("disk", "i", 6),
    ):
        (row,) = (
            candidate
            for candidate in rows_in_document()
            if candidate.key == f"machines.<name>.{key}"
        )
        assert str(least) in row.meaning
        for value, good in ((least, True), (least - 1, False)):
            spec = {**WITHOUT_HYPERVISOR, "machines": copy.deepcopy(WHOLE["machines"])}
            machine = {"address": "192.168.1.12", "roles": roles, key: value}
            spec["machines"]["m2"] = machine
            named = [
                refusal for refusal in refused(spec) if refusal.startswith(f"machines.m2.{key} ")
            ]
            assert (named == []) is good, (key, roles, value)


def test_names_are_as_long_as_their_rows_say() -> None:
    cluster, machine = rows_of("name", "machines")
    assert "at most 63" in cluster.meaning
    assert "at most 52" in machine.meaning
    for name, good in (("x" * 63, True), ("x" * 64, False)):
        assert (refused({**WHOLE, "name": name}) == []) is good
    for name, good in (("x" * 52, True), ("x" * 53, False)):
        machines = {**WHOLE["machines"], name: {"address": "192.168.1.12"}}
        assert (refused({**WHOLE, "machines": machines}) == []) is good
    (domain,) = rows_of("dns_domain")
    longest = int(re.findall(r"at most (\d+)", domain.meaning)[0])
    name = ".".join(["a" * 50] * 4) + "." + "b" * (longest - 4 * 51)
    assert refused({**WHOLE, "dns_domain": name}) == []
    assert refused({**WHOLE, "dns_domain": f"{name}b"})


def rows_of(*keys: str) -> Iterator[Told]:
    return (row for key in keys for row in rows_in_document() if row.key == key)


def test_so_many_name_servers_are_taken_as_the_row_says() -> None:
    (row,) = rows_of("addons.name_servers")
    most = int(re.findall(r"at most (\d+)", row.meaning)[0])
    servers = [f"192.168.1.{number}" for number in range(1, most + 2)]
    assert not refused(with_value(row, servers[:-1]))
    assert refused(with_value(row, servers))


@pytest.mark.parametrize("name", ["README.md", "docs/configuration.md"])
def test_the_examples_are_good(name: str) -> None:
    text = (PROJECT / name).read_text()
    examples = re.findall(r"^ {4}config:\n(?: {4}.*\n)+", text, re.M)
    assert examples
    for example in examples:
        assert refused(yaml.safe_load(example)["config"]["hardway:cluster"]) == []
