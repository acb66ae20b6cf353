"""Kinds of drift on a machine with its own systemd: each is seen, named and mended, alone."""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from plan import library
from plan.condition import Services
from plan.contents import Contents, contents
from plan.held import FOREIGN_FILES, THERE, secret_digests
from plan.item import RESTARTS
from plan.model import (
    STORE,
    Artifact,
    Directory,
    File,
    Link,
    NodePlan,
    PrivateKey,
    SecretFile,
    Source,
    Step,
    Unit,
)
from probe.failure import Unmet
from probe.services import demand_services
from tests.engine.stack import eventually
from tests.plan.container import Container, Memory, quiet
from tests.plan.guarded import NODE, GuardedMachine

pytestmark = pytest.mark.container

SERVICES = ("one.service", "two.service")
KEY = "a private key\n"
PROGRAM = Path("/usr/bin/sleep").read_bytes()
OLDER = PROGRAM + b"\0"
"""Runs just as well."""

CONFIGURATION, SECRET, DATA = "/etc/sleeper/config", "/etc/sleeper/key", "/var/lib/sleeper"
LOUDLY = hashlib.sha256(b"quietly\nloudly\n").hexdigest()
SETTINGS = "/etc/sysctl.d/90-hardway.conf"
FORWARD = "net.ipv4.ip_forward"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stored(content: bytes) -> str:
    return f"{STORE}/sha256/{digest(content)}"


SLEEPER = Artifact(name="sleeper", version="2", kind="binary", sha256=digest(PROGRAM))


def _unit(name: str, need: str) -> Unit:
    return Unit(
        name=name,
        description="sleeps",
        program="/usr/local/bin/sleeper",
        arguments=("infinity",),
        type="exec",
        needs=(need,),
    )


PLAN = NodePlan(
    node=NODE,
    steps=(
        Step(name="artifacts", artifacts=(SLEEPER,)),
        Step(
            name="identity",
            users=("sleeper",),
            secret_files=(
                SecretFile(path=SECRET, source=PrivateKey("m"), owner="sleeper:sleeper"),
            ),
            script="identity",
        ),
        Step(
            name="runtime",
            packages=("openssl",),
            files=(File(path=SETTINGS, content=f"{FORWARD} = 1\n", mode=0o644),),
            masked=("swap.target",),
            settings={"sysctls": SETTINGS},
        ),
        Step(
            name="sleepers",
            directories=(Directory(path=DATA, mode=0o700, owner="sleeper:sleeper"),),
            files=(File(path=CONFIGURATION, content="quietly\n"),),
            links=(SLEEPER.command, Link(path="/opt/sleeper", target=DATA)),
            units=(_unit("one.service", CONFIGURATION), _unit("two.service", SECRET)),
        ),
    ),
)
ONE, TWO = "/etc/systemd/system/one.service", "/etc/systemd/system/two.service"


def material(source: Source) -> str:
    assert source == PrivateKey("m")
    return KEY


def _contents() -> Contents:
    planned = contents(PLAN, material)
    # What the real step's script does with its settings.
    return replace(
        planned,
        steps=tuple(
            replace(step, line=f"{step.line} && sysctl --quiet --load={SETTINGS}")
            if step.name == "runtime"
            else step
            for step in planned.steps
        ),
    )


class SleepersMachine(GuardedMachine):
    """The machine of this plan."""

    def __init__(self, container: Container) -> None:
        super().__init__(container, _contents(), secret_digests(PLAN, material))

    def running(self) -> Mapping[str, str]:
        """Service to a number that changes with every start."""
        return {unit["Id"]: unit["InvocationID"] for unit in self.container.shown(*SERVICES)}

    def started(self) -> Mapping[str, str]:
        return self.container.settled(*SERVICES)

    def state(self) -> Mapping[str, str]:
        return self.container.snapshot("/etc", "/usr/local", "/var/lib/hardway", "/var/lib/sleeper")


@pytest.fixture(scope="module")
def machine(memory: Memory) -> Iterator[SleepersMachine]:
    def furnish(root: Path) -> None:
        quiet(root)
        for content in (PROGRAM, OLDER):
            file = root / stored(content)[1:]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o555)

    with Container(memory, prepare=furnish) as container:
        made = SleepersMachine(container)
        made.mend()
        yield made


def test_everything_is_brought_about_and_a_clean_machine_has_no_drift(
    machine: SleepersMachine,
) -> None:
    before = machine.state(), machine.started()
    assert machine.drift() == {}
    machine.mend()
    assert machine.steps == []
    assert (machine.state(), machine.started()) == before, "whoever looks changes nothing"


