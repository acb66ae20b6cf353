"""Labels and taints that the spec gives to Node objects, for as long as the spec names them.

A kubelet sets both when it registers its node, but does not change a registered node, and may not
change its own taints (the admission plugin NodeRestriction). So the cluster's admin applies the
labels and taints of the spec. Labels and taints from other sources remain: a record lists those
that come from the spec. The record is not part of the Node object, where a kubelet could write it.
"""

from collections.abc import Mapping
from typing import Any

from plan import kubelet
from spec.cluster import Cluster, Role

NAMESPACE, NAME = "kube-system", "hardway-nodes"
"""The namespace and the name of the ConfigMap that is the record."""


def given(spec: Cluster) -> Mapping[str, str]:
    """Node to its labels and taints from the spec, a line each; nodes without any are left out.

    The lines are ``label KEY=VALUE`` and ``taint KEY=VALUE:EFFECT``.
    """
    every = {name: "".join(f"{line}\n" for line in _lines(spec, name)) for name in spec.nodes}
    return {name: lines for name, lines in every.items() if lines}


def _lines(spec: Cluster, name: str) -> list[str]:
    machine = spec.machines[name]
    labels = dict(machine.labels)
    if Role.CONTROL_PLANE in machine.roles:
        labels[kubelet.CONTROL_PLANE] = ""
    return [
        *(f"label {key}={value}" for key, value in sorted(labels.items())),
        *(
            f"taint {taint['key']}={taint.get('value', '')}:{taint['effect']}"
            for taint in kubelet.taints(machine)
        ),
    ]


def record(spec: Cluster) -> dict[str, Any]:
    """The ConfigMap that records the labels and taints from the spec."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": dict(given(spec)),
    }


def text(spec: Cluster) -> str:
    """The labels and taints as ``nodes.sh`` reads them: ``node NAME``, then the node's lines."""
    return "".join(f"node {name}\n{lines}" for name, lines in given(spec).items())
