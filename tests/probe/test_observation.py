"""What is made of a machine's answer; what machines really answer is in tests/plan/test_drift."""

import asyncio
from typing import Any

import pytest

from plan.item import AS_KEPT, AS_VERIFIED, Item, Kind
from probe.machines import Done, Unreachable
from probe.observation import ALL, observed, question

FILE = Item(kind=Kind.FILE, name="/etc/a", wanted="sha256:11 0600 root:root", step="s")
SECRET = Item(kind=Kind.FILE, name="/etc/k", wanted=f"{AS_KEPT} 0600 root:root", step="s")
PROGRAM = Item(
    kind=Kind.ARTIFACT,
    name="p 1",
    wanted=f"{AS_VERIFIED} 0555 root:root",
    step="s",
    path="/store/p",
    mark="m",
)
SERVICE = Item(
    kind=Kind.SERVICE,
    name="a.service",
    wanted="enabled, runs /store/p",
    step="s",
    needs=("/etc/a", "/etc/k"),
)
ITEMS = (FILE, SECRET, PROGRAM, SERVICE)

RIGHT = f"""\
path\t/etc/a\tf\t600\troot:root\t100.5000000000\t
path\t/etc/k\tf\t600\troot:root\t100.5000000000\t
path\t/store/p\tf\t555\troot:root\t1.0\t
verified\t/store/p
sum\t/etc/a\t11
sum\t/etc/k\t22
unit\tMainPID=7
unit\tExecMainStartTimestamp=Thu 1970-01-01 00:03:20.250000 UTC
unit\tId=a.service
unit\tActiveState=active
unit\tUnitFileState=enabled
unit\tDropInPaths=/usr/lib/systemd/system/service.d/all.conf
unit\tNeedDaemonReload=no
program\t/proc/7/exe\t/store/p
{ALL}
"""


class Answers:
    """A machine that answers so."""

    def __init__(self, stdout: str, status: int = 0) -> None:
        self.done = Done(status=status, stdout=stdout, stderr="")

    async def run(self, *arguments: str, **more: Any) -> Done:
        del arguments, more
        return self.done


def states(answer: str, status: int = 0) -> dict[str, str]:
    machines: Any = Answers(answer, status)
    return asyncio.run(observed(machines, "m", ITEMS, {"/etc/k": "22"}))


def test_a_machine_as_planned_is_told_in_the_plans_own_words() -> None:
    assert states(RIGHT) == {item.key: item.wanted for item in ITEMS}


@pytest.mark.parametrize(
    ("old", "new", "item", "expected"),
    [
        ("sum\t/etc/a\t11", "sum\t/etc/a\t12", FILE, "sha256:12 0600 root:root"),
        ("path\t/etc/a\tf\t600", "path\t/etc/a\tf\t4755", FILE, "sha256:11 4755 root:root"),
        ("sum\t/etc/k\t22", "sum\t/etc/k\t23", SECRET, "other content 0600 root:root"),
        ("verified\t/store/p\n", "", PROGRAM, "touched since it was verified 0555 root:root"),
        ("/proc/7/exe\t/store/p", "/proc/7/exe\t/o", SERVICE, "enabled, runs /o"),
        ("/store/p\nthese", "/usr/lib/systemd/systemd-executor\nthese", SERVICE, SERVICE.wanted),
        ("/store/p\nthese", "/usr/lib/systemd/systemd (deleted)\nthese", SERVICE, SERVICE.wanted),
        ("State=active", "State=inactive", SERVICE, "enabled, stopped"),
        ("State=active", "State=inactive\njob\ta.service\tstart", SERVICE, SERVICE.wanted),
        ("State=active", "State=deactivating\njob\ta.service\trestart", SERVICE, SERVICE.wanted),
        ("State=active", "State=deactivating\njob\ta.service\tstop", SERVICE, "enabled, stopped"),
        ("State=active", "State=failed", SERVICE, "enabled, failed"),
        ("State=active", "State=activating", SERVICE, SERVICE.wanted),
        ("State=enabled", "State=disabled", SERVICE, "disabled, runs /store/p"),
        ("State=enabled", "State=", SERVICE, "missing, runs /store/p"),
        (
            "service.d/all.conf",
            "service.d/all.conf /run/systemd/system/a.service.d/x.conf",
            SERVICE,
            "enabled, runs /store/p, with settings of /run/systemd/system/a.service.d/x.conf",
        ),
    ],
)
def test_each_fact_counts(old: str, new: str, item: Item, expected: str) -> None:
    changed = RIGHT.replace(old, new)
    assert changed != RIGHT
    assert states(changed)[item.key] == expected


def test_a_service_that_began_after_a_wrong_file_was_written_runs_with_it() -> None:
    # It began at 200.25 seconds.
    changed_later = RIGHT.replace("sum\t/etc/a\t11", "sum\t/etc/a\t12")
    assert states(changed_later)[SERVICE.key] == f"{SERVICE.wanted}, started with this /etc/a"
    later = changed_later.replace(
        "/etc/a\tf\t600\troot:root\t100.5", "/etc/a\tf\t600\troot:root\t200.26"
    )
    assert states(later)[SERVICE.key] == SERVICE.wanted
    only_mode = RIGHT.replace("/etc/a\tf\t600", "/etc/a\tf\t644")
    assert states(only_mode)[SERVICE.key] == SERVICE.wanted
    restarts = f"job\ta.service\trestart\n{ALL}"
    assert states(changed_later.replace(ALL, restarts))[SERVICE.key] == SERVICE.wanted
    secret = RIGHT.replace("sum\t/etc/k\t22", "sum\t/etc/k\t23")
    assert states(secret)[SERVICE.key].endswith("started with this /etc/k")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("", 0),
        (RIGHT.removesuffix(f"{ALL}\n"), 0),
        (RIGHT, 1),
        (RIGHT.replace("unit\t", "lost\t"), 0),
    ],
)
def test_an_answer_that_is_not_whole_is_none(answer: str, status: int) -> None:
    with pytest.raises(Unreachable, match=r"^(m|systemd on m) does not say"):
        states(answer, status)


def test_the_question_is_a_line_for_each_thing() -> None:
    assert question(ITEMS) == (
        "file\t/etc/a\t\nfile\t/etc/k\t\nartifact\t/store/p\tm\nservice\ta.service\t\n"
    )
