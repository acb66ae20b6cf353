"""Rules about etcd, which stores all data of a cluster, and about changes of a living cluster."""

from collections.abc import Iterator
from dataclasses import dataclass

from hypervisors.adapters import holds_data, is_machine
from policy.rule import Changes, Violations
from preview.change import GONE, Verb
from preview.kinds import clusters
from spec.change import quorum_lost, refused_changes
from spec.cluster import Cluster
from spec.resource_names import DISK, owner


@dataclass(frozen=True)
class Living:
    """A cluster that exists before and after the change."""

    before: Cluster
    after: Cluster

    @property
    def kept(self) -> tuple[str, ...]:
        """The machines that are members of etcd before and after the change."""
        return tuple(n for n in self.before.etcd_members if n in self.after.etcd_members)


def keeps_disks(changes: Changes) -> Violations:
    """A member that stays a member keeps its disk, and its machine is not deleted.

    The rule does not apply to a member that leaves the spec, nor where the whole cluster is removed
    (``down`` is one command). A machine may be replaced, since the new machine gets the same disk.
    """
    for living in _living(changes):
        for change in changes:
            lost = holds_data(change.kind) and change.verb in GONE
            lost |= is_machine(change.kind) and change.verb is Verb.DELETE
            member = owner(change.name, DISK)
            if lost and member in living.kept:
                sentence = (
                    f"{change.name} would be lost, and with it what the etcd member {member} "
                    "holds; undo what takes it away, or leave the member out of the spec first"
                )
                yield change.name, sentence


def keeps_quorum(changes: Changes) -> Violations:
    """While machines of members are replaced, a majority with all data stays (spec/change.py)."""
    for living in _living(changes):
        for sentence in quorum_lost(living.before, living.after, _disturbed(changes)):
            yield "", sentence


def goes_on_living(changes: Changes) -> Violations:
    """The spec changes only in ways that a living cluster can take (spec/change.py)."""
    for living in _living(changes):
        for sentence in refused_changes(living.before, living.after):
            yield "specification", sentence


def _living(changes: Changes) -> Iterator[Living]:
    """The cluster before and after; nothing where it is new, removed as a whole or unreadable."""
    before, after = clusters(changes)
    if before and after:
        yield Living(before, after)


def _disturbed(changes: Changes) -> set[str]:
    """The names of machines that are replaced or deleted, or whose disk is."""
    gone = [change for change in changes if change.verb in GONE]
    return {change.name for change in gone if is_machine(change.kind)} | {
        owner(change.name, DISK) for change in gone if holds_data(change.kind)
    }
