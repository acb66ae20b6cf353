"""Each word of the prelude in a real machine, from every state that it may find."""

import hashlib
import io
import random
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from plan import health, render
from plan.model import (
    Archive,
    Artifact,
    Certificate,
    Directory,
    File,
    Link,
    Material,
    PrivateKey,
    SecretFile,
    Step,
    Unit,
)
from plan.readyz import WAIT
from tests.engine.stack import eventually
from tests.plan import inline
from tests.plan.container import Container, Memory, quiet
from tests.plan.limited import limited
from tests.plan.mirror import ArtifactServer, mirror

pytestmark = pytest.mark.container

STATE = "/var/lib/hardway"


def run(machine: Container, step: Step, material: Material | None = None) -> None:
    """A step that does its work says nothing."""
    done = machine.run(render.text(step, material))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def refused(machine: Container, step: Step) -> str:
    """What a step says that cannot do its work: its sentence, or that of a program."""
    done = machine.run(render.text(step))
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr.removeprefix("failed: ")


def touched(machine: Container, path: str) -> tuple[int, ...]:
    """What changes of a file whenever somebody writes to it, replaces it or gives it away."""
    found = machine.path(path).lstat()
    return found.st_ino, found.st_ctime_ns, found.st_mtime_ns


def words(text: str) -> str:
    """A script of the prelude's words."""
    return f"{{\n{inline.functions('prelude', before=text)}\n{text}\nexit\n}}\n"


# -- files, links, directories -------------------------------------------------------------------

FILE = File(path="/srv/f/conf", content="new $x `y`\n\\z\n", mode=0o640, owner="root:daemon")
STAGED = "/srv/.conf.hardway"

