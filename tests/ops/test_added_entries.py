"""Entries that are added to a stack's file, which stays as its author wrote it."""

from pathlib import Path

import pytest

from lab.problem import Problem
from ops.stack_file import add_entries
from spec.configuration import CLUSTER, configuration

PATH = ("hypervisor", "host_keys")
KEYS = {"10.0.0.2": "ssh-ed25519 AAAAC3Nz/a+b=", "10.0.0.3": "ssh-ed25519 AAAAC3Nz/c+d="}
FIRST, SECOND = (f"{address}: {key}" for address, key in KEYS.items())

HEAD = """\
# Our racks.
config:
  hardway:cluster:
"""
TAIL = """\

    # What each one does.
    machines:
      a: {address: 10.0.0.2}   # ours
"""

FORMS = {
    "behind those that are there": (
        """\
    hypervisor:
        kind: existing # ours
        host_keys:
            # of the first rack
            10.0.0.1: ssh-ed25519 AAAA   # seen on its console
            # more will follow
        user: ada
""",
        "ssh-ed25519 AAAA   # seen on its console\n",
        f"            {FIRST}\n            {SECOND}\n",
    ),
    "where there are none yet": (
        "    hypervisor:\n      kind: existing  # ours\n",
        "kind: existing  # ours\n",
        f"      host_keys:\n        {FIRST}\n        {SECOND}\n",
    ),
    "as far in as the file's own": (
        "    hypervisor:\n      kind: existing\n      bastion:\n          address: 10.0.0.9\n",
        "          address: 10.0.0.9\n",
        f"      host_keys:\n          {FIRST}\n          {SECOND}\n",
    ),
    "below a key without a value": (
        "    hypervisor:\n      host_keys: # later\n      kind: existing\n",
        "host_keys:  # later\n",
        f"        {FIRST}\n        {SECOND}\n",
    ),
    "in the place of an empty mapping": (
        "    hypervisor:\n      host_keys: {}\n      kind: existing\n",
        "host_keys:\n",
        f"        {FIRST}\n        {SECOND}\n",
    ),
    "in braces": (
        "    hypervisor: {kind: existing, host_keys: {10.0.0.1: ssh-ed25519 AAAA}, port: 23}\n",
        "10.0.0.1: ssh-ed25519 AAAA",
        f", {FIRST}, {SECOND}",
    ),
    "in braces that have none": (
        "    hypervisor: { kind: existing } # ours\n",
        "kind: existing",
        f", host_keys: {{{FIRST}, {SECOND}}}",
    ),
    "in braces without a value": (
        "    hypervisor: {host_keys: , kind: existing}\n",
        "host_keys:",
        f" {{{FIRST}, {SECOND}}}",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", [TAIL, ""])
def test_entries_stand_where_a_person_would_write_them(form: str, end: str, tmp_path: Path) -> None:
    middle, before, inserted = FORMS[form]
    file = tmp_path / "Pulumi.racks.yaml"
    file.write_text(HEAD + middle + end)
    file.chmod(0o640)
    wanted = configuration(file)
    wanted[CLUSTER]["hypervisor"]["host_keys"] = {
        **(wanted[CLUSTER]["hypervisor"].get("host_keys") or {}),
        **KEYS,
    }
    add_entries(file, PATH, KEYS)
    assert configuration(file) == wanted
    text = file.read_text()
    assert before + inserted in text
    old = text.replace(inserted, "").split()
    assert [word for word in old if word != "{}"] == [
        word for word in (HEAD + middle + end).split() if word != "{}"
    ]
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_file_without_a_last_newline_keeps_its_entries_apart(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.racks.yaml"
    file.write_text(f"{HEAD}    hypervisor:\n      kind: existing")
    add_entries(file, PATH, KEYS)
    assert configuration(file)[CLUSTER]["hypervisor"] == {"kind": "existing", "host_keys": KEYS}


def test_the_hypervisor_of_a_machine_has_its_own_keys(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.racks.yaml"
    machine = "      a:\n        hypervisor: {kind: existing}\n        address: 10.0.0.2\n"
    file.write_text(f"{HEAD}    machines:\n{machine}")
    add_entries(file, ("machines", "a", "hypervisor", "host_keys"), {"10.0.0.2": "ssh-rsa AA"})
    assert "hypervisor: {kind: existing, host_keys: {10.0.0.2: ssh-rsa AA}}\n" in file.read_text()


@pytest.mark.parametrize(
    "middle",
    [
        # The mapping stands elsewhere, and others would get the entries as well.
        "    other: &where\n      kind: existing\n    hypervisor: *where\n",
        "    hypervisor:\n      <<: {kind: existing}\n      host_keys: &keys\n    more: *keys\n",
    ],
)
def test_what_cannot_be_edited_is_left_alone_with_the_lines_to_write(
    middle: str, tmp_path: Path
) -> None:
    file = tmp_path / "Pulumi.racks.yaml"
    file.write_text(HEAD + middle)
    with pytest.raises(Problem) as caught:
        add_entries(file, PATH, KEYS)
    assert "hypervisor.host_keys in a form" in str(caught.value)
    assert FIRST in str(caught.value)
    assert file.read_text() == HEAD + middle