@dataclass(frozen=True, kw_only=True)
class ContainerDrift:
    """What somebody does to a machine, and what is told of it."""

    done: str
    differences: Mapping[str, str]
    """Key to what is observed, or to words of it."""
    steps: tuple[str, ...]
    """What mends it."""
    restarts: tuple[str, ...] = ()


PRELUDE = f"{library.PLACE}/{library.FOLDER.name}/prelude.sh"
RESTART = "systemctl restart one.service"

DRIFTS = {
    "a changed file": ContainerDrift(
        done=f"echo loudly >>{CONFIGURATION}",
        differences={f"file {CONFIGURATION}": f"sha256:{LOUDLY} 0600 root:root"},
        steps=("sleepers",),
    ),
    "a changed script of the steps, and a file that a step mends": ContainerDrift(
        done=f"echo 'exit 1' >>{PRELUDE}; echo loudly >>{CONFIGURATION}",
        differences={
            f"file {PRELUDE}": "0644 root:root",
            f"file {CONFIGURATION}": f"sha256:{LOUDLY} 0600 root:root",
        },
        steps=("sleepers",),
    ),
    "a lost script of the steps": ContainerDrift(
        done=f"rm {PRELUDE}", differences={f"file {PRELUDE}": "missing"}, steps=()
    ),
    "a changed file that a service was started with": ContainerDrift(
        done=f"echo loudly >>{CONFIGURATION}; {RESTART}",
        differences={
            f"file {CONFIGURATION}": "sha256:",
            "service one.service": f"started with this {CONFIGURATION}",
        },
        steps=("sleepers",),
        restarts=("one.service",),
    ),
    "settings beside a unit": ContainerDrift(
        done="mkdir /etc/systemd/system/one.service.d; cd /etc/systemd/system/one.service.d; "
        f"printf '[Service]\\nNice=5\\n' >nice.conf; systemctl daemon-reload; {RESTART}",
        differences={"service one.service": f"with settings of {ONE}.d/nice.conf"},
        steps=("sleepers",),
        restarts=("one.service",),
    ),
    "a changed unit file": ContainerDrift(
        done=f"echo '# by hand' >>{ONE}",
        differences={f"file {ONE}": "sha256:", "service one.service": "systemd has not read"},
        steps=("sleepers",),
    ),
    "a changed unit file that its service was started with": ContainerDrift(
        done=f"sed -i 's/^Description.*/Description=other/' {ONE}; systemctl daemon-reload; "
        f"{RESTART}",
        differences={f"file {ONE}": "sha256:", "service one.service": f"started with this {ONE}"},
        steps=("sleepers",),
        restarts=("one.service",),
    ),
    "a replaced artifact": ContainerDrift(
        # What is fetched else is here what an earlier run left of it.
        done=f"cp {stored(PROGRAM)} {STORE}/sleeper.{digest(PROGRAM)}.part; "
        f"cp {stored(OLDER)} /srv/new; chmod 0555 /srv/new; mv /srv/new {stored(PROGRAM)}",
        differences={
            "artifact sleeper 2": f"sha256:{digest(OLDER)} 0555 root:root",
            "service one.service": "(deleted)",
            "service two.service": "(deleted)",
        },
        steps=("artifacts", "sleepers"),
        restarts=("one.service", "two.service"),
    ),
    "a link to another version": ContainerDrift(
        done=f"ln -sfn {stored(OLDER)} /usr/local/bin/sleeper",
        differences={"link /usr/local/bin/sleeper": f"-> {stored(OLDER)}"},
        steps=("sleepers",),
    ),
    "an older program that still runs": ContainerDrift(
        done=f"ln -sfn {stored(OLDER)} /usr/local/bin/sleeper; {RESTART}; "
        f"ln -sfn {stored(PROGRAM)} /usr/local/bin/sleeper",
        differences={"service one.service": f"enabled, runs {stored(OLDER)}"},
        steps=("sleepers",),
        restarts=("one.service",),
    ),
    "keys and what is started with them": ContainerDrift(
        # The service cannot start before both are right again.
        done=f"echo another >{SECRET}; rm /usr/local/bin/sleeper; echo loudly >>{CONFIGURATION}; "
        "systemctl stop two.service",
        differences={
            f"file {SECRET}": "other content",
            f"file {CONFIGURATION}": f"sha256:{LOUDLY}",
            "link /usr/local/bin/sleeper": "missing",
            "service two.service": "enabled, stopped",
        },
        steps=("identity", "sleepers"),
        restarts=("two.service",),
    ),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_a_drift_is_told_and_exactly_it_is_mended(machine: SleepersMachine, name: str) -> None:
    drift = DRIFTS[name]
    machine.started()
    before = machine.state()
    machine.shell(drift.done)
    differences = machine.drift()
    assert differences.keys() == drift.differences.keys(), [
        difference.sentence for difference in differences.values()
    ]
    for key, phrase in drift.differences.items():
        assert phrase in differences[key].observed
    running = machine.running()
    machine.mend()
    assert tuple(dict.fromkeys(machine.steps)) == drift.steps
    assert machine.drift() == {}
    after = machine.started()
    assert {unit for unit in after if after[unit] != running[unit]} == set(drift.restarts)
    after_all = {path for path, what in machine.state().items() if before.get(path) != what}
    own = ("/var/lib/hardway/store/verified/", "/var/lib/hardway/steps/")
    assert not {path for path in after_all if not path.startswith(own)}


def test_a_role_that_is_still_there_is_taken_away_once_it_was_seen(
    machine: SleepersMachine,
) -> None:
    """In the update in which a role leaves, its step leaves last."""
    machine.started()
    before = machine.state()
    machine.shell(
        "echo left >/etc/left; echo 'file /etc/left' >/var/lib/hardway/applied/node\n"
        f"echo '{' '.join(step.name for step in PLAN.steps)}' >/var/lib/hardway/plan\n"
    )
    differences = machine.drift()
    assert {key: difference.observed for key, difference in differences.items()} == {
        "role node": THERE
    }
    machine.mend()
    assert machine.drift().keys() == differences.keys()
    machine.mend(seen=differences)
    assert machine.drift() == {}
    machine.shell("rm /var/lib/hardway/plan")
    assert machine.state() == before


def test_what_somebody_else_writes_is_no_drift(machine: SleepersMachine) -> None:
    for foreign in FOREIGN_FILES:
        path = foreign.paths.replace("*", "somebodys")
        machine.shell(f"mkdir -p {Path(path).parent}; echo other >>{path}")
    assert machine.drift() == {}


def test_a_service_in_the_middle_of_its_restart_is_not_taken_for_stopped(
    machine: SleepersMachine,
) -> None:
    settings = "/run/systemd/system/one.service.d/slow.conf"
    machine.shell(
        f"mkdir -p {Path(settings).parent}; printf '[Service]\nExecStop=sleep 5\n' >{settings}\n"
        "systemctl daemon-reload; systemctl --no-block restart one.service\n"
        "until systemctl show --property ActiveState one.service | grep deactivating; do :; done"
    )
    differences = machine.drift()
    machine.shell(f"rm {settings}; systemctl daemon-reload")
    assert differences["service one.service"].observed == (
        f"enabled, runs {stored(PROGRAM)}, with settings of {settings}"
    )
    machine.started()
    assert machine.drift() == {}


def test_a_service_that_does_not_stay_up_is_told_by_drift_and_by_a_condition(
    machine: SleepersMachine,
) -> None:
    """Whatever its state is at the moment: systemd starts it every two seconds."""
    machine.started()
    check = Services(machines=(NODE,))

    def sentence() -> str:
        try:
            asyncio.run(demand_services(check, machine))  # type: ignore[arg-type]
        except Unmet as unmet:
            return str(unmet)
        return ""

    assert sentence() == ""
    machine.shell(
        "touch /run/ending; { while [ -e /run/ending ]; do "
        "systemctl kill --signal KILL one.service; sleep 0.2; done; } >/dev/null 2>&1 &"
    )
    try:
        eventually("it was started again", lambda: "service one.service" in machine.drift())
        drift = machine.drift()
        assert {key: difference.observed for key, difference in drift.items()} == {
            "service one.service": f"enabled, {RESTARTS}"
        }
        message = sentence()
        assert message.startswith(f"one.service of {NODE} is started again and again (")
        assert "two.service" not in message
    finally:
        machine.shell("rm /run/ending")
    # Its number of restarts stays, and it runs.
    machine.started()
    eventually("it is over", lambda: machine.drift() == {})
    assert sentence() == ""
    machine.shell("systemctl stop one.service")
    assert sentence() == f"one.service of {NODE} does not run (inactive)"
    machine.mend()
    assert sentence() == ""


def test_an_artifact_that_was_not_touched_is_not_read(machine: SleepersMachine) -> None:
    path = stored(PROGRAM)
    mark = machine.container.read(f"{STORE}/verified/{digest(PROGRAM)}")
    assert mark.split()[0] == str(len(PROGRAM))
    # Other bytes of the same size and time are not seen, which is the price and the proof.
    machine.shell(
        f"cp --preserve {path} /srv/kept; systemctl stop one.service two.service\n"
        f"printf x | dd of={path} bs=1 seek=100 conv=notrunc status=none\n"
        f"touch --reference /srv/kept {path}"
    )
    differences = machine.drift()
    machine.shell(f"cp --preserve /srv/kept {path}.new; mv {path}.new {path}")
    assert "artifact sleeper 2" not in differences
    machine.mend()
