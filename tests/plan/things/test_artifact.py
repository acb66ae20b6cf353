"""Artifacts: verified once, fetched where the bytes are not right, and left in the store."""

import hashlib
import io
import random
import tarfile
from collections.abc import Iterator
from functools import partial

import pytest

from plan.model import Archive, Artifact, Step
from tests.plan.container import Container
from tests.plan.mirror import ArtifactServer, mirror
from tests.plan.things.bringing import (
    ROLE,
    STATE,
    Cuts,
    drift_is_mended,
    guarded,
    leave,
    refused,
    run,
    touched,
)

pytestmark = pytest.mark.container

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
    server.files["program"] = longer = b"other" + BYTES
    sentence = refused(machine, program(server.url("program")))
    assert sentence.startswith("program cannot be had; ")
    assert server.url("program") in sentence
    assert hashlib.sha256(longer).hexdigest() in sentence
    assert DIGEST in sentence
    assert not machine.path(KEPT).exists()
    assert not machine.path(PART).exists()
    server.files["program"] = BYTES
    run(machine, program(server.url("program")))
    in_store(machine)


def test_an_artifact_without_a_source_is_told(machine: Container, server: ArtifactServer) -> None:
    assert refused(machine, program()) == (
        "program cannot be had: it is not in the base image and no source is known\n"
    )
    sentence = refused(machine, program(server.url("nowhere")))
    assert server.url("nowhere") in sentence
    assert "404" in sentence


def packed(*names: str) -> bytes:
    """An archive of programs, each of which contains its own name."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(f"bin/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return stream.getvalue()


def unpacking(url: str, content: bytes, *names: str) -> Step:
    """A step with programs of the archive that has this content."""
    digest = f"sha512:{hashlib.sha512(content).hexdigest()}"
    return Step(
        name="artifacts",
        artifacts=tuple(
            Artifact(
                name=name,
                version="1",
                kind="binary",
                sha256=None,
                archive=Archive(url=url, digest=digest, member=f"bin/{name}"),
            )
            for name in names
        ),
    )


def test_programs_come_out_of_an_archive(machine: Container, server: ArtifactServer) -> None:
    server.files["all.tgz"] = content = packed("one", "two", "three")
    step = partial(unpacking, server.url("all.tgz"), content)
    for _ in range(2):
        run(machine, step("one", "two"))
        assert server.asked == ["/all.tgz"]
    folder = f"{STATE}/store/archive/{hashlib.sha512(content).hexdigest()}"
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


@pytest.mark.parametrize("mode", ["0400", "0777"])
def test_bytes_of_another_mode_get_theirs_and_are_not_fetched(
    machine: Container, server: ArtifactServer, mode: str
) -> None:
    machine.write(KEPT, BYTES, int(mode, 8))
    machine.call("chown", "daemon", KEPT)
    run(machine, program(server.url("program")))
    in_store(machine)
    assert server.asked == []


# -- absent --------------------------------------------------------------------------------------


def test_an_artifact_stays_and_its_command_goes(machine: Container, server: ArtifactServer) -> None:
    (artifact,) = program(server.url("program")).artifacts
    run(machine, Step(name=ROLE, artifacts=(artifact,), links=(artifact.command,)))
    assert machine.path(artifact.command.path).is_symlink()
    leave(machine)
    assert not machine.path(artifact.command.path).is_symlink()
    in_store(machine)


# -- cut off -------------------------------------------------------------------------------------


def test_a_cut_leaves_no_artifact_that_was_not_verified(
    machine: Container, server: ArtifactServer
) -> None:
    (artifact,) = program(server.url("program")).artifacts

    def state() -> dict[str, str]:
        # The mark notes when the bytes were written.
        seen = machine.snapshot(f"{STATE}/store", artifact.command.path, f"{STATE}/applied")
        return seen | {MARK: "a mark"} if MARK in seen else seen

    cuts = Cuts(
        machine=machine,
        step=Step(name=ROLE, artifacts=(artifact,), links=(artifact.command,)),
        before=f"rm -rf {STATE}/store {STATE}/running {STATE}/applied/{ROLE} "
        f"{artifact.command.path}",
        state=state,
    )
    cuts.end_alike()
    cuts.leave_alike()
    assert server.asked


# -- drift ---------------------------------------------------------------------------------------


def test_drift_of_an_artifact_is_observed_and_mended(
    machine: Container, server: ArtifactServer
) -> None:
    key, longer = "artifact program 1", hashlib.sha256(BYTES + b"more").hexdigest()
    drift_is_mended(
        guarded(machine, program(server.url("program"))),
        {
            f"rm {KEPT}": {key: "missing"},
            f"chmod 400 {KEPT}": {key: f"sha256:{DIGEST} 0400 root:root"},
            f"chown daemon {KEPT}": {key: f"sha256:{DIGEST} 0555 daemon:root"},
            f"printf more >>{KEPT}": {key: f"sha256:{longer} 0555 root:root"},
        },
    )
    in_store(machine)
    # Whoever deletes only the mark has the bytes read again, and they are right.
    machine.path(MARK).unlink()
    assert guarded(machine, program()).observed() == {}


def test_drift_of_a_program_of_an_archive_is_seen_by_its_mark(
    machine: Container, server: ArtifactServer
) -> None:
    server.files["all.tgz"] = content = packed("alone")
    step = unpacking(server.url("all.tgz"), content, "alone")
    path = step.artifacts[0].store_path
    drift_is_mended(
        guarded(machine, step),
        {
            f"rm {path}": {"artifact alone 1": "missing"},
            f"touch {path}": {"artifact alone 1": "touched since it was verified 0555 root:root"},
        },
    )
    assert machine.read(path) == "alone"


def test_what_only_brought_artifacts_has_no_absence(
    machine: Container, server: ArtifactServer
) -> None:
    run(machine, Step(name=ROLE, artifacts=program(server.url("program")).artifacts))
    assert guarded(machine).observed() == {}
    in_store(machine)
