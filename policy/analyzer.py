"""The rules as Pulumi's engine asks them: the only module that knows pulumi-policy.

A pack is shown one resource at a time, as it will be. It is told neither what was there before nor
with which resource another dies, so rules that need that say that they do not apply.
"""

from collections.abc import Mapping
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

# Back to values as on the wire, with the envelopes of secrets, which the rules read.
from pulumi_policy.deserialize import serialize_properties

from policy.rule import Fact, Rule
from policy.rules import RULES, of
from preview.change import ResourceChange, Verb
from preview.registration import Registration

SHOWN = frozenset({Fact.SECRECY, Fact.LIMITS, Fact.HIDDEN_OUTPUTS, Fact.VERSIONS})
"""What a pack is told of a resource."""

Inputs = Mapping[str, Any]


def serve() -> None:
    """Answer the engine until it ends this process."""
    PolicyPack("hardway", policies(), EnforcementLevel.MANDATORY)


def policies() -> list[Policy]:
    """A policy of each rule; every one is mandatory."""
    marked: dict[str, Inputs] = {}
    return [_of_each(rule, marked) if rule.needs <= SHOWN else _of_all(rule) for rule in RULES]


def _of_each(rule: Rule, marked: dict[str, Inputs]) -> Policy:
    """A rule that is asked of one resource after the other.

    Only a remediation is told which inputs are secret, and it comes before the validation: it
    remedies nothing and keeps them, by the resource's URN.
    """
    needs_marks = Fact.SECRECY in rule.needs

    def keep_marks(args: ResourceValidationArgs) -> None:
        marked[args.urn] = serialize_properties(args.props)

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if not needs_marks:
            inputs = serialize_properties(args.props)
        elif args.urn in marked:
            inputs = marked[args.urn]
        else:
            args.not_applicable("which inputs are secret is told at the level remediate alone")
        judge(rule, registration(args, inputs), report)

    return ResourceValidationPolicy(
        name=rule.name,
        description=rule.why,
        validate=validate,
        remediate=keep_marks if needs_marks else None,
        enforcement_level=(
            EnforcementLevel.REMEDIATE if needs_marks else EnforcementLevel.MANDATORY
        ),
    )


def _of_all(rule: Rule) -> Policy:
    hidden = " and ".join(sorted(rule.needs - SHOWN))

    def validate(args: StackValidationArgs, report: ReportViolation) -> None:  # noqa: ARG001
        args.not_applicable(f"Pulumi does not tell a policy pack {hidden}: ./hardway preview asks")

    return StackValidationPolicy(
        name=rule.name,
        description=rule.why,
        validate=validate,
        enforcement_level=EnforcementLevel.MANDATORY,
    )


def judge(rule: Rule, one: Registration, report: ReportViolation) -> None:
    """Report where a resource breaks a rule."""
    change = ResourceChange(verb=Verb.CREATE, before=None, after=one)
    try:
        for finding in of(rule, [change]):
            report(finding.sentence, None)
    except Exception as error:
        # Whatever was raised may have a secret in it, and the engine would print it.
        raise RuntimeError(
            f"the rule {rule.name} cannot be asked of {one.name}: {type(error).__name__}"
        ) from None


def registration(args: ResourceValidationArgs, inputs: Inputs) -> Registration:
    """A resource as the engine shows it."""
    limits = args.opts.custom_timeouts
    seconds = {
        "create": limits.create_seconds,
        "update": limits.update_seconds,
        "delete": limits.delete_seconds,
    }
    own = args.resource_type.startswith("pulumi:providers:")
    provider = inputs if own else serialize_properties(args.provider.props) if args.provider else {}
    return Registration(
        kind=args.resource_type,
        name=args.name,
        custom=own or args.provider is not None,
        inputs=inputs,
        version=str(provider.get("version", "")),
        additional_secret_outputs=tuple(args.opts.additional_secret_outputs),
        timeouts={name: f"{value}s" for name, value in seconds.items() if value},
    )
