"""``./hardway artifacts``, as a person types it."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab.paths import PROJECT
from lab.problem import Problem
from ops import artifacts, display
from spec.artifacts import needed
from tests.lab import world


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[world.StoreLab]:
    monkeypatch.setattr(display.stdout, "_width", 300)
    with world.small_lab(tmp_path, monkeypatch) as lab:
        yield lab


def printed(*arguments: str | Path) -> str:
    """What a command that succeeds prints."""
    result = CliRunner().invoke(artifacts.app, list(map(str, arguments)))
    assert result.exit_code == 0, result.exception
    return result.output


def refused(*arguments: str | Path) -> str:
    """The sentence of a command that ends with a Problem."""
    result = CliRunner().invoke(artifacts.app, list(map(str, arguments)))
    assert isinstance(result.exception, Problem), result.output
    return str(result.exception)


def test_list_shows_what_is_absent_and_then_where_it_came_from(lab: world.StoreLab) -> None:
    before = printed("list")
    assert all(name in before for name in needed())
    assert f"{len(needed())} are not in the store yet" in before
    printed("fetch")
    after = printed("list")
    assert "absent" not in after
    for artifact in lab.store.fetch(world.VERSIONS):
        line = next(line for line in after.splitlines() if f" {artifact.name} " in line)
        assert artifact.digest[:12] in line
        assert artifact.origin in line
        assert artifact.source in line


def test_fetch_gets_only_what_the_runtime_needs(lab: world.StoreLab) -> None:
    assert f"{len(needed('docker'))} artifacts" in printed("fetch", "--runtime", "docker")
    assert "absent" in printed("list")
    assert "absent" not in printed("list", "--runtime", "docker")
    assert lab.store.verify().findings == ()


def test_verify_names_what_is_damaged_and_fetch_mends_it(lab: world.StoreLab) -> None:
    printed("fetch")
    assert "every byte is right" in printed("verify")
    kubelet = next(a for a in lab.store.fetch(world.VERSIONS) if a.name == "kubelet")
    kubelet.path.chmod(0o644)
    os.truncate(kubelet.path, 5)
    result = CliRunner().invoke(artifacts.app, ["verify"])
    assert isinstance(result.exception, Problem)
    assert "kubelet" in result.output
    assert "damaged" in result.output
    assert "artifacts fetch" in str(result.exception)
    printed("fetch")
    assert "every byte is right" in printed("verify")


def test_a_bundle_goes_out_and_comes_in(
    lab: world.StoreLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "stack.tar"
    output = printed("export", bundle)
    digest = output.split()[-1]
    with tarfile.open(bundle) as archive:
        assert archive.getnames()[0] == f"manifest/{digest}.json"
    lab.site.files.clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other home"))
    assert "--without-digest" in refused("import", bundle)
    assert "is no sha256" in refused("import", bundle, "--digest", digest[:12])
    assert "is another bundle" in refused("import", bundle, "--digest", "0" * 64)
    assert "contradict" in refused("import", bundle, "--digest", digest, "--without-digest")
    assert f"{len(needed())} are not in the store yet" in printed("list")
    assert "files are in the store" in printed("import", bundle, "--digest", digest.upper())
    assert "absent" not in printed("list")
    bundle.write_bytes(bundle.read_bytes()[:-20000])
    assert "nothing was imported" in refused("import", bundle, "--digest", digest)


def test_an_unknown_version_is_one_sentence_with_the_known_ones(lab: world.StoreLab) -> None:
    del lab
    for arguments in (["list"], ["fetch"], ["export", "x.tar"]):
        sentence = refused(*arguments, "--kubernetes", "1.12.0")
        assert "1.12.0" in sentence
        assert "1.37.1, 1.37.0" in sentence
    assert not Path("x.tar").exists()


def test_the_door_ends_a_problem_with_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no bundle")
    done = subprocess.run(
        [sys.executable, "-m", "ops", "artifacts", "import", "--without-digest", tmp_path / "file"],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "COLUMNS": "400"},
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "is no bundle" in done.stderr
    assert "artifacts export" in done.stderr


@pytest.mark.parametrize("verb", ["list", "verify", "fetch", "export", "import"])
def test_the_help_of_every_verb_teaches(verb: str) -> None:
    text = printed(verb, "--help")
    assert "artifacts" in text
    assert len(text.splitlines()) > 5
