"""The cluster's SSH keys in a user's list: no more of them are let in, and no fewer.

They are no thing that a step brings and later takes away: a machine whose list lost them could be
reached by nobody. So they have no record of their own; a script writes them.
"""

from collections.abc import Iterator

from plan.item import AS_KEPT, Item, Kind
from plan.model import Logins, Material, Step
from plan.records import content, record
from plan.things.kind import ThingKind

SCRIPTS = ("authorize", "logins")
"""What writes the list: functions, and the script that calls them."""


def item_of(logins: Logins, step: str) -> Item:
    """What a machine must hold of these keys."""
    mark = logins.keys.mark
    return Item(kind=Kind.LOGINS, name=logins.user, wanted=AS_KEPT, step=step, mark=mark)


def _records(step: Step, material: Material | None) -> Iterator[str]:
    if (logins := step.logins) is None:
        return
    if material is None:
        raise ValueError(f"the step {step.name} needs keys to be rendered")
    yield record("setting", "login_user", logins.user)
    yield record("setting", "login_mark", logins.keys.mark)
    yield record("setting", "login_keys") + content(material(logins.keys))
    yield record("run", SCRIPTS[-1])


def _items(step: Step) -> Iterator[Item]:
    if step.logins:
        yield item_of(step.logins, step.name)


KIND = ThingKind(label="SSH keys", records=_records, items=_items)
