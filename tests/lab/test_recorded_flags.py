"""The recorded flags are those of the real programs, as far as the artifact store has them."""

import re
from functools import cache
from pathlib import Path

import pytest

from lab.artifacts import Store, source_keys
from lab.cache import Cache, Receipt
from lab.manifest import artifacts
from lab.paths import LabPaths
from lab.progress import Silence
from lab.recorded_flags import PROGRAMS, StoredProgram, help_of, record, stored_programs
from spec import flags
from spec.artifacts import artifact_row, needed
from spec.flags import UnrecordedProgram, deprecated_flags, known_flags, minor_of
from spec.versions import catalogue, versions_for

told_by = cache(help_of)


def _agrees(program: StoredProgram) -> None:
    from_help = told_by(program.path)
    assert known_flags(program.name, program.version) == from_help.known
    assert deprecated_flags(program.name, program.version) == from_help.deprecated


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name in needed()])
def test_the_recorded_flags_are_those_of_the_default_stack(
    name: str, progress: Silence, paths: LabPaths
) -> None:
    """Always: a program that the store has not is fetched or built now, for all tests to come."""
    store = Store(Cache(), progress, paths.logs)
    (artifact,) = (a for a in artifacts(versions_for(), store.architecture) if a.name == name)
    stored = store.find(artifact) or store.resolve(artifact)
    _agrees(StoredProgram(name, stored.version, stored.path))


@pytest.mark.parametrize("program", list(stored_programs(Cache())), ids=str)
def test_the_recorded_flags_are_those_of_every_stored_program(program: StoredProgram) -> None:
    _agrees(program)


def test_every_version_in_the_catalogue_has_its_flags_recorded_and_no_list_is_left_over() -> None:
    wanted = {
        flags.list_file(name, artifact_row(name).version(versions))
        for versions in catalogue()
        for name in PROGRAMS
    }
    assert set(flags.RECORDED.iterdir()) == wanted
    for path in wanted:
        program, _, minor = path.stem.rpartition("-")
        assert all(re.fullmatch(r"[a-z][a-z0-9_-]*", flag) for flag in known_flags(program, minor))


def test_what_is_not_recorded_is_told_with_what_is() -> None:
    for program, version in (("kubelet", "1.9.0"), ("kubeadm", "1.37.1")):
        with pytest.raises(UnrecordedProgram) as caught:
            known_flags(program, version)
        assert f"{program} {minor_of(version)}" in str(caught.value)
        assert "kubelet-1.37" in str(caught.value)


HELP = """\
Usage:
  etcd --config-file
    A file; --ignored in the middle of a line.

Some flags:

  -h, --help                 about this
      --feature-gates mapA   A=true|false (DEPRECATED - default=true)
                             B=true|false (default=-1)
      --old-one              to be gone (DEPRECATED: use
                             the file)
      --quantity int         -1 for all (default 3)
  -v, --v Level              number

Deprecated flags:
  -iface value
    \tsingle dash
  --max-snapshots '5'
    Deprecated in v3.6.
"""


def test_flags_are_read_from_every_form_of_help(
    empty_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "etcd"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{HELP}END\n")
    digest = empty_cache.add(program, executable=True)
    (key, *_) = source_keys("etcd", "3.7.1")
    empty_cache.record(Receipt(key, {"etcd": digest, "etcdctl": digest}, "built", "a test"))
    monkeypatch.setattr(flags, "RECORDED", tmp_path / "flags")
    flags.RECORDED.mkdir()

    assert [str(recorded) for recorded in record(empty_cache)] == ["etcd 3.7.1"]
    (path,) = flags.RECORDED.iterdir()
    assert path.name == "etcd-3.7.txt"
    assert path.read_text().splitlines() == [
        *("config-file", "feature-gates", "help", "iface", "max-snapshots deprecated"),
        *("old-one deprecated", "quantity", "v"),
    ]
