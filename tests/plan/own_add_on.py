"""An add-on that only tests have, in the catalogue and in the spec for as long as a test runs."""

from collections.abc import Iterator

import pytest

import spec.cluster
import spec.kept
from plan.addons.add_on import AddOn, Page
from plan.addons.catalogue import ADD_ONS
from plan.artifact import reference
from plan.condition import Condition, Pods, condition
from plan.limits import Limit
from plan.objects import Manifest
from spec.cluster import Addons, Cluster
from spec.description import Description
from spec.part import Truth

NAME = "echo_once"
SELECTOR = {"app": "echo"}
ACCOUNT = {"name": "echo", "namespace": "kube-system"}


class AddonsWithOwn(Addons):
    """The add-ons with one more field."""

    echo_once: Truth = False
    """Whether the test's own add-on runs."""


class DescriptionWithOwn(Description):
    """A description that may name the add-on."""

    addons: AddonsWithOwn = AddonsWithOwn()
    """What runs in the cluster itself."""


def _rights(_spec: Cluster) -> tuple[Manifest, ...]:
    return ({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": ACCOUNT},)


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    container = {
        "name": "echo",
        "image": reference(spec, "pause"),
        "resources": {"limits": {"memory": "24Mi"}},
    }
    pod = {"serviceAccountName": "echo", "containers": [container]}
    return (
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": ACCOUNT,
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": SELECTOR},
                "template": {"metadata": {"labels": SELECTOR}, "spec": pod},
            },
        },
    )


def _conditions(_spec: Cluster) -> Iterator[Condition]:
    yield condition(
        name="echo",
        waits_for="three pods of the test's own add-on are Ready",
        check=Pods(namespace="kube-system", selector=SELECTOR, count=3),
        limit=Limit(900, "its pods are scheduled once nodes are Ready"),
    )


OWN = AddOn(
    name=NAME,
    about="shows that an add-on needs no other place than the table",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
    data="what it heard is lost",
    pages=lambda _: (Page(namespace="kube-system", service="echo", port=80, path="/heard"),),
)


def add(patch: pytest.MonkeyPatch) -> None:
    """Put the add-on into the catalogue and the spec, until ``patch`` is undone."""
    assert isinstance(ADD_ONS, dict)
    patch.setitem(ADD_ONS, NAME, OWN)
    for module in (spec.cluster, spec.kept):
        patch.setattr(module, "Description", DescriptionWithOwn)
