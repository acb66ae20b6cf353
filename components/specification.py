"""What the cluster is described as, kept so that a change that it cannot take is refused."""

from typing import Any

import pulumi
import yaml
from pulumi import dynamic

from certs.tracked import Checked
from spec.change import refused_changes
from spec.cluster import Cluster, SpecError, parse

ELSEWHERE = {"hypervisor", "artifacts"}
"""Where machines run and where bytes come from: other resources show it."""


class SpecificationProvider(Checked):
    """Refuses a change when the engine checks it, which it does in a preview as well."""

    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        failures = []
        if olds.get("spec"):
            failures = [
                dynamic.CheckFailure("spec", sentence)
                for sentence in _refused(olds["spec"], news["spec"])
            ]
        return dynamic.CheckResult(news, failures)


def _refused(before: str, after: str) -> tuple[str, ...]:
    try:
        old = parse(yaml.safe_load(before), name="")
    except SpecError:  # of an older program, which allowed what this one refuses
        return ()
    new = parse(yaml.safe_load(after), name="")
    return (*refused_changes(old, new), *_members(old, new))


def _members(old: Cluster, new: Cluster) -> tuple[str, ...]:
    """Nothing here brings a member into a living etcd yet, or takes one out of it."""
    if old.etcd_members == new.etcd_members:
        return ()
    sentence = (
        f"machines: etcd's members are {', '.join(old.etcd_members)} and cannot become "
        f"{', '.join(new.etcd_members)} in a living cluster yet, since etcd itself would not know "
        "of it; write them as they were"
    )
    return (sentence,)


class Specification(dynamic.Resource, module="hardway", name="Specification"):
    """The spec of the running cluster: whatever comes after it is only touched if it may change."""

    def __init__(self, spec: Cluster, opts: pulumi.ResourceOptions) -> None:
        super().__init__(SpecificationProvider(), "specification", {"spec": written(spec)}, opts)


def written(spec: Cluster) -> str:
    """A spec as YAML with its defaults, so that a preview shows the lines that change."""
    value = spec.model_dump(mode="json", exclude=ELSEWHERE, exclude_none=True)
    for machine in value["machines"].values():
        machine.pop("hypervisor", None)
        machine["roles"].sort()
    return yaml.safe_dump(value, sort_keys=True)
