"""Secret files: a key and its certificate come together, and a key is overwritten when it goes."""

import pytest

from plan import render
from plan.model import Certificate, PrivateKey, SecretFile, Step
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
    shell,
    touched,
)

pytestmark = pytest.mark.container

KEY = SecretFile(path="/srv/keys/key", source=PrivateKey("x"))


def secret(_source: object) -> str:
    return "secret\n"


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
    modes = machine.call("stat", "-c", "%n %a %U:%G", *(file.path for file in PAIRS.secret_files))
    assert modes.splitlines() == [
        *("/srv/pki/a.key 600 root:root", "/srv/pki/a.crt 644 root:root"),
        *("/srv/pki/b.key 600 daemon:daemon", "/srv/pki/b.crt 644 root:root"),
    ]
    before = [touched(machine, file.path) for file in PAIRS.secret_files]
    assert machine.run(pairs(2)).returncode == 0
    assert [touched(machine, file.path) for file in PAIRS.secret_files] == before


def test_no_cut_leaves_a_key_beside_a_certificate_of_another(machine: Container) -> None:
    assert machine.run(pairs(1)).returncode == 0
    texts = {1: pairs(1), 2: pairs(2)}
    commands, now, seen = machine.commands(texts[2]), 2, set()
    for command in range(1, commands + 1, 3):
        machine.run(texts[3 - now], command=command)
        versions = {machine.read(file.path).split()[-1] for file in PAIRS.secret_files}
        assert len(versions) == 1, f"cut at command {command} of {commands}"
        now = int(versions.pop())
        seen.add(now)
        # Whatever the cut left, the next run clears it away.
        assert machine.run(texts[now]).returncode == 0
        assert not machine.path("/srv/.pki.hardway").exists()
    assert seen == {1, 2}


@pytest.mark.parametrize(
    "before",
    [
        "true",
        "mkdir -p /srv/keys; echo other >/srv/keys/key",
        "install -D -m 0644 /dev/null /srv/keys/key",
        "mkdir /srv/keys; echo victim >/srv/victim; ln -s /srv/victim /srv/keys/key",
        "echo x >/srv/.keys.hardway",
        "mkdir -p /srv/.keys.hardway/x; echo half >/srv/.keys.hardway/key",
        "echo victim >/srv/victim; ln -s /srv/victim /srv/.keys.hardway",
    ],
)
def test_a_secret_file_is_made_from(machine: Container, before: str) -> None:
    shell(machine, f"rm -rf /srv/keys /srv/.keys.hardway /srv/victim; {before}")
    step = Step(name=ROLE, secret_files=(KEY,))
    run(machine, step, secret)
    assert machine.read(KEY.path) == "secret\n"
    assert machine.call("stat", "-c", "%F %a %U:%G", KEY.path) == "regular file 600 root:root\n"
    assert not machine.path("/srv/.keys.hardway").exists()
    if "victim" in before:
        assert machine.read("/srv/victim") == "victim\n"
    made = touched(machine, KEY.path)
    run(machine, step, secret)
    assert touched(machine, KEY.path) == made
    leave(machine)


def test_a_step_with_secrets_leaves_no_copy_of_its_data(machine: Container) -> None:
    run(machine, Step(name="kept-data"))
    run(machine, Step(name="secretive", secret_files=(KEY,)), secret)
    names = machine.snapshot(f"{STATE}/steps").keys()
    assert f"{STATE}/steps/kept-data" in names
    assert f"{STATE}/steps/secretive" not in names
    leave(machine, "secretive")


def test_a_directory_in_place_of_a_secret_is_told_and_stays(machine: Container) -> None:
    machine.write("/srv/kept/key/mine", "mine")
    step = Step(
        name="kept", secret_files=(SecretFile(path="/srv/kept/key", source=PrivateKey("x")),)
    )
    assert refused(machine, step, secret) == "/srv/kept/key is a directory and should be a file\n"
    assert machine.read("/srv/kept/key/mine") == "mine"


# -- absent --------------------------------------------------------------------------------------


def test_a_secret_is_overwritten_before_it_is_removed(machine: Container) -> None:
    run(machine, Step(name=ROLE, secret_files=(KEY,)), secret)
    with machine.path(KEY.path).open("rb") as reader:
        leave(machine)
        assert b"secret" not in reader.read()
    assert not machine.path("/srv/keys").exists()


def test_a_secret_that_another_step_needs_stays_until_that_goes(machine: Container) -> None:
    run(machine, Step(name="identity", secret_files=(KEY,)), secret)
    run(machine, Step(name=ROLE, keeps=(f"secret {KEY.path}",)))
    run(machine, Step(name="identity"))
    assert machine.path(KEY.path).exists(), "a service that is still there needs it"
    leave(machine)
    assert not machine.path(KEY.path).exists()


# -- cut off -------------------------------------------------------------------------------------


def test_a_cut_leaves_no_secret_beside_its_path(machine: Container) -> None:
    folders = ("/srv/keys", "/srv/.keys.hardway", f"{STATE}/applied")
    cuts = Cuts(
        machine=machine,
        step=Step(name=ROLE, secret_files=(KEY,)),
        before=f"rm -rf /srv/keys /srv/.keys.hardway {STATE}/applied/{ROLE}",
        state=lambda: machine.snapshot(*folders),
        material=secret,
    )
    cuts.end_alike()
    cuts.leave_alike()


# -- drift ---------------------------------------------------------------------------------------


def test_drift_of_a_secret_is_observed_without_its_digest(machine: Container) -> None:
    file = SecretFile(path="/srv/drift/key", source=PrivateKey("x"), owner="daemon:daemon")
    key = f"file {file.path}"
    drift_is_mended(
        guarded(machine, Step(name="drifter", secret_files=(file,)), material=secret),
        {
            f"rm {file.path}": {key: "missing"},
            f"echo another >{file.path}": {key: "other content 0600 daemon:daemon"},
            f"chmod 644 {file.path}": {key: "as kept in the state 0644 daemon:daemon"},
            f"chown root:root {file.path}": {key: "as kept in the state 0600 root:root"},
        },
    )


def test_a_secret_that_should_be_gone_is_observed(machine: Container) -> None:
    absence_is_observed(machine, Step(name=ROLE, secret_files=(KEY,)), secret)
    assert not machine.path("/srv/keys").exists()
