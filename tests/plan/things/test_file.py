"""Files: whole or not at all, in place of whatever is there, and gone with their step."""

from dataclasses import replace

import pytest

from plan.item import digest
from plan.model import Certificate, Directory, File, Link, SecretFile, Step
from tests.plan.container import Container
from tests.plan.things.bringing import (
    ROLE,
    STATE,
    Cuts,
    absence_is_observed,
    drift_is_mended,
    guarded,
    leave,
    refused,
    run,
    touched,
)

pytestmark = pytest.mark.container

FILE = File(path="/srv/f/conf", content="new $x `y`\n\\z\n", mode=0o640, owner="root:daemon")
STAGED = "/srv/.conf.hardway"

BEFORE = {
    "nothing": "rm -rf /srv/f",
    "an empty folder": "mkdir -p /srv/f",
    "the file, done": "cp /srv/done /srv/f/conf; chmod 640 /srv/f/conf; chgrp daemon /srv/f/conf",
    "another version": "echo old >/srv/f/conf",
    "nothing in it": ": >/srv/f/conf",
    "another mode": "install -m 0666 -g daemon /srv/done /srv/f/conf",
    "another owner": "install -m 0640 -o nobody -g daemon /srv/done /srv/f/conf",
    "a link to such a file": "install -m 0640 -g daemon /srv/done /srv/f/to; ln -s to /srv/f/conf",
    "a link to a folder": "mkdir /srv/f/to; ln -s to /srv/f/conf",
    "a link to nothing": "ln -s nothing /srv/f/conf",
    "a pipe": "mkfifo /srv/f/conf",
    "a half staged file": f"echo hal >{STAGED}",
    "a staged folder": f"mkdir -p {STAGED}/x",
    "a staged link": f"echo victim >/srv/victim; ln -s victim {STAGED}",
}


@pytest.mark.parametrize("state", BEFORE)
def test_a_file_is_put_in_place_of(machine: Container, state: str) -> None:
    machine.write("/srv/done", FILE.content)
    before = f"rm -rf {STAGED} /srv/f /srv/victim; mkdir /srv/f; {BEFORE[state]}"
    assert machine.run(before).returncode == 0
    run(machine, Step(name="file", files=(FILE,)))
    assert machine.read(FILE.path) == FILE.content
    assert machine.call("stat", "-c", "%F %a %U:%G", FILE.path) == "regular file 640 root:daemon\n"
    assert not machine.path(STAGED).exists()
    assert machine.call("stat", "-c", "%a %U:%G", "/srv/f") == "755 root:root\n"
    if state == "a staged link":
        assert machine.read("/srv/victim") == "victim\n"


def test_a_file_that_is_there_is_not_touched(machine: Container) -> None:
    step = Step(name="file", files=(FILE, replace(FILE, path="/srv/deep/er/conf")))
    run(machine, step)
    before = [touched(machine, file.path) for file in step.files]
    run(machine, step)
    assert before == [touched(machine, file.path) for file in step.files]
    assert machine.call("stat", "-c", "%a", "/srv/deep", "/srv/deep/er") == "755\n755\n"


def test_who_watches_or_reads_sees_whole_files_only(machine: Container) -> None:
    run(machine, Step(name="file", files=(replace(FILE, content="old\n"),)))
    step = Step(
        name="file",
        files=(FILE, replace(FILE, path="/srv/f/more")),
        links=(Link(path="/srv/f/link", target="/x"),),
    )
    with machine.path(FILE.path).open() as reader, machine.watched("/srv/f") as appeared:
        run(machine, step)
        assert reader.read() == "old\n"
        assert appeared() == ["conf", "more", "link"]


def test_a_directory_is_not_replaced_by_a_file(machine: Container) -> None:
    machine.write("/srv/dir/kept", "kept")
    assert "/srv/dir is a directory" in refused(
        machine, Step(name="file", files=(replace(FILE, path="/srv/dir"),))
    )
    assert machine.snapshot("/srv/dir").keys() == {"/srv/dir", "/srv/dir/kept"}


