"""Which of a cluster's keys machines have, asked by a process of its own over real SSH."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lab.paths import PROJECT
from probe import kept_files
from probe.access import Access
from probe.kept_files import KeptFiles
from tests.engine.sshd import MakeSshd, Sshd
from tests.ports import free_port
from tests.probe.machine import access, behind, jump_host

pytestmark = pytest.mark.engine


def asked(opened: Access, *paths: Path) -> dict[str, KeptFiles]:
    """The answer of a process whose command line has no key."""
    done = subprocess.run(
        [sys.executable, "-m", "probe.kept_files"],
        cwd=PROJECT,
        input=kept_files.question(opened, {node: [*map(str, paths)] for node in opened.machines}),
        capture_output=True,
        text=True,
        check=True,
    )
    return kept_files.answer(done.stdout)


def test_files_that_are_there_have_their_digest_and_others_have_none(
    sshd: Sshd, tmp_path: Path
) -> None:
    there, odd = tmp_path / "ca.crt", tmp_path / "a name\twith  blanks"
    there.write_bytes(b"a certificate\n")
    odd.write_bytes(b"")
    (tmp_path / "folder").mkdir()
    answer = asked(access(m1=sshd), there, odd, tmp_path / "none", tmp_path / "folder")
    assert answer == {
        "m1": KeptFiles(
            digests={
                str(there): hashlib.sha256(b"a certificate\n").hexdigest(),
                str(odd): hashlib.sha256(b"").hexdigest(),
            }
        )
    }


def test_a_machine_behind_a_jump_host_is_asked(make_sshd: MakeSshd, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(b"a certificate\n")
    machine, bastion = make_sshd(), make_sshd()
    opened = behind(machine, bastion)
    machine.start()
    bastion.start()
    (files,) = asked(opened, file).values()
    assert files.digests.keys() == {str(file)}


def test_each_machine_that_is_not_asked_says_why(sshd: Sshd, make_sshd: MakeSshd) -> None:
    opened = access(m1=sshd, m2=sshd, m3=sshd)
    machines = {
        **opened.machines,
        "m2": replace(opened.machines["m2"], port=free_port()),
        "m3": replace(opened.machines["m3"], host_key=jump_host(make_sshd()).host_key),
    }
    answer = asked(replace(opened, machines=machines), Path("/etc/passwd"))
    assert answer["m1"].fault is None
    assert "m2" in str(answer["m2"].fault)
    assert not answer["m2"].refused
    assert "another SSH host key" in str(answer["m3"].fault)
    assert answer["m3"].refused


def test_a_machine_that_was_installed_anew_is_asked_by_the_person(
    sshd: Sshd, make_sshd: MakeSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person's key lies where ssh looks for it; the stack's is another one."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    person = home / ".ssh" / "id_ed25519"
    person.write_bytes((sshd.directory / "client_key").read_bytes())
    person.chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    opened = replace(access(m1=sshd), ssh_key=access(m1=make_sshd()).ssh_key)
    paths = {"m1": ["/etc/passwd"]}
    for by_person, refused in (([], True), (["m1"], False)):
        done = subprocess.run(
            [sys.executable, "-m", "probe.kept_files"],
            cwd=PROJECT,
            input=kept_files.question(opened, paths, by_person),
            capture_output=True,
            text=True,
            check=True,
        )
        files = kept_files.answer(done.stdout)["m1"]
        assert files.refused is refused, files
        assert bool(files.digests) is not refused
