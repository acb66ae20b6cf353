"""The table of rules, and the check of a change against them."""

from collections.abc import Iterator

from policy import commands, etcd, private
from policy.rule import Changes, Fact, Rule, known_facts
from preview.review import Finding

RULES: tuple[Rule, ...] = (
    Rule(
        name="no-private-key-in-the-clear",
        why="Whoever may read a preview or the state must not come to hold a key of the cluster.",
        judge=private.no_private_text,
        needs=frozenset({Fact.SECRECY}),
    ),
    Rule(
        name="command-dies-with-its-machine",
        why="A destroy must not wait for machines that are gone.",
        judge=commands.dies_with_its_machine,
        needs=frozenset({Fact.DELETED_WITH}),
    ),
    Rule(
        name="command-has-limits",
        why="No machine may hold up an update for ever.",
        judge=commands.has_limits,
        needs=frozenset({Fact.LIMITS}),
    ),
    Rule(
        name="command-knows-its-host",
        why="Data with keys must reach the machine that they are meant for and no other.",
        judge=commands.knows_its_host,
    ),
    Rule(
        name="command-is-only-updated",
        why="A step runs again when it changes, and its deletion only takes away what it brought.",
        judge=commands.is_only_updated,
    ),
    Rule(
        name="command-is-the-shell",
        why="A command that fails is printed whole: the step's data must not be in it.",
        judge=commands.is_the_shell,
    ),
    Rule(
        name="secret-script-stays-hidden",
        why="What a step with keys prints must be in no log and in no state in the clear.",
        judge=commands.hides_its_secrets,
        needs=frozenset({Fact.SECRECY, Fact.HIDDEN_OUTPUTS}),
    ),
    Rule(
        name="artifact-has-a-digest",
        why="Machines must run the bytes that were chosen and no others.",
        judge=commands.names_digests,
    ),
    Rule(
        name="plugin-has-a-version",
        why="The same program must do the same on every computer.",
        judge=commands.plugins_have_versions,
        needs=frozenset({Fact.VERSIONS}),
    ),
    Rule(
        name="etcd-disk-is-kept",
        why="A member's disk holds what the cluster knows.",
        judge=etcd.keeps_disks,
        needs=frozenset({Fact.BEFORE}),
    ),
    Rule(
        name="etcd-keeps-its-quorum",
        why="Without a majority of its members etcd answers nobody.",
        judge=etcd.keeps_quorum,
        needs=frozenset({Fact.BEFORE}),
    ),
    Rule(
        name="living-cluster-can-take-it",
        why="A downgrade, a new network or a new name would break a cluster that runs.",
        judge=etcd.goes_on_living,
        needs=frozenset({Fact.BEFORE}),
    ),
)


def judge(changes: Changes, known: frozenset[Fact] | None = None) -> tuple[Finding, ...]:
    """The violations of all rules by a change; a rule whose facts are unknown is not checked."""
    facts = known_facts(changes) if known is None else known
    return tuple(finding for rule in RULES if rule.needs <= facts for finding in of(rule, changes))


def of(rule: Rule, changes: Changes) -> Iterator[Finding]:
    """The violations of this rule by a change."""
    for resource, sentence in rule.judge(changes):
        yield Finding(rule=rule.name, resource=resource, sentence=sentence)
