"""Measures changes of a living cluster: an upgrade, a node more, members of etcd made anew."""

from typing import Any

from rich.console import Console
from rich.table import Table

from ops.bench_lab import BenchLab, Update, bench_lab, default_stack, judged
from ops.display import path_table
from spec.configuration import CLUSTER

BEFORE = "1.36.3"
"""The Kubernetes version that is upgraded; it has a recipe for those who cannot download it."""

WANTED = 1.3
"""The largest wanted ratio of a replaced member of three to the boot and the join of a machine."""

ADDED = "minion3"
MORE = {ADDED: {"address": "192.168.1.13"}}
"""The node that is added, whose boot and join the other changes are compared with."""

MEMBERS: dict[str, dict[str, Any]] = {
    f"etcd{number}": {"address": f"192.168.1.2{number}", "roles": "e", "memory": 1024}
    for number in (1, 2, 3)
}
"""Members of etcd beside the default stack's own; the last one takes the place of the second."""
OWN = "master"
FIRST, LEAVING, COMING = MEMBERS


def bench_living(console: Console) -> None:
    """Bring up the default stack of the minor version before, change it, and print the ratios."""
    with bench_lab() as lab:
        change(lab, kubernetes=BEFORE)
        upgraded = change(lab)
        change(lab, FIRST, LEAVING)
        added = change(lab, FIRST, LEAVING, more=MORE)
        replaced = change(lab, FIRST, COMING, more=MORE)
        lab.lose(COMING)
        made_anew = lab.update("--refresh")
        machines = len(default_stack()[CLUSTER]["machines"])
    console.print(table(upgraded, machines, added, replaced, made_anew))
    for update, change_of in (
        (upgraded, "the upgrade"),
        (added, "one node more"),
        (replaced, "another member of etcd"),
        (made_anew, "a member that was lost with its disk"),
    ):
        console.print(path_table(update.path, f"what {change_of} waited for"))


def change(
    lab: BenchLab, *members: str, more: dict[str, dict[str, Any]] | None = None, **settings: Any
) -> Update:
    """Bring up the default stack with these members of etcd, machines and settings of a cluster."""
    config = default_stack()
    cluster = config[CLUSTER]
    cluster.update(settings)
    machines = cluster["machines"]
    if members:
        # Without a machine that has etcd as a role, its control plane is the only member.
        machines[OWN]["roles"] = "aei"
    machines.update({name: MEMBERS[name] for name in members}, **(more or {}))
    lab.write(config)
    return lab.update()


def table(
    upgraded: Update, machines: int, added: Update, replaced: Update, made_anew: Update
) -> Table:
    """The table that compares the changes with the boot and the join of one machine."""
    shown = Table(title="changes of a living cluster")
    for title in ("what", "seconds", "to a machine's boot and join"):
        shown.add_column(title, justify="left" if title == "what" else "right")
    joined = added.joined(ADDED)
    a_machine = upgraded.seconds / machines
    shown.add_row("boot and join of one node", f"{joined:.0f}", "1.00")
    shown.add_row("one node more, all conditions true", *_row(added.seconds, joined))
    for what, update in (
        ("another machine for one of three members, all conditions true", replaced),
        ("one of three members made anew, all conditions true", made_anew),
    ):
        ratio = judged(update.seconds / joined, WANTED)
        shown.add_row(what, f"{update.seconds:.0f}", ratio)
    shown.add_row(f"upgrade of {machines} machines, with drains", *_row(upgraded.seconds, joined))
    shown.add_row("of it for each machine", *_row(a_machine, joined))
    return shown


def _row(seconds: float, joined: float) -> tuple[str, str]:
    return f"{seconds:.0f}", f"{seconds / joined:.2f}"
