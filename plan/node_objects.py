"""What the spec gives to Node objects: labels and taints, for as long as it names them.

A kubelet gives both to a node that it registers, and leaves a registered one as it is; its own
identity may not change its taints (the admission plugin NodeRestriction). So the cluster's admin
brings them to what the spec says. What others gave to a node stays: a record says which labels and
taints are of the spec, and it is none of the node's own fields, which a kubelet could write.
"""

from collections.abc import Mapping
from typing import Any

from plan import kubelet
from spec.cluster import Cluster, Role

NAMESPACE, NAME = "kube-system", "hardway-nodes"
"""Of the ConfigMap that is the record."""


def given(spec: Cluster) -> Mapping[str, str]:
    """Node to what the spec gives it, a line each; without the nodes to which it gives nothing.

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
            f"taint {one['key']}={one.get('value', '')}:{one['effect']}"
            for one in kubelet.taints(machine)
        ),
    ]


def record(spec: Cluster) -> dict[str, Any]:
    """The ConfigMap that says what the spec gives."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": dict(given(spec)),
    }


def text(spec: Cluster) -> str:
    """What the spec gives, as ``nodes.sh`` reads it: ``node NAME``, and its lines after it."""
    return "".join(f"node {name}\n{lines}" for name, lines in given(spec).items())
