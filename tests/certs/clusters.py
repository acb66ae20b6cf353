"""Clusters of different shapes, and all their keys and certificates at one fixed time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from certs.bundle import Authorities, Bundle
from certs.renewal import decided, renewed, renewed_authorities
from certs.table import FOR_PEOPLE, Row, held_by
from spec.cluster import Cluster, parse

NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def cluster(machines: Mapping[str, tuple[str, str]], **more: Any) -> Cluster:
    """A cluster from machine names to (address, roles)."""
    return parse(
        {
            "networks": {"machines": "192.168.1.0/24"},
            "machines": {
                name: {
                    "address": address,
                    "roles": roles,
                    "cpus": 2,
                    "memory": 4096,
                    "disk": 20,
                }
                for name, (address, roles) in machines.items()
            },
            **more,
        },
        name="test",
    )


SINGLE = cluster({"master": ("192.168.1.10", "ai")})

APART = cluster(
    {
        "e1": ("192.168.1.21", "e"),
        "e2": ("192.168.1.22", "e"),
        "e3": ("192.168.1.23", "e"),
        "c1": ("192.168.1.31", "a"),
        "c2": ("192.168.1.32", "a"),
        "m1": ("192.168.1.41", "i"),
        "m2": ("192.168.1.42", "i"),
        "m3": ("192.168.1.43", "i"),
    },
    endpoint={"kind": "virtual-ip", "address": "192.168.1.100"},
)

BALANCED = cluster(
    {
        "a": ("192.168.1.51", "ai"),
        "b": ("192.168.1.52", "ai"),
        "c": ("192.168.1.53", "a"),
        "d": ("192.168.1.54", "i"),
    },
    endpoint={"kind": "balancer", "host": "api.example.org", "port": 443},
    dns_domain="k8s.example.org",
    flannel={"store": "kubernetes"},
)

SHAPES = {"single": SINGLE, "apart": APART, "balanced": BALANCED}

PEOPLE = "people"


def rows_of(spec: Cluster) -> dict[str, tuple[Row, ...]]:
    """The rows of each bundle: one for people, one for each machine."""
    return {PEOPLE: FOR_PEOPLE} | {node: held_by(spec, node) for node in spec.machines}


@dataclass(frozen=True)
class Made:
    """A cluster with all its certificates."""

    spec: Cluster
    authorities: Authorities
    bundles: Mapping[str, Bundle]


def authorities(now: datetime = NOW) -> Authorities:
    return renewed_authorities(None, now)


def issue(rows: tuple[Row, ...], signers: Authorities, now: datetime = NOW) -> Bundle:
    """A bundle from nothing."""
    return renewed(Bundle(), decided(rows, Bundle(), signers.signers, now), signers.signers, now)


@cache
def made(shape: str) -> Made:
    spec, signers = SHAPES[shape], authorities()
    return Made(spec, signers, {name: issue(rows, signers) for name, rows in rows_of(spec).items()})