FOUND = {
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


@pytest.mark.parametrize("found", FOUND)
def test_a_file_is_put_in_place_of(machine: Container, found: str) -> None:
    machine.write("/srv/done", FILE.content)
    before = f"rm -rf {STAGED} /srv/f /srv/victim; mkdir /srv/f; {FOUND[found]}"
    assert machine.run(before).returncode == 0
    run(machine, Step(name="file", files=(FILE,)))
    assert machine.read(FILE.path) == FILE.content
    assert machine.call("stat", "-c", "%F %a %U:%G", FILE.path) == "regular file 640 root:daemon\n"
    assert not machine.path(STAGED).exists()
    assert machine.call("stat", "-c", "%a %U:%G", "/srv/f") == "755 root:root\n"
    if found == "a staged link":
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


PAIRS = Step(
    name="identity",
    secret_files=tuple(
        secret
        for name, owner in (("a", "root:root"), ("b", "daemon:daemon"))
        for secret in (
            SecretFile(path=f"/srv/pki/{name}.key", source=PrivateKey(name), owner=owner),
            SecretFile(path=f"/srv/pki/{name}.crt", source=Certificate(name), mode=0o644),
        )
    ),
    script="identity",
)
OF_PAIRS = [file.path.rpartition("/")[2] for file in PAIRS.secret_files]


def pairs(version: int) -> str:
    return render.text(PAIRS, lambda source: f"{source} {version}\n")


def test_keys_and_certificates_come_into_their_places_in_a_row(machine: Container) -> None:
    """Who reads a pair at each connection refuses all while the two do not fit."""
    assert machine.run(pairs(1)).returncode == 0
    with machine.watched("/srv", "/srv/pki") as appeared:
        assert machine.run(pairs(2)).returncode == 0
        assert appeared() == [".pki.hardway", *OF_PAIRS]
    assert not machine.path("/srv/.pki.hardway").exists()
    modes = machine.call("stat", "-c", "%n %a %U:%G", *(one.path for one in PAIRS.secret_files))
    assert modes.splitlines() == [
        *("/srv/pki/a.key 600 root:root", "/srv/pki/a.crt 644 root:root"),
        *("/srv/pki/b.key 600 daemon:daemon", "/srv/pki/b.crt 644 root:root"),
    ]
    before = [touched(machine, one.path) for one in PAIRS.secret_files]
    assert machine.run(pairs(2)).returncode == 0
    assert [touched(machine, one.path) for one in PAIRS.secret_files] == before


def test_no_cut_leaves_a_key_beside_a_certificate_of_another(machine: Container) -> None:
    assert machine.run(pairs(1)).returncode == 0
    texts = {1: pairs(1), 2: pairs(2)}
    commands, now, seen = machine.commands(texts[2]), 2, set()
    for command in range(1, commands + 1, 2):
        machine.run(texts[3 - now], command=command)
        versions = {machine.read(one.path).split()[-1] for one in PAIRS.secret_files}
        assert len(versions) == 1, f"cut at command {command} of {commands}"
        now = int(versions.pop())
        seen.add(now)
        # Whatever the cut left, the next run clears it away.
        assert machine.run(texts[now]).returncode == 0
        assert not machine.path("/srv/.pki.hardway").exists()
    assert seen == {1, 2}


def test_a_directory_is_not_replaced_by_a_file_or_a_link(machine: Container) -> None:
    machine.write("/srv/dir/kept", "kept")
    assert "/srv/dir is a directory" in refused(
        machine, Step(name="file", files=(replace(FILE, path="/srv/dir"),))
    )
    assert "/srv/dir" in refused(
        machine, Step(name="link", links=(Link(path="/srv/dir", target="/x"),))
    )
    assert machine.snapshot("/srv/dir").keys() == {"/srv/dir", "/srv/dir/kept"}


@pytest.mark.parametrize(
    "found",
    [
        "rm -rf /srv/l",
        "ln -s /etc/hostname /srv/l/x",
        "ln -s /srv/elsewhere /srv/l/x",
        "mkdir /srv/l/to; ln -s to /srv/l/x",
        "echo file >/srv/l/x",
        "ln -s /half /srv/.x.hardway",
        "mkdir /srv/.x.hardway",
    ],
)
def test_a_link_leads_where_it_should_from(machine: Container, found: str) -> None:
    assert machine.run(f"rm -rf /srv/l /srv/.x.hardway; mkdir /srv/l; {found}").returncode == 0
    step = Step(name="link", links=(Link(path="/srv/l/x", target="/srv/elsewhere"),))
    run(machine, step)
    assert machine.call("readlink", "/srv/l/x") == "/srv/elsewhere\n"
    before = touched(machine, "/srv/l/x")
    run(machine, step)
    assert touched(machine, "/srv/l/x") == before
    assert not machine.path("/srv/.x.hardway").exists()


@pytest.mark.parametrize(
    "found", ["true", "mkdir -m 0777 /srv/d", "mkdir /srv/d; chown nobody /srv/d; touch /srv/d/in"]
)
def test_a_directory_has_its_owner_and_mode_from(machine: Container, found: str) -> None:
    assert machine.run(f"rm -rf /srv/d; {found}").returncode == 0
    run(
        machine,
        Step(name="d", directories=(Directory(path="/srv/d", mode=0o700, owner="daemon:daemon"),)),
    )
    assert machine.call("stat", "-c", "%F %a %U:%G", "/srv/d") == "directory 700 daemon:daemon\n"


def test_a_file_in_the_place_of_a_directory_is_told(machine: Container) -> None:
    machine.write("/srv/no-directory", "kept")
    said = refused(machine, Step(name="d", directories=(Directory(path="/srv/no-directory"),)))
    assert "/srv/no-directory" in said
    assert machine.read("/srv/no-directory") == "kept"


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


# -- users, packages, masks ----------------------------------------------------------------------


@pytest.mark.parametrize("found", ["true", "groupadd --system {}", "useradd --system -U {}"])
def test_a_user_and_its_group_are_there_from(machine: Container, found: str) -> None:
    name = f"user{abs(hash(found)) % 10**6}"
    assert machine.run(found.format(name)).returncode == 0
    file = File(path=f"/srv/{name}", content="x\n", owner=f"{name}:{name}")
    for _ in range(2):
        run(machine, Step(name="u", users=(name,), files=(file,)))
    assert machine.call("stat", "-c", "%U:%G", file.path) == f"{name}:{name}\n"
    assert int(machine.call("id", "-u", name)) < 1000


def test_masked_services_do_not_run_from_whatever_state(machine: Container) -> None:
    names = ("idle.service", "busy.service", "halfway.service", "unheard-of.service")
    for name in names[:3]:
        machine.write(f"/usr/lib/systemd/system/{name}", "[Service]\nExecStart=sleep infinity\n")
    machine.call("systemctl", "start", *names[1:3])
    # A run that was cut off between the two.
    machine.path("/etc/systemd/system/halfway.service").symlink_to("/dev/null")
    for _ in range(2):
        run(machine, Step(name="m", masked=names))
        assert {one["ActiveState"] for one in machine.shown(*names)} == {"inactive"}
        for name in names:
            assert machine.call("readlink", f"/etc/systemd/system/{name}") == "/dev/null\n"


PACKAGE = """
rm -rf /srv/apt /srv/package; mkdir -p /srv/apt /srv/package/DEBIAN /srv/package/usr/share/sample
cd /srv/package
printf '%s\\n' 'Package: sample' 'Version: 1' 'Architecture: all' 'Description: sample' \
    'Maintainer: nobody <nobody@example.com>' >DEBIAN/control
printf '%s\\n' '#!/bin/sh' 'test ! -e /srv/slow || { : >/srv/begun; sleep 1; }' >DEBIAN/postinst
chmod 755 DEBIAN/postinst
dpkg-deb --build . /srv/apt/sample.deb >/dev/null
cd /srv/apt
{
    cat /srv/package/DEBIAN/control
    echo 'Filename: ./sample.deb'
    echo "Size: $(stat -c %s sample.deb)"
    echo "SHA256: $(sha256sum sample.deb | cut -d ' ' -f 1)"
} >Packages
rm -f /etc/apt/sources.list.d/* /etc/apt/sources.list
"""


def test_packages_are_installed_once_and_after_a_cut(new_machine: Callable[..., Container]) -> None:
    machine = new_machine()
    assert machine.run(PACKAGE).returncode == 0
    step = Step(name="p", packages=("coreutils", "sample"))
    assert refused(machine, step) == (
        "the packages sample cannot be installed: E: Unable to locate package sample\n"
    )
    machine.write("/etc/apt/sources.list", "deb [trusted=yes] file:/srv/apt ./\n")
    machine.write("/srv/slow", "")
    child = machine.begin(render.text(step))
    eventually("it is so", lambda: machine.path("/srv/begun").exists())
    machine.finish(child, cut=0)
    machine.path("/srv/slow").unlink()
    run(machine, step)  # waits for the other, which outlives its run
    assert (
        machine.call("dpkg-query", "--show", "-f", "${db:Status-Status}", "sample") == "installed"
    )
    before = touched(machine, "/var/lib/dpkg/status")
    run(machine, step)
    assert touched(machine, "/var/lib/dpkg/status") == before


# -- artifacts -----------------------------------------------------------------------------------

BYTES = random.Random(1).randbytes(300_000)
DIGEST = hashlib.sha256(BYTES).hexdigest()
KEPT = f"{STATE}/store/sha256/{DIGEST}"
PART = f"{STATE}/store/program.{DIGEST}.part"
MARK = f"{STATE}/store/verified/{DIGEST}"


@pytest.fixture
def server(machine: Container) -> Iterator[ArtifactServer]:
    machine.run(f"rm -rf {STATE}/store")
    with mirror(machine.listener()) as server:
        server.files = {"program": BYTES}
        yield server


def program(*urls: str) -> Step:
    artifact = Artifact(name="program", version="1", kind="binary", sha256=DIGEST, urls=urls)
    return Step(name="artifacts", artifacts=(artifact,))


def in_store(machine: Container) -> None:
    assert machine.path(KEPT).read_bytes() == BYTES
    assert machine.call("stat", "-c", "%a %U:%G", KEPT) == "555 root:root\n"
    names = machine.snapshot(f"{STATE}/store").keys()
    assert names == {
        f"{STATE}/store",
        f"{STATE}/store/sha256",
        f"{STATE}/store/verified",
        KEPT,
        MARK,
    }


def test_an_artifact_of_the_base_image_is_read_once(
    machine: Container, server: ArtifactServer
) -> None:
    machine.write(KEPT, BYTES, 0o444)
    run(machine, program())
    in_store(machine)
    before = touched(machine, KEPT), touched(machine, MARK)
    # Were it read again, these bytes would be refused: there is no source.
    run(machine, program())
    assert (touched(machine, KEPT), touched(machine, MARK)) == before


SPOILT: dict[str, tuple[bytes | None, bool]] = {
    "missing": (None, False),
    "truncated": (BYTES[:-1], False),
    "of other bytes": (b"x" + BYTES[1:], False),
    "truncated after it was verified": (BYTES[:-1], True),
    "of other bytes after it was verified": (b"x" + BYTES[1:], True),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_spoilt_artifact_comes_from_its_source(
    machine: Container, server: ArtifactServer, spoilt: str
) -> None:
    content, after = SPOILT[spoilt]
    if after:
        machine.write(KEPT, BYTES)
        run(machine, program())
    if content is not None:
        machine.write(KEPT, content)
    run(machine, program(server.url("nowhere"), server.url("program")))
    in_store(machine)
    assert server.asked == ["/nowhere", "/program"]


LEFT = {
    "a half": (BYTES[:1000], True, ["/program bytes=1000-"]),
    "everything": (BYTES, True, []),
    "a half, of a server without ranges": (
        BYTES[:1000],
        False,
        ["/program bytes=1000-", "/program"],
    ),
    "other bytes": (b"x" * 1000, True, ["/program bytes=1000-", "/program"]),
    "too many bytes": (BYTES * 2, True, ["/program bytes=600000-", "/program"]),
}


@pytest.mark.parametrize("left", LEFT)
def test_a_download_goes_on_from_what_was_left(
    machine: Container, server: ArtifactServer, left: str
) -> None:
    content, server.ranges, asked = LEFT[left]
    machine.write(PART, content)
    run(machine, program(server.url("program")))
    in_store(machine)
    assert server.asked == asked


def test_a_connection_that_breaks_does_not_lose_what_came(
    machine: Container, server: ArtifactServer
) -> None:
    server.stops_after = 120_000
    run(machine, program(server.url("program")))
    in_store(machine)
    assert server.asked == ["/program", "/program bytes=120000-", "/program bytes=240000-"]


def test_wrong_bytes_are_refused_with_both_digests(
    machine: Container, server: ArtifactServer
) -> None:
    server.files["program"] = other = b"other" + BYTES
    said = refused(machine, program(server.url("program")))
    assert said.startswith("program cannot be had; ")
    assert server.url("program") in said
    assert hashlib.sha256(other).hexdigest() in said
    assert DIGEST in said
    assert not machine.path(KEPT).exists()
    assert not machine.path(PART).exists()
    server.files["program"] = BYTES
    run(machine, program(server.url("program")))
    in_store(machine)


def test_an_artifact_without_a_source_is_told(machine: Container, server: ArtifactServer) -> None:
    assert refused(machine, program()) == (
        "program cannot be had: it is not in the base image and no source is known\n"
    )
    said = refused(machine, program(server.url("nowhere")))
    assert server.url("nowhere") in said
    assert "404" in said


def test_programs_come_out_of_an_archive(machine: Container, server: ArtifactServer) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("one", "two", "three"):
            member = tarfile.TarInfo(f"bin/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    server.files["all.tgz"] = packed.getvalue()
    digest = hashlib.sha512(packed.getvalue()).hexdigest()

    def step(*names: str) -> Step:
        return Step(
            name="artifacts",
            artifacts=tuple(
                Artifact(
                    name=name,
                    version="1",
                    kind="binary",
                    sha256=None,
                    archive=Archive(
                        url=server.url("all.tgz"), digest=f"sha512:{digest}", member=f"bin/{name}"
                    ),
                )
                for name in names
            ),
        )

    for _ in range(2):
        run(machine, step("one", "two"))
        assert server.asked == ["/all.tgz"]
    folder = f"{STATE}/store/archive/{digest}"
    assert machine.snapshot(folder).keys() == {folder, f"{folder}/one", f"{folder}/two"}
    assert machine.call("stat", "-c", "%a %U:%G", f"{folder}/two") == "555 root:root\n"
    assert [machine.read(f"{folder}/{name}") for name in ("one", "two")] == ["one", "two"]
    machine.write(f"{folder}/one", "bad")
    run(machine, step("one", "two", "three"))
    assert [machine.read(f"{folder}/{name}") for name in ("one", "three")] == ["one", "three"]
    assert server.asked == ["/all.tgz"] * 2
    assert "four" in refused(machine, step("four"))
    # What was left of the archive is used once more, and goes.
    server.files["all.tgz"] = b"bad"
    run(machine, step("three"))
    assert server.asked == ["/all.tgz"] * 3
    machine.path(f"{folder}/one").unlink()
    assert "cannot be had" in refused(machine, step("one"))


# -- two runs at once ----------------------------------------------------------------------------


def test_of_two_runs_one_waits_for_the_other(machine: Container) -> None:
    first = machine.begin(words("alone; echo begun >/srv/first; sleep 0.5; echo ended >/srv/first"))
    eventually("it is so", lambda: machine.path("/srv/first").exists())
    done = machine.run(words("alone; cat /srv/first"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
    assert machine.finish(first).returncode == 0


def test_a_run_that_waits_too_long_says_why(machine: Container) -> None:
    run(machine, Step(name="nothing"))
    with machine.held(f"{STATE}/lock"):
        done = machine.run(limited(words("reminder=1; alone; echo ran"), 1, "lock"))
    assert (done.returncode, done.stdout) == (1, "until no other run is at work here\n")
    assert re.fullmatch(
        r"failed: another run has been at work on this machine for \d+ s \(no news for \d+ s.*\); "
        "try again later\n",
        done.stderr,
    )


def test_runs_of_one_step_at_once_do_not_disturb_each_other(machine: Container) -> None:
    steps = [
        Step(name="same", files=(File(path=f"/srv/many/{n}", content=f"{n}\n" * 20000),))
        for n in range(6)
    ]
    children = [machine.begin(render.text(step)) for step in steps]
    for child in children:
        done = machine.finish(child)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    left = [path.rpartition("/")[2] for path in machine.snapshot(f"{STATE}/steps")]
    assert [name for name in left if "same" in name] == ["same"]


# -- services ------------------------------------------------------------------------------------


SAMPLE = Unit(
    name="",
    description="A sample",
    program="/usr/local/bin/sample",
    arguments=("infinity",),
    type="exec",
    after=(),
    wants=(),
)


def service(name: str, *needs: str) -> Unit:
    """A service that notes at its start what is in the files that it needs."""
    note = f"/bin/sh -c 'cat {' '.join(needs)} >/run/{name}.seen'"
    return replace(
        SAMPLE,
        name=f"{name}.service",
        program=f"/usr/local/bin/{name}",
        before_start=(note,),
        needs=needs,
    )


LEFT_UNIT = service("left", "/etc/pair/left", "/etc/pair/both", "/etc/pair/key")
RIGHT_UNIT = service("right", "/etc/pair/right", "/etc/pair/both")
PAIR = Step(
    name="pair",
    files=tuple(
        File(path=f"/etc/pair/{name}", content=f"{name} 1\n")
        for name in ("left", "right", "both", "other")
    ),
    links=tuple(
        Link(path=f"/usr/local/bin/{name}", target="/usr/bin/sleep") for name in ("left", "right")
    ),
    units=(LEFT_UNIT, RIGHT_UNIT),
)
KEYS = Step(
    name="identity",
    secret_files=(SecretFile(path="/etc/pair/key", source=Certificate("key")),),
    script="identity",
)


def with_file(step: Step, name: str, content: str) -> Step:
    path = f"/etc/pair/{name}"
    return replace(
        step,
        files=tuple(
            replace(file, content=content) if file.path == path else file for file in step.files
        ),
    )


def with_right(step: Step, **changes: Any) -> Step:
    return replace(step, units=(step.units[0], replace(step.units[1], **changes)))


def keys(machine: Container, version: int) -> None:
    run(machine, KEYS, lambda _: f"key {version}\n")


def invocations(machine: Container) -> dict[str, str]:
    return machine.settled("left.service", "right.service")


def restarted(machine: Container, before: dict[str, str]) -> set[str]:
    after = invocations(machine)
    return {name.partition(".")[0] for name in after if after[name] != before[name]}


@pytest.fixture(scope="module")
def pair(memory: Memory) -> Iterator[Container]:
    """A machine with two services that run."""
    with Container(memory, prepare=quiet) as machine:
        machine.call("cp", "/usr/bin/sleep", "/srv/sleep")
        keys(machine, 1)
        run(machine, PAIR)
        yield machine


CHANGES: dict[str, tuple[Callable[[Step], Step], set[str]]] = {
    "nothing": (lambda step: step, set()),
    "a file of both": (lambda step: with_file(step, "both", "both 2\n"), {"left", "right"}),
    "a file of one": (lambda step: with_file(step, "left", "left 2\n"), {"left"}),
    "a file of none": (lambda step: with_file(step, "other", "other 2\n"), set()),
    "a unit": (lambda step: with_right(step, description="Another"), {"right"}),
    "what a unit needs": (lambda step: with_right(step, needs=("/etc/pair/other",)), {"right"}),
    "less that a unit needs": (lambda step: with_right(step, needs=()), set()),
    "a file that it no longer needs": (lambda step: with_file(step, "other", "other 3\n"), set()),
    "a program": (
        lambda step: replace(
            step, links=(step.links[0], replace(step.links[1], target="/srv/sleep"))
        ),
        {"right"},
    ),
    "everything back": (lambda _: PAIR, {"left", "right"}),
}


def test_only_what_a_change_touches_is_restarted(pair: Container) -> None:
    run(pair, PAIR)
    before, step = invocations(pair), PAIR
    for change, (changed, touched) in CHANGES.items():
        step = changed(step)
        run(pair, step)
        assert restarted(pair, before) == touched, change
        before = invocations(pair)
        for unit in (LEFT_UNIT, RIGHT_UNIT):
            seen = "".join(pair.read(path) for path in unit.needs)
            assert pair.read(f"/run/{unit.name.removesuffix('.service')}.seen") == seen, change


CRASH = """
mkdir -p /run/systemd/system/right.service.d
printf '[Service]\\nRestart=no\\n' >/run/systemd/system/right.service.d/no-restart.conf
systemctl daemon-reload
systemctl kill --signal KILL right
until systemctl --quiet is-failed right; do sleep 0.02; done
rm -r /run/systemd/system/right.service.d
systemctl daemon-reload
"""

FOUND_SERVICES: dict[str, tuple[str, set[str]]] = {
    "stopped": ("systemctl stop right", {"right"}),
    "failed": (CRASH, {"right"}),
    "disabled": ("systemctl --quiet disable right", set()),
    "without its unit": ("rm /etc/systemd/system/right.service", set()),
    # What runs never saw the edit.
    "edited": ("echo mine >/etc/pair/right", set()),
    "without a record of its start": (f"rm {STATE}/running/right.service", {"right"}),
}


def test_services_run_and_are_enabled_from_whatever_state(pair: Container) -> None:
    run(pair, PAIR)
    for found, (text, touched) in FOUND_SERVICES.items():
        before = invocations(pair)
        pair.run(text)
        run(pair, PAIR)
        assert restarted(pair, before) == touched, found
        assert pair.call("systemctl", "is-enabled", "left", "right") == "enabled\nenabled\n", found
        assert pair.read("/run/right.seen") == "right 1\nboth 1\n", found


def test_units_are_all_read_again_only_where_one_has_changed(
    new_machine: Callable[..., Container],
) -> None:
    machine = new_machine(prepare=quiet)

    def reloads() -> int:
        words = ("journalctl", "--boot", "--identifier=systemd", "--output=cat", "--no-pager")
        return machine.call(*words).count("Reloading...")

    machine.call("cp", "/usr/bin/sleep", "/srv/sleep")
    keys(machine, 1)
    run(machine, PAIR)
    assert invocations(machine)
    assert reloads() == 0
    run(machine, with_right(PAIR, description="Another"))
    assert reloads() == 1


def test_a_new_key_restarts_exactly_who_runs_with_the_old_one(pair: Container) -> None:
    keys(pair, 1)
    run(pair, PAIR)
    before = invocations(pair)
    keys(pair, 1)
    assert restarted(pair, before) == set()
    keys(pair, 2)
    assert restarted(pair, before) == {"left"}
    assert pair.read("/run/left.seen") == "left 1\nboth 1\nkey 2\n"
    before = invocations(pair)
    run(pair, PAIR)
    keys(pair, 2)
    assert restarted(pair, before) == set()
    keys(pair, 1)


def test_a_service_that_dies_of_its_new_key_is_told(pair: Container) -> None:
    keys(pair, 1)
    refuses = "/bin/sh -c 'grep -q 1 /etc/pair/key || { echo I cannot read this key; exit 3; }'"
    choosy = replace(LEFT_UNIT, before_start=(refuses, *LEFT_UNIT.before_start))
    run(pair, replace(PAIR, units=(choosy, RIGHT_UNIT)))
    pair.settled("left.service")
    text = limited(render.text(KEYS, lambda _: "key 2\n"), 1)
    done = pair.run(text)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "it runs with its new files (left.service)" in done.stderr
    assert "I cannot read this key" in done.stderr
    # The next key is good: the service is brought up though it does not run.
    keys(pair, 1)
    assert pair.shown("left.service")[0]["ActiveState"] == "active"
    run(pair, PAIR)


MAYFLY = replace(
    SAMPLE,
    name="mayfly.service",
    type="exec",
    program="/bin/sh",
    arguments=("-c", "grep -q 1 /etc/pair/key && exec $SERVER; sleep 0.3; echo I die; exit 3"),
    environment={"SERVER": "python3 -m http.server --bind 127.0.0.1 8099"},
    after_start=(health.wait("http://127.0.0.1:8099/"),),
    needs=("/etc/pair/key",),
)
"""Tells systemd nothing, and is well with one of two keys."""


def test_who_ends_at_once_has_not_been_up(machine: Container) -> None:
    keys(machine, 1)
    run(machine, Step(name="mayfly", files=(health.WAIT,), units=(MAYFLY,)))
    machine.settled(MAYFLY.name)
    assert machine.call("curl", "--silent", "--fail", "http://127.0.0.1:8099/")
    done = machine.run(limited(render.text(KEYS, lambda _: "key 2\n"), 3))
    assert done.returncode == 1
    assert "it runs with its new files (mayfly.service)" in done.stderr
    assert "I die" in done.stderr
    # It is tried again and again, and comes up once it can.
    before = int(machine.shown(MAYFLY.name)[0]["NRestarts"])
    machine.run(f"until [ $(systemctl show -P NRestarts {MAYFLY.name}) -gt {before} ]; do :; done")
    assert machine.shown(MAYFLY.name)[0]["ActiveState"] == "activating"
    keys(machine, 1)
    machine.settled(MAYFLY.name)
    # Other tests change the key as well.
    machine.call("systemctl", "disable", "--now", MAYFLY.name)
    machine.call("rm", f"{STATE}/running/{MAYFLY.name}")


def test_what_a_service_does_before_it_stops_is_done_while_it_runs(machine: Container) -> None:
    note = "/bin/sh -c 'kill -0 $MAINPID && touch /run/handed-over'"
    unit = replace(SAMPLE, name="polite.service", program="/usr/bin/sleep", before_stop=(note,))
    run(machine, Step(name="polite", units=(unit,)))
    machine.settled(unit.name)
    machine.call("systemctl", "restart", unit.name)
    assert machine.path("/run/handed-over").exists()


def test_a_service_of_another_user_runs_a_program_of_the_store(
    machine: Container, server: ArtifactServer
) -> None:
    program_file = b"#!/bin/sh\nexec sleep infinity\n"
    digest = hashlib.sha256(program_file).hexdigest()
    machine.write(f"{STATE}/store/sha256/{digest}", program_file)
    artifact = Artifact(name="guest", version="1", kind="binary", sha256=digest)
    guest = replace(
        SAMPLE,
        name="guest.service",
        program=artifact.command.path,
        arguments=(),
        service={"User": "nobody"},
    )
    run(machine, Step(name="g", artifacts=(artifact,), links=(artifact.command,), units=(guest,)))
    machine.settled(guest.name)
    assert machine.shown(guest.name)[0]["NRestarts"] == "0"
    # Passing through is all that others may do.
    assert machine.call("stat", "-c", "%a", STATE) == "711\n"
    assert machine.run(f"setpriv --reuid nobody ls {STATE}").returncode == 2


SLOW = replace(
    SAMPLE,
    name="slow.service",
    program="/bin/bash",
    arguments=("-c", "trap 'sleep 4; exit' TERM; while true; do sleep 0.1; done"),
    service={"KillMode": "mixed"},
)


@pytest.mark.parametrize("by_key", [False, True])
def test_what_ran_before_a_restart_is_over_when_health_is_asked(
    machine: Container, by_key: bool
) -> None:
    """Else it answers for its successor."""
    unit = replace(SLOW, needs=("/etc/pair/key",))

    def done(step: Step, key: int = 1) -> None:
        said = machine.run(render.text(step, lambda _: f"key {key}\n"))
        assert (said.returncode, said.stderr) == (0, "")

    done(KEYS)
    done(Step(name="slow", units=(unit,)))
    machine.settled(SLOW.name)
    before = machine.call("systemctl", "show", "--property=MainPID", "--value", SLOW.name).strip()
    assert machine.run(f"kill -0 {before}").returncode == 0
    if by_key:
        done(KEYS, 2)
    else:
        done(Step(name="slow", units=(replace(unit, description="Another"),)))
    assert machine.run(f"kill -0 {before}").returncode != 0


# -- waiting -------------------------------------------------------------------------------------


def test_who_waits_in_vain_is_shown_the_units_last_lines(machine: Container) -> None:
    crasher = replace(
        SAMPLE,
        name="crasher.service",
        program="/bin/sh",
        arguments=("-c", "echo I die of hunger; exit 7"),
    )
    run(machine, Step(name="crasher", units=(crasher,)))
    machine.run("until journalctl --unit crasher | grep --quiet hunger; do sleep 0.1; done")
    # It is up again and again, for a moment.
    done = machine.run(
        words("await 1 'the crasher is up' crasher.service sh -c 'echo still hungry; exit 1'")
    )
    assert done.returncode == 1
    first, *lines = done.stderr.splitlines()
    told = r"failed: not yet after (\d+) s: the crasher is up; no news for \d+ s.*"
    found = re.fullmatch(told, first)
    assert found
    assert int(found[1]) >= 1
    assert lines[:2] == ["still hungry", "the last lines of crasher.service:"]
    assert "I die of hunger" in lines
    assert len(lines) <= 10


def test_who_waits_goes_on_as_soon_as_it_is_there(machine: Container) -> None:
    asks = "sh -c 'echo >>/srv/asked; test $(wc -l </srv/asked) -eq 3'"
    done = machine.run(words(f"await 600 here x {asks}"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_waits_long_says_why_it_is_not_so_yet(machine: Container) -> None:
    asks = "sh -c 'echo first; echo none is up; test -e /srv/late'"
    late = "(sleep 5; touch /srv/late) &"
    done = machine.run(words(f"reminder=1; {late} await 600 'all are up' x {asks}"))
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, lines[0]) == (0, "", "until all are up")
    assert len(lines) > 1
    for line in lines[1:]:
        assert re.fullmatch(r"not yet: all are up \(none is up; no news for \d+ s.*\)", line)
        assert len(line) <= 100


def test_who_waits_for_the_api_is_told_why_it_does_not_answer(machine: Container) -> None:
    """A balancer's name without an address was waited for in silence."""
    machine.write(WAIT.path, WAIT.content, WAIT.mode)
    machine.path("/etc/resolv.conf").unlink(missing_ok=True)
    api = "await_api 6 https://api.example.org:6443 /srv/ca x"
    done = machine.run(words(f"reminder=1; {api}"))
    title = "the API server is ready"
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0]) == (1, f"until {title}")
    why = "curl: (6) Could not resolve host: api.example.org"
    for line in lines[1:]:
        assert line.startswith(f"not yet: {title} ({why[:15]}")
        assert re.search(r"; no news for \d+ s", line)
        assert len(line) <= 100
    told = re.match(
        rf"failed: not yet after (\d+) s: {title} \(https://api.example.org:6443\); no news.*\n",
        done.stderr,
    )
    assert told
    assert int(told[1]) >= 6, "all of the wait"
    assert done.stderr[told.end() :].startswith(f"{why}\n")


# What is measured takes ten times as long as one turn of a slowed machine.
MEASURED = "rounds=80000 quiet=93000"


def without_hard_limit(text: str) -> str:
    assert text.count("\nhard=8\n") == 1
    return text.replace("\nhard=8\n", "\nhard=1000\n")


def test_a_slow_machine_has_more_time(machine: Container) -> None:
    """A service needs seconds of a processor of which its machine has a tenth."""
    work = "for ((n = 0; n < 1600000; n++)); do :; done; echo >/srv/up"
    waits = "await 6 'the service is up' needy.service test -e /srv/up"
    with machine.slowed(0.1):
        machine.call("systemd-run", "--unit", "needy.service", "/bin/bash", "-c", work)
        done = machine.run(without_hard_limit(words(f"{MEASURED} reminder=3; {waits}")))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (first, *lines) = done.stdout.splitlines()
    assert first == "until the service is up"
    assert any(re.search(r"; machine [\d.]+ x slower\)$", line) for line in lines), done.stdout


NEW = "echo x >>/srv/asked; tr -d '\\n' </srv/asked"
"""Says something that it has not said before, each time that it is asked."""


def test_what_says_something_new_is_waited_for(machine: Container) -> None:
    asks = f"sh -c '{NEW}; [ $(wc -l </srv/asked) -ge 10 ]'"
    text = without_hard_limit(words(f"await 2 'it is done' x {asks}"))
    done = machine.run(text)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("said", ["$(($(date +%s%N)))", "$(($(wc -l </srv/asked) % 2)) up"])
def test_what_only_counts_or_goes_round_in_circles_is_not_new(
    machine: Container, said: str
) -> None:
    machine.write("/srv/ask", f'echo >>/srv/asked; set -- one two; echo "for {said} $#"; exit 1')
    done = machine.run(without_hard_limit(words("await 1 'it is done' x sh /srv/ask")))
    assert done.returncode == 1
    assert re.match(r"failed: not yet after \d+ s: it is done; no news for \d+ s", done.stderr)


def test_what_says_something_new_for_ever_ends_at_the_hard_limit(machine: Container) -> None:
    done = machine.run(words(f"await 1 'it is done' x sh -c '{NEW}; exit 1'"))
    assert done.returncode == 1
    first = done.stderr.splitlines()[0]
    found = re.match(r"failed: not yet after (\d+) s, the hard limit: it is done; no news", first)
    assert found, first
    assert int(found[1]) >= 8


# -- cut off ------------------------------------------------------------------------------------


def test_who_changes_their_mind_after_a_cut_gets_what_they_want(pair: Container) -> None:
    keys(pair, 1)
    run(pair, PAIR)
    ways: tuple[tuple[str, Callable[[], None]], ...] = (
        (render.text(with_file(PAIR, "left", "left 2\n")), lambda: run(pair, PAIR)),
        (render.text(KEYS, lambda _: "key 2\n"), lambda: keys(pair, 1)),
    )
    pair.write(
        "/run/after-restart",
        "set -T\ntrap '[ \"${FUNCNAME[0]-}\" != restart ] || kill -KILL 0' RETURN\n",
    )
    for text, back in ways:
        # What is new runs, and nobody has noted it yet.
        cut = pair.finish(pair.begin(text, BASH_ENV="/run/after-restart"))
        assert cut.returncode < 0
        pair.settled("left.service")
        back()
        pair.settled("left.service")
        assert pair.read("/run/left.seen") == "left 1\nboth 1\nkey 1\n"


def version_of_pair(number: int, server: ArtifactServer) -> str:
    """A step of which nearly everything differs from one version to another."""
    content = f"#!/bin/sh\n# {number}\nexec sleep infinity\n".encode()
    digest = hashlib.sha256(content).hexdigest()
    server.files[digest] = content
    artifact = Artifact(
        name="left", version="1", kind="binary", sha256=digest, urls=(server.url(digest),)
    )
    step = replace(
        PAIR,
        users=("cutter",),
        artifacts=(artifact,),
        directories=(Directory(path="/etc/pair/in", mode=0o750, owner="cutter:cutter"),),
        files=tuple(
            replace(file, content=f"{file.path} {number}\n" * 99, owner="cutter:cutter")
            for file in PAIR.files
            if file.path in LEFT_UNIT.needs
        ),
        links=(artifact.command,),
        units=(replace(LEFT_UNIT, description=f"Version {number}"),),
    )
    return render.text(step)


NOTHING = f"""
systemctl stop left; userdel cutter; cd /etc/systemd/system
rm -rf {STATE}/[!a]* {STATE}/applied/[!i]* /etc/pair/[!k]* /usr/local/bin/left
rm -f {{.,*.wants}}/left.service
systemctl daemon-reload
"""


def state_of(machine: Container) -> dict[str, str]:
    """All that the steps make, but which artifacts are kept and when they were verified."""
    machine.settled("left.service")
    found = machine.snapshot("/etc/pair", "/etc/systemd/system", "/usr/local/bin", STATE)
    found = {path: about for path, about in found.items() if not path.startswith(f"{STATE}/store")}
    return found | {
        "started with": machine.read("/run/left.seen"),
        "program": machine.path(str(machine.path("/usr/local/bin/left").readlink())).read_text(),
    }


def cut_off_and_done(
    machine: Container, versions: tuple[str, str], points: int, *, fresh: bool
) -> None:
    """Go from version to version, cut off at random points, and see that it is as if never cut."""
    chance, expected, commands, seconds = random.Random(points), [], 0, 0.0
    for text in versions:
        began = time.monotonic()
        commands = machine.commands(text)
        seconds = time.monotonic() - began
        expected.append(state_of(machine))
    assert expected[0] != expected[1]
    now, killed = 1, 0
    for point in range(points):
        if fresh and point % 4 == 0:
            machine.run(NOTHING)
        cut: dict[str, Any] = {"command": chance.randint(1, commands)}
        if point % 2:
            cut = {"seconds": chance.uniform(0, seconds)}
        killed += machine.run(versions[1 - now], **cut).returncode < 0
        # Whoever cut it off may have changed their mind.
        now = chance.choice((now, 1 - now, 1 - now))
        done = machine.run(versions[now])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), f"point {point} {cut}"
        assert state_of(machine) == expected[now], f"point {point} {cut}"
    assert killed >= points / 2


def test_a_step_that_was_cut_off_anywhere_is_done_by_the_next_run(
    new_machine: Callable[..., Container],
) -> None:
    machine = new_machine()
    keys(machine, 1)
    with mirror(machine.listener()) as server:
        versions = version_of_pair(1, server), version_of_pair(2, server)
        cut_off_and_done(machine, versions, 12, fresh=True)
    renewals = render.text(KEYS, lambda _: "key 2\n"), render.text(KEYS, lambda _: "key 1\n")
    cut_off_and_done(machine, renewals, 10, fresh=False)