def test_a_full_disk_leaves_the_old_file_whole(machine: Container) -> None:
    folder = "/srv/full"
    machine.call("mkdir", folder)
    machine.call("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder)
    run(machine, Step(name="f", files=(File(path=f"{folder}/x", content="old\n"),)))
    step = Step(name="f", files=(File(path=f"{folder}/x", content="new" * 5000 + "\n"),))
    machine.run(f"head -c 60k /dev/zero >{folder}/rest || true")
    assert "No space left" in refused(machine, step)
    assert machine.read(f"{folder}/x") == "old\n"
    machine.path(f"{folder}/rest").unlink()
    run(machine, step)
    assert machine.snapshot(folder).keys() == {folder, f"{folder}/x"}


# -- absent --------------------------------------------------------------------------------------


def test_a_file_goes_with_its_step_and_so_do_the_directories_made_for_it(
    machine: Container,
) -> None:
    deep = File(path="/srv/made/for/it", content="x\n")
    ours = File(path="/etc/modules-load.d/ours.conf", content="overlay\n")
    run(machine, Step(name=ROLE, files=(deep, ours)))
    leave(machine)
    assert not machine.path("/srv/made").exists()
    assert not machine.path(ours.path).exists()
    assert machine.path("/srv").is_dir(), "a package of the distribution has it"
    assert machine.path("/etc/modules-load.d").is_dir(), "a package of the distribution has it"
    leave(machine)


def test_a_file_that_a_newer_text_lacks_goes_and_the_rest_is_not_touched(
    machine: Container,
) -> None:
    step = Step(name=ROLE, files=(FILE, replace(FILE, path="/srv/f/more")))
    run(machine, step)
    before = touched(machine, FILE.path)
    run(machine, replace(step, files=(FILE,)))
    assert not machine.path("/srv/f/more").exists()
    assert touched(machine, FILE.path) == before
    leave(machine)


def test_a_file_of_another_step_stays(machine: Container) -> None:
    shared = File(path="/srv/shared/file", content="x\n")
    run(machine, Step(name="sharer", files=(shared,)))
    run(machine, Step(name=ROLE, files=(shared,)))
    leave(machine)
    assert machine.read(shared.path) == shared.content
    leave(machine, "sharer")
    assert not machine.path("/srv/shared").exists()


def test_a_directory_that_somebody_put_in_place_of_a_file_stays(machine: Container) -> None:
    run(machine, Step(name=ROLE, files=(File(path="/srv/replaced/x", content="x\n"),)))
    machine.path("/srv/replaced/x").unlink()
    machine.write("/srv/replaced/x/mine", "mine\n")
    leave(machine)
    assert machine.read("/srv/replaced/x/mine") == "mine\n"


def test_a_path_that_was_a_secret_is_not_lost_as_a_file(machine: Container) -> None:
    secret = SecretFile(path="/srv/public/x", source=Certificate("x"))
    run(machine, Step(name=ROLE, secret_files=(secret,)), lambda _: "secret\n")
    run(machine, Step(name=ROLE, files=(File(path=secret.path, content="public\n"),)))
    assert machine.read(secret.path) == "public\n"
    leave(machine)
    assert not machine.path(secret.path).exists()


# -- cut off -------------------------------------------------------------------------------------


def test_a_cut_leaves_no_half_of_a_file(machine: Container) -> None:
    folders = ("/srv/cut", "/srv/.a.hardway", "/srv/.b.hardway", f"{STATE}/applied")
    cuts = Cuts(
        machine=machine,
        step=Step(
            name=ROLE,
            directories=(Directory(path="/srv/cut"),),
            files=tuple(
                File(path=f"/srv/cut/{name}", content=f"{name}\n" * 99, owner="daemon:daemon")
                for name in "ab"
            ),
        ),
        before=f"rm -rf {' '.join(folders[:3])} {STATE}/applied/{ROLE}; mkdir /srv/cut; "
        "echo old >/srv/cut/a",
        state=lambda: machine.snapshot(*folders),
    )
    cuts.end_alike()
    cuts.leave_alike()


# -- drift ---------------------------------------------------------------------------------------


MORE = "more\n"


def test_drift_of_a_file_is_observed_and_mended(machine: Container) -> None:
    file = File(path="/srv/drift/conf", content="x\n", mode=0o640, owner="root:daemon")
    key, right = f"file {file.path}", f"sha256:{digest(file.content)}"
    edited = f"sha256:{digest(file.content + MORE)}"
    drift_is_mended(
        guarded(machine, Step(name="drifter", files=(file,))),
        {
            f"rm {file.path}": {key: "missing"},
            "rm -r /srv/drift": {key: "missing"},
            f"echo more >>{file.path}": {key: f"{edited} 0640 root:daemon"},
            f"chmod 600 {file.path}": {key: f"{right} 0600 root:daemon"},
            f"chown daemon:root {file.path}": {key: f"{right} 0640 daemon:root"},
            f"ln -sf /etc/hostname {file.path}": {key: "-> /etc/hostname"},
            f"rm {file.path}; mkfifo {file.path}": {key: "no file"},
        },
    )


def test_a_file_that_should_be_gone_is_observed(machine: Container) -> None:
    step = Step(name=ROLE, files=(File(path="/srv/left/file", content="x\n"),))
    absence_is_observed(machine, step)
    assert not machine.path("/srv/left").exists()
