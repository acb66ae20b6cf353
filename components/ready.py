"""The resource that waits until all conditions of the cluster's plan are true."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi import dynamic
from pydantic import TypeAdapter

from certs.tracked import Checked
from components.cancellation import run
from plan.condition import Condition

if TYPE_CHECKING:
    from probe.watch import Outcome

CONDITIONS = TypeAdapter(tuple[Condition, ...])


class NotReady(Exception):
    """The cluster did not become ready in time.

    The text has one line about the first condition that is false, then a line for each other one.
    Where the kubeconfig cannot be used, the text is that error instead.
    """


class ReadyProvider(Checked):
    """Waits for the conditions on creation and whenever anything of the cluster changes."""

    digested = frozenset({"access", "conditions"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        _wait(props)
        return super().create(props)

    def update(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.UpdateResult:
        _wait(news)
        return super().update(id_, olds, news)

    def diff(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        # A change of ``access`` alone is no reason to check the conditions again.
        compared, outputs = ("conditions", "changes", "kubeconfig"), self.outputs(news)
        return dynamic.DiffResult(
            changes=any(olds.get(name) != outputs.get(name) for name in compared)
        )


def _wait(props: Mapping[str, Any]) -> None:
    # Imported here, since the SSH and HTTP libraries are a third of what a preview would import,
    # and a preview checks no condition.
    from probe.access import Access
    from probe.api import ApiError
    from probe.watch import watch

    conditions = CONDITIONS.validate_json(props["conditions"])
    access = Access.from_outputs(json.loads(props["access"]))
    try:
        outcomes = run(watch(conditions, access, say=_say))
    except ApiError as error:
        raise NotReady(str(error)) from error
    if failed := [pair for pair in zip(conditions, outcomes, strict=True) if not pair[1].holds]:
        raise NotReady("\n".join(_message(*failed)))


def _say(line: str) -> None:
    print(line, flush=True)


def _message(
    first: "tuple[Condition, Outcome]", *others: "tuple[Condition, Outcome]"
) -> Iterator[str]:
    condition, outcome = first
    waited = f"{outcome.seconds:.0f} s{', the hard limit' if outcome.hard else ''}"
    why = "; ".join(filter(None, (outcome.error, outcome.news)))
    yield f"not yet after {waited}: {condition.waits_for} ({why})"
    if others:
        yield "of what comes after it:"
    for _, later in others:
        yield f"{later.name}: {later.error}"


class Ready(dynamic.Resource, module="hardway", name="Ready"):
    """All conditions of the cluster's plan are true."""

    kubeconfig: pulumi.Output[str]
    """Secret; known once the cluster is ready."""

    def __init__(
        self,
        name: str,
        *,
        conditions: Sequence[Condition],
        changes: pulumi.Input[Mapping[str, Any]],
        access: pulumi.Input[str],
        kubeconfig: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        """``changes`` differs when anything of the cluster changes; then all checks run again."""
        super().__init__(
            ReadyProvider(),
            name,
            {
                "conditions": CONDITIONS.dump_json(tuple(conditions)).decode(),
                "changes": changes,
                "access": pulumi.Output.secret(access),
                "kubeconfig": pulumi.Output.secret(kubeconfig),
            },
            opts,
        )
