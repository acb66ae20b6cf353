"""The rules as a policy pack for Pulumi's engine; the only module that uses pulumi-policy.

The engine shows a pack one resource at a time, as it will be after the change. A pack sees neither
the earlier resource nor ``deleted_with``, so rules that need these report that they do not apply.
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

# Converts inputs back to values as on the wire, with the secret envelopes that the rules read.
from pulumi_policy.deserialize import serialize_properties

from policy.rule import Fact, Rule
from policy.rules import RULES, of
from preview.change import ResourceChange, Verb
from preview.registration import Registration

SHOWN = frozenset({Fact.SECRECY, Fact.LIMITS, Fact.HIDDEN_OUTPUTS, Fact.VERSIONS})
"""The facts about a resource that the engine gives to a pack."""

Inputs = Mapping[str, Any]


def serve() -> None:
    """Answer the engine's requests until the engine ends this process."""
    PolicyPack("hardway", policies(), EnforcementLevel.MANDATORY)


def policies() -> list[Policy]:
    """A policy for each rule; a violation of any rule fails the update."""
    marked: dict[str, Inputs] = {}
    return [_of_single(rule, marked) if rule.needs <= SHOWN else _of_all(rule) for rule in RULES]


def _of_single(rule: Rule, marked: dict[str, Inputs]) -> Policy:
    """A policy that checks a rule on one resource at a time.

    The engine marks secret inputs only for a remediation, which runs before the validation. So the
    remediation here changes nothing and stores the marked inputs by the resource's URN.
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


def judge(rule: Rule, resource: Registration, report: ReportViolation) -> None:
    """Report the violations of a rule by a resource."""
    change = ResourceChange(verb=Verb.CREATE, before=None, after=resource)
    try:
        for finding in of(rule, [change]):
            report(finding.sentence, None)
    except Exception as error:
        # The exception's text may contain a secret, and the engine would print it.
        raise RuntimeError(
            f"the rule {rule.name} cannot be asked of {resource.name}: {type(error).__name__}"
        ) from None


def registration(args: ResourceValidationArgs, inputs: Inputs) -> Registration:
    """A resource from the engine's request, as a value that the rules can read."""
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
