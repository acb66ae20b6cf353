"""A machine that exists already becomes a member of a cluster, and is afterwards as it was."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from certs.ssh import new_key_pair
from hypervisors.existing import attachment
from hypervisors.existing.attachment import (
    Attachment,
    NotAttached,
    NotHandedBack,
    attached,
    handed_back,
    identifier_of,
    moved,
)
from plan import library, render
from plan.layout import STATE
from plan.library import script
from plan.model import Step
from probe.access import SshServer
from tests.hypervisors.answering import AnsweringMachine, answering
from tests.hypervisors.history import READY, bring, differing, home, listing, machine
from tests.plan.conftest import memory, new_machine
from tests.plan.container import Container
from tests.plan.inline import functions
from tests.ports import free_port

__all__ = ["home", "machine", "memory", "new_machine"]

pytestmark = pytest.mark.container

CLUSTER = new_key_pair()
OTHER = new_key_pair()


def member(there: AnsweringMachine, **changes: object) -> Attachment:
    whole = Attachment(
        cluster="dev",
        machine="m1",
        access=there.access("admin"),
        public_key=CLUSTER.public,
        private_key=CLUSTER.private,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_a_machine_that_is_handed_back_is_as_it_was(machine: AnsweringMachine) -> None:
    container, mine = machine.container, member(machine)
    before = listing(container)
    identifier = attached(mine)
    assert identifier == container.read("/etc/machine-id").strip()
    assert attached(mine) == identifier, "and once more"
    assert identifier_of(mine) == identifier
    bring(container)
    assert container.read("/etc/theirs") == "ours\n"
    assert container.read("/etc/resolv.conf") == "nameserver 192.0.2.53\n"
    changed = differing(before, listing(container))
    assert {"users", "groups", "masked.service is", "runs", "/etc/x/key"} <= changed.keys()
    messages: list[str] = []
    handed_back(mine, messages.append)
    assert messages == []
    assert differing(before, listing(container)) == {}
    assert not container.path(STATE).exists()
    handed_back(mine, messages.append)
    (warning,) = messages
    assert "does not let admin in with the stack's SSH key; it is forgotten" in warning


def test_it_may_be_cut_off_at_any_command_and_run_again(machine: AnsweringMachine) -> None:
    container, mine = machine.container, member(machine)
    before = listing(container)
    attached(mine)
    bring(container)
    count = container.commands(attachment._detaching(mine))
    assert differing(before, listing(container)) == {}
    for cut in range(5, count, count // 12):
        attached(mine)
        bring(container)
        assert container.run(attachment._detaching(mine), command=cut).returncode < 0
        done = container.run(attachment._detaching(mine))
        assert (done.returncode, done.stderr) == (0, ""), cut
        assert differing(before, listing(container)) == {}, cut


@pytest.mark.parametrize("earlier", [False, True])
def test_a_folder_that_was_empty_is_empty_again(
    machine: AnsweringMachine, *, earlier: bool
) -> None:
    """Such as a mount point, or what ``kubeadm reset`` leaves; an earlier program noted none."""
    container, mine = machine.container, member(machine)
    folders = ("/var/lib/kubelet", "/var/lib/etcd", "/var/lib/cni")
    for folder in folders:
        container.call("install", "-d", "-m", "0750", folder)
    container.call("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/var/lib/kubelet")
    container.call("mkdir", "/var/lib/etcd/lost+found")
    container.write("/var/lib/cni/theirs", "x\n")
    before = listing(container)
    attached(mine)
    if earlier:
        container.path(f"{STATE}/before/empty").unlink()
    bring(container)
    for folder in folders:
        container.write(f"{folder}/pods/.data", "y\n")
    container.call("mount", "-t", "tmpfs", "tmpfs", "/var/lib/kubelet/pods")
    container.call("chmod", "0700", "/var/lib/kubelet")
    messages: list[str] = []
    handed_back(mine, messages.append)
    assert messages == []
    added = differing(before, listing(container)).keys()
    left = folders if earlier else ("/var/lib/cni",)
    files = {f"{folder}{end}" for folder in left for end in ("/pods", "/pods/.data")}
    assert added == files - {"/var/lib/kubelet/pods/.data"}, "which was in another file system"


def test_settings_beside_a_unit_are_in_force_again_and_not_meanwhile(
    machine: AnsweringMachine,
) -> None:
    container, mine = machine.container, member(machine)
    before = listing(container)
    folder = "/etc/systemd/system/theirs.service.d"

    def environment() -> str:
        return container.call("systemctl", "show", "theirs.service", "--property=Environment")

    assert environment() == "Environment=OF=THEIRS\n"
    attached(mine)
    bring(container)
    assert not container.path(folder).exists()
    assert environment() == "Environment=\n"
    container.write(f"{folder}/since.conf", "[Service]\nEnvironment=SINCE=1\n")
    bring(container)
    assert container.path(f"{folder}/since.conf").exists(), "which is drift"
    mended = f"set -- theirs.service -- --\n{script('mend')}"
    assert container.run(mended).returncode == 0
    assert not container.path(folder).exists()
    handed_back(mine, lambda _: None)
    assert differing(before, listing(container)) == {}
    assert environment() == "Environment=OF=THEIRS\n"


def test_a_role_that_leaves_puts_back_what_was_there(machine: AnsweringMachine) -> None:
    container = machine.container
    before = listing(container)
    attached(member(machine))
    bring(container)
    done = container.run(f"echo ready >{STATE}/plan\n{render.leaving('role')}\n")
    assert (done.returncode, done.stderr) == (0, "")
    left = differing(before, listing(container))
    assert "/etc/theirs" not in left
    assert "runs" not in left
    assert "masked.service is" not in left
    assert {"users", "/etc/resolv.conf"} <= left.keys(), "what stays with the machine"


def test_what_two_clusters_want_stays_with_the_first(machine: AnsweringMachine) -> None:
    attached(member(machine))
    keys = machine.container.read("/home/admin/.ssh/authorized_keys")
    for second, whose in (
        (member(machine, cluster="lab2", public_key=OTHER.public), "m1 of the cluster dev"),
        (member(machine, machine="m2"), "m1 of the cluster dev"),
    ):
        with pytest.raises(NotAttached, match=f"this machine is {whose} already"):
            attached(second)
    assert machine.container.read("/home/admin/.ssh/authorized_keys") == keys


def test_a_person_without_a_key_and_a_user_without_rights_are_told(
    machine: AnsweringMachine, home: Path
) -> None:
    container = machine.container
    container.write("/etc/sudoers.d/admin", "admin ALL=(ALL:ALL) ALL\n", 0o440)
    with pytest.raises(NotAttached, match="sudo refuses root's rights to admin without"):
        attached(member(machine))
    (home / ".ssh/id_ed25519").unlink()
    with pytest.raises(NotAttached) as caught:
        attached(member(machine))
    assert "does not let admin in with your own SSH keys (an agent's and ~/.ssh" in str(
        caught.value
    )
    assert not container.path(STATE).exists()


def test_another_user_logs_in_from_now_on_and_the_first_no_more(
    machine: AnsweringMachine, home: Path
) -> None:
    container, mine = machine.container, member(machine)
    identifier = attached(mine)
    machine.let_in("root", (home / ".ssh/id_ed25519.pub").read_text().strip())
    by_root = member(machine, access=machine.access("root"))
    moved(mine, by_root, identifier)
    assert "hardway:dev" not in container.read("/home/admin/.ssh/authorized_keys")
    assert identifier_of(by_root) == identifier
    with pytest.raises(NotAttached, match="is another machine now"):
        moved(by_root, mine, "0" * 32)


def test_a_machine_that_is_gone_is_forgotten(
    machine: AnsweringMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachment, "ATTEMPTS", 2)
    monkeypatch.setattr(attachment, "PAUSE", 0)
    gone = member(machine, access=replace(machine.access("admin"), port=free_port()))
    messages: list[str] = []
    handed_back(gone, messages.append)
    (warning,) = messages
    assert warning.startswith("warning: m1 (127.0.0.1 port ")
    assert "it is forgotten, and what the cluster brought there stays" in warning


def test_a_machine_whose_user_became_root_before_and_may_not_now_is_not_forgotten(
    machine: AnsweringMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachment, "ATTEMPTS", 2)
    monkeypatch.setattr(attachment, "PAUSE", 0)
    container, mine = machine.container, member(machine)
    rule = container.read("/etc/sudoers.d/admin")
    attached(mine)
    container.write("/etc/sudoers.d/admin", "admin ALL=(ALL:ALL) ALL\n", 0o440)
    messages: list[str] = []
    with pytest.raises(NotHandedBack) as caught:
        handed_back(mine, messages.append)
    assert "m1: sudo refuses root's rights to admin without a password" in str(caught.value)
    assert str(caught.value).endswith("mend that and run the same again")
    container.write("/etc/sudoers.d/admin", rule, 0o440)
    handed_back(mine, messages.append)
    assert messages == []
    assert not container.path(STATE).exists()


def test_a_machine_that_lost_the_clusters_key_is_handed_back_by_the_persons(
    machine: AnsweringMachine, home: Path
) -> None:
    container, mine = machine.container, member(machine)
    before = listing(container)
    attached(mine)
    bring(container)
    machine.let_in("admin", (home / ".ssh/id_ed25519.pub").read_text().strip())
    messages: list[str] = []
    handed_back(member(machine, machine="m2"), messages.append)
    handed_back(member(machine, cluster="lab2", public_key=OTHER.public), messages.append)
    assert ["it is forgotten" in warning for warning in messages] == [True, True]
    assert container.path(STATE).exists(), "of another cluster's member nothing is taken away"
    handed_back(mine, messages.append)
    assert len(messages) == 2
    assert differing(before, listing(container)) == {}
    assert not container.path(STATE).exists()


def test_a_hand_back_that_fails_is_no_hand_back(machine: AnsweringMachine) -> None:
    container, mine = machine.container, member(machine)
    attached(mine)
    bring(container)
    container.call("mount", "--bind", "/etc/theirs", "/etc/theirs")
    with pytest.raises(NotHandedBack, match="m1 cannot be handed back"):
        handed_back(mine, lambda _: None)
    assert identifier_of(mine) is not None
    container.call("umount", "/etc/theirs")
    handed_back(mine, lambda _: None)
    assert not container.path(STATE).exists()


REPOSITORY = """
rm -rf /srv/apt && mkdir -p /srv/apt && cd /srv/apt
package() {
    mkdir -p "$1/DEBIAN"
    printf '%s\\n' "Package: $1" 'Version: 1' 'Architecture: all' 'Description: sample' \\
        'Maintainer: nobody <nobody@example.com>' "$2" | sed '/^$/d' >"$1/DEBIAN/control"
    dpkg-deb --build "$1" "$1.deb" >/dev/null
    cat "$1/DEBIAN/control"
    echo "Filename: ./$1.deb"
    echo "Size: $(stat -c %s "$1.deb")"
    echo "SHA256: $(sha256sum "$1.deb" | cut -d ' ' -f 1)"
    echo
}
{
    package library ''
    package wanted 'Depends: library'
    package mine ''
    package needs-library 'Depends: library'
} >Packages
rm -f /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list
apt-get update >/dev/null && apt-get install --yes mine >/dev/null 2>&1
"""


def packages(container: Container) -> set[str]:
    return set(container.call("dpkg-query", "--show", "--showformat", "${Package} ").split())


@pytest.mark.parametrize("needed", [False, True])
def test_packages_that_the_cluster_brought_go_unless_others_need_them(
    machine: AnsweringMachine, *, needed: bool
) -> None:
    container, mine = machine.container, member(machine)
    done = container.run(REPOSITORY)
    assert done.returncode == 0, done.stderr
    before = packages(container)
    attached(mine)
    assert container.run(library.laid_down()).returncode == 0
    step = Step(name="role", packages=("mine", "wanted"))
    assert container.run(render.text(step)).returncode == 0
    assert packages(container) - before == {"wanted", "library"}
    if needed:
        container.call("apt-get", "install", "--yes", "needs-library")
    messages: list[str] = []
    handed_back(mine, messages.append)
    if needed:
        assert messages == ["m1: these packages stay, since others need them: library"]
        assert packages(container) - before == {"library", "needs-library"}
    else:
        assert messages == []
        assert packages(container) == before


def test_settings_that_a_step_changed_are_as_before(machine: AnsweringMachine) -> None:
    container, mine = machine.container, member(machine)
    key = "net.ipv4.tcp_keepalive_time"
    attached(mine)
    container.write(f"{STATE}/before/settings", f"{key} = 7100\n")
    container.call("sysctl", "--write", f"{key}=60")
    handed_back(mine, lambda _: None)
    assert container.call("sysctl", "--values", key) == "7100\n"


FORWARD, REDIRECTS = "net.ipv4.ip_forward", "net.ipv4.conf.all.accept_redirects"
NOTE_SETTINGS = re.search(
    r"^note_settings\(\) \{.*?^\}\n", script("runtime"), re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize("redirects", ["0", "1"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_machine_that_forwards_no_more_takes_redirects_as_before(
    machine: AnsweringMachine, redirects: str, *, earlier: bool
) -> None:
    """The kernel changes the second with the first; an earlier program noted the first alone."""
    container, mine = machine.container, member(machine)
    container.call("sysctl", "--write", f"{FORWARD}=0", f"{REDIRECTS}={redirects}")
    attached(mine)
    if earlier:
        container.write(f"{STATE}/before/settings", f"{FORWARD} = 0\n")
    container.write("/run/sysctls", f"{FORWARD} = 1\n")
    assert NOTE_SETTINGS
    text = f"{functions('prelude')}\n{NOTE_SETTINGS[0]}\nsysctls=/run/sysctls\nnote_settings\n"
    for _ in range(2):
        done = container.run(f"{text}sysctl --quiet --load=$sysctls\n")
        assert (done.returncode, done.stderr) == (0, "")
    assert container.call("sysctl", "--values", FORWARD, REDIRECTS) == "1\n0\n"
    noted = container.read(f"{STATE}/before/settings")
    assert (f"{REDIRECTS} = {redirects}\n" in noted) is not earlier
    assert noted.count(REDIRECTS) == (not earlier)
    handed_back(mine, lambda _: None)
    after = "1" if earlier else redirects
    assert container.call("sysctl", "--values", FORWARD, REDIRECTS) == f"0\n{after}\n"


def test_the_size_of_packets_is_as_before(machine: AnsweringMachine) -> None:
    container, mine = machine.container, member(machine)
    for command in (
        "ip link add name lan0 mtu 1450 type bridge",
        "ip address add 198.51.100.7/24 dev lan0",
        "ip link set dev lan0 up",
    ):
        container.call(*command.split(" "))
    for made in ("1450", "never"):
        attached(mine)
        bring(container)
        settings = dict(READY.settings) | {"packet_size": "198.51.100.7 1400"}
        assert container.run(render.text(replace(READY, settings=settings))).returncode == 0
        assert container.read("/sys/class/net/lan0/mtu") == "1400\n"
        if made == "never":
            container.write(f"{STATE}/packet-size-before", "lan0 7\n")
        messages: list[str] = []
        handed_back(mine, messages.append)
        if made == "never":
            (message,) = messages
            assert message.startswith("m1: lan0 does not send packets of 7 bytes again: ")
        else:
            assert (messages, container.read("/sys/class/net/lan0/mtu")) == ([], "1450\n")
        assert not container.path(STATE).exists()


def test_a_machine_that_was_installed_anew_is_refused_as_it_is(
    machine: AnsweringMachine, home: Path
) -> None:
    container, mine = machine.container, member(machine)
    machine.let_in("root", (home / ".ssh/id_ed25519.pub").read_text().strip())
    before = listing(container)
    by_root = member(machine, access=machine.access("root"))
    with pytest.raises(NotAttached, match="m1 is another machine now"):
        moved(mine, by_root, "0" * 32)
    assert differing(before, listing(container)) == {}
    assert not container.path(STATE).exists()


@contextmanager
def jump_host(
    jump: Container, home: Path, folder: Path
) -> Iterator[tuple[SshServer, Callable[[], str]]]:
    """A jump host that lets the person through, and what reads its list of keys."""
    jump.call("useradd", "--create-home", "--password", "*", "--shell", "/bin/sh", "jump")
    # It passes connections on to this computer's loopback, where the machine answers.
    with answering(jump, folder, namespaces=("--mount", "--uts", "--ipc", "--pid")) as bastion:
        bastion.let_in("jump", (home / ".ssh/id_ed25519.pub").read_text().strip())
        at = bastion.access("jump")
        through = SshServer(address=at.address, port=at.port, user=at.user, host_key=at.host_key)
        yield through, lambda: jump.read("/home/jump/.ssh/authorized_keys")


def test_a_machine_that_refuses_leaves_no_line_on_its_jump_host(
    machine: AnsweringMachine, new_machine: Callable[..., Container], home: Path, tmp_path: Path
) -> None:
    container = machine.container
    keys = "/home/admin/.ssh/authorized_keys"
    with jump_host(new_machine(), home, tmp_path) as (through, passing):
        mine = member(machine, access=replace(machine.access("admin"), bastion=through))
        first = passing()
        container.write(f"{STATE}/cluster", f"lab2 m7 {OTHER.public}\n")
        files, lets_in = container.snapshot(STATE), container.read(keys)
        with pytest.raises(NotAttached, match="this machine is m7 of the cluster lab2 already"):
            attached(mine)
        assert (container.snapshot(STATE), container.read(keys)) == (files, lets_in)
        assert passing() == first
        # Where the cluster's key alone opens the machine, it has to pass before it can ask.
        machine.let_in("admin", CLUSTER.public)
        with pytest.raises(NotAttached, match="this machine is m7 of the cluster lab2 already"):
            attached(mine)
        assert container.snapshot(STATE) == files
        assert passing() == first
        container.path(f"{STATE}/cluster").unlink()
        identifier = attached(mine)
        line = passing().removeprefix(first)
        assert line == f"restrict,port-forwarding {CLUSTER.public} hardway:dev:m1\n"
        container.write(f"{STATE}/cluster", f"lab2 m7 {OTHER.public}\n")
        with pytest.raises(NotAttached):
            attached(mine)
        assert passing() == first + line, "what was there before stays"
        container.write(f"{STATE}/cluster", f"{mine.member}\n")
        assert attached(mine) == identifier


def test_a_hand_back_that_was_cut_off_takes_the_line_on_the_jump_host_away_later(
    machine: AnsweringMachine, new_machine: Callable[..., Container], home: Path, tmp_path: Path
) -> None:
    with jump_host(new_machine(), home, tmp_path) as (through, passing):
        mine = member(machine, access=replace(machine.access("admin"), bastion=through))
        first = passing()
        attached(mine)
        assert machine.container.run(attachment._detaching(mine)).returncode == 0
        assert passing() != first
        messages: list[str] = []
        handed_back(mine, messages.append)
        assert passing() == first
        (warning,) = messages
        assert "it is forgotten" in warning


@pytest.mark.parametrize("forced", ["/usr/sbin/nologin", "/bin/true"])
def test_a_jump_host_without_commands_lets_keys_through_that_its_owner_wrote(
    machine: AnsweringMachine,
    new_machine: Callable[..., Container],
    home: Path,
    tmp_path: Path,
    forced: str,
) -> None:
    jump, container = new_machine(), machine.container
    with jump_host(jump, home, tmp_path) as (through, passing):
        configuration = jump.read("/etc/ssh/test_config")
        jump.write("/etc/ssh/test_config", f"{configuration}ForceCommand {forced}\n")
        mine = member(machine, access=replace(machine.access("admin"), bastion=through))
        first, before = passing(), listing(container)
        line = f"restrict,port-forwarding {CLUSTER.public} hardway:dev:m1"
        with pytest.raises(NotAttached) as caught:
            attached(mine)
        assert "does not change its list of keys" in str(caught.value)
        assert f"add to the list there: {line};" in str(caught.value)
        assert differing(before, listing(container)) == {}
        jump.path("/home/jump/.ssh/authorized_keys").write_text(f"{first}{line}\n")
        attached(mine)
        messages: list[str] = []
        handed_back(mine, messages.append)
        (warning,) = messages
        assert warning.startswith("warning: the jump host (127.0.0.1 port ")
        assert f"take it out: {line}" in warning
        assert "forgotten" not in warning
        assert not container.path(STATE).exists()


def test_a_jump_host_lets_the_clusters_key_through_as_long_as_the_machine_is_a_member(
    machine: AnsweringMachine, new_machine: Callable[..., Container], home: Path, tmp_path: Path
) -> None:
    jump, person = new_machine(), (home / ".ssh/id_ed25519.pub").read_text().strip()
    jump.call("useradd", "--create-home", "--password", "*", "--shell", "/bin/sh", "jump")
    # It passes connections on to this computer's loopback, where the machine answers.
    with answering(jump, tmp_path, namespaces=("--mount", "--uts", "--ipc", "--pid")) as bastion:
        bastion.let_in("jump", person)
        keys = "/home/jump/.ssh/authorized_keys"
        at = bastion.access("jump")
        through = SshServer(address=at.address, port=at.port, user=at.user, host_key=at.host_key)
        mine = member(machine, access=replace(machine.access("admin"), bastion=through))
        attached(mine)
        line = f"restrict,port-forwarding {CLUSTER.public} hardway:dev:m1"
        assert jump.read(keys).splitlines() == [person, line]
        assert identifier_of(mine) is not None
        direct = member(machine, access=machine.access("admin"))
        moved(mine, direct, machine.container.read("/etc/machine-id").strip())
        assert jump.read(keys).splitlines() == [person], "the way without a jump host"
        attached(mine)
        handed_back(mine, lambda _: None)
        assert jump.read(keys).splitlines() == [person]
        assert not machine.container.path(STATE).exists()


def test_clusters_of_one_name_share_a_jump_host(
    machine: AnsweringMachine, new_machine: Callable[..., Container], home: Path, tmp_path: Path
) -> None:
    """Two people may each have a cluster dev with a machine m1 behind the same jump host."""
    jump, person = new_machine(), (home / ".ssh/id_ed25519.pub").read_text().strip()
    jump.call("useradd", "--create-home", "--password", "*", "--shell", "/bin/sh", "jump")
    with answering(jump, tmp_path, namespaces=("--mount", "--uts", "--ipc", "--pid")) as bastion:
        colleagues = f"restrict,port-forwarding {OTHER.public} hardway:dev:m1"
        bastion.let_in("jump", f"{person}\n\n# of colleagues\n{colleagues}")
        file = "/home/jump/.ssh/authorized_keys"
        theirs = jump.read(file)
        at = bastion.access("jump")
        through = SshServer(address=at.address, port=at.port, user=at.user, host_key=at.host_key)
        mine = member(machine, access=replace(machine.access("admin"), bastion=through))
        identifier = attached(mine)
        next_key = new_key_pair()
        both = replace(mine, others=(next_key,))
        next_alone = replace(mine, public_key=next_key.public, private_key=next_key.private)
        first, second = (
            f"restrict,port-forwarding {pair.public} hardway:dev:m1\n"
            for pair in (CLUSTER, next_key)
        )
        assert jump.read(file) == theirs + first
        moved(mine, both, identifier)
        assert jump.read(file) == theirs + "".join(sorted((first, second)))
        moved(both, replace(next_alone, others=(CLUSTER,)), identifier)
        moved(replace(next_alone, others=(CLUSTER,)), next_alone, identifier)
        assert jump.read(file) == theirs + second
        handed_back(next_alone, lambda _: None)
        assert jump.read(file) == theirs
