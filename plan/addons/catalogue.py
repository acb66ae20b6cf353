"""The table of all add-ons. Nothing outside this package names one of them."""

from collections.abc import Iterator, Mapping

from certs.table import Row
from plan.addons import (
    coredns,
    dashboard,
    ingress,
    load_balancer,
    logs,
    metrics_server,
    monitoring,
    network_policy,
    notebooks,
    problem_detector,
    storage,
)
from plan.addons.add_on import AddOn, Page
from spec.cluster import Cluster

ADD_ONS: Mapping[str, AddOn] = {
    module.ADD_ON.name: module.ADD_ON
    for module in (
        *(coredns, storage, network_policy, load_balancer, metrics_server, monitoring),
        *(problem_detector, logs, ingress, dashboard, notebooks),
    )
}
"""Field of ``addons`` in the spec to the add-on, in the order of their conditions."""


def enabled(spec: Cluster) -> tuple[AddOn, ...]:
    """The add-ons of a cluster."""
    return tuple(add_on for name, add_on in ADD_ONS.items() if name in spec.addons.enabled)


def pages(spec: Cluster) -> Iterator[tuple[str, Page]]:
    """The pages of a cluster's add-ons, each with the add-on's name."""
    for add_on in enabled(spec):
        for page in add_on.pages(spec):
            yield add_on.name, page


def certificates(spec: Cluster) -> tuple[Row, ...]:
    """The certificates of a cluster's add-ons."""
    return tuple(row for add_on in enabled(spec) for row in add_on.certificates(spec))


def has_passwords(spec: Cluster) -> bool:
    """Whether people log in to an add-on's page with a password of the program's own making."""
    return any(page.password for _, page in pages(spec))
