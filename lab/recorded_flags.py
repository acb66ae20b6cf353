"""Records the flags of the programs in the artifact store: ``python -m lab.recorded_flags``.

It rewrites the list in ``spec/flags`` of every program and minor version that the store has; other
lists stay as they are. Run it after a new minor version was fetched or built, and review the diff.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from lab.artifacts import source_keys
from lab.cache import Cache
from lab.recipe import recipes
from spec import flags
from spec.downloads import downloads

PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "etcd",
    "containerd",
    "cri-dockerd",
    "flanneld",
)
"""The programs that systemd services run."""

_FLAG = re.compile(r"^\s+(?:\w+ |-\w, )?--?([a-z][a-z0-9_-]*)", re.MULTILINE)
_HEADING = re.compile(r"^\S.*$", re.MULTILINE)
_DEPRECATED = re.compile(r"DEPRECATED:|\bDeprecated\b|Will be deprecated")


@dataclass(frozen=True)
class StoredProgram:
    """A program in the store."""

    name: str
    version: str
    path: Path

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Help:
    """The flags in a program's ``--help``, without dashes."""

    known: frozenset[str]
    deprecated: frozenset[str]


def stored_programs(cache: Cache) -> Iterator[StoredProgram]:
    """The programs of every version in the store, also of versions outside the catalogue.

    Sorted from older to newer versions. Their bytes are not read.
    """
    families = {(row.family, row.version) for row in recipes()}
    families |= {(row.family, row.version) for row in downloads()}
    for family, version in sorted(families, key=lambda family: (family[0], _numbers(family[1]))):
        receipts = [cache.receipt(key) for key in source_keys(family, version)]
        files = next((receipt.files for receipt in receipts if receipt), {})
        for name in PROGRAMS:
            if name in files and cache.blob(files[name]).is_file():
                yield StoredProgram(name, version, cache.blob(files[name]))


def help_of(program: Path) -> Help:
    """Run a program with ``--help`` and find its flags and those that it calls deprecated."""
    done = subprocess.run(
        [program, "--help"], capture_output=True, text=True, timeout=30, check=False
    )
    output = f"{done.stdout}\n{done.stderr}"
    known, deprecated = set(), set()
    for section in _HEADING.split(output):
        starts = list(_FLAG.finditer(section))
        for match, following in zip_longest(starts, starts[1:]):
            known.add(match[1])
            end = following.start() if following else len(section)
            if _DEPRECATED.search(section, match.end(), end):
                deprecated.add(match[1])
    return Help(frozenset(known), frozenset(deprecated))


def record(cache: Cache) -> Iterator[StoredProgram]:
    """Write the list of flags of every stored program.

    Of several patch versions of a minor version the newest determines the list.
    """
    for program in stored_programs(cache):
        flags_of_help = help_of(program.path)
        flags.list_file(program.name, program.version).write_text(
            flags.as_text(flags_of_help.known, flags_of_help.deprecated)
        )
        yield program


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


if __name__ == "__main__":
    for written in record(Cache()):
        print(f"{flags.list_file(written.name, written.version).name} <- {written}")
