"""A step as text: what a machine's shell reads, and what systemd makes of a unit."""

import configparser
import shlex
import subprocess
from pathlib import Path

import pytest

from plan import render, unit
from plan.model import Artifact, Certificate, File, Link, SecretFile, Step, Unit

STEP = Step(
    name="sample",
    files=(File(path="/etc/sample", content="one $HOME `two`\nEND\n\\three\n"),),
    links=(Link(path="/usr/local/bin/it's", target="/x y"),),
    settings={"words": "a 'b' $c"},
)
SECRET = Step(
    name="identity",
    secret_files=(SecretFile(path="/etc/key", source=Certificate("apiserver")),),
)


def _bash(text: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", *words], input=text, capture_output=True, text=True
    )


def test_a_text_is_valid_shell_and_one_that_was_cut_off_does_nothing(tmp_path: Path) -> None:
    text = render.text(STEP).replace("/var/lib/hardway", str(tmp_path / "state"))
    assert _bash(text, "-n").returncode == 0
    for end in range(0, len(text) - 2, 97):
        cut = _bash(text[:end])
        assert not (tmp_path / "state").exists(), text[:end]
        assert cut.stdout == ""


def test_content_arrives_byte_for_byte_whatever_is_in_it() -> None:
    words = "file() { printf '%s ' \"$@\" >&2; cat; }; "
    line = next(line for line in render._words(STEP, None) if line.startswith("file"))
    done = _bash(words + line + "\n")
    assert done.stdout == STEP.files[0].content
    assert done.stderr == "0600 root:root /etc/sample "


def test_words_and_settings_survive_quoting() -> None:
    line = next(line for line in render._words(STEP, None) if line.startswith("link"))
    assert shlex.split(line) == ["link", "/usr/local/bin/it's", "/x y"]
    done = _bash("\n".join(render._ending(STEP)) + '\nprintf %s "$words"\n')
    assert done.stdout == STEP.settings["words"]


@pytest.mark.parametrize("content", ["no end", "nul\0\n", ""])
def test_what_cannot_be_sent_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="newline"):
        render.text(Step(name="x", files=(File(path="/x", content=content),)))


def test_a_secret_step_needs_its_keys_and_is_not_kept_on_the_machine() -> None:
    with pytest.raises(ValueError, match="needs keys"):
        render.text(SECRET)
    text = render.text(SECRET, lambda source: f"{source}\n")
    assert "Certificate(name='apiserver')" in text
    assert render.KEPT not in text
    assert _bash(text, "-n").returncode == 0


def test_systemd_reads_back_the_words_that_were_given(tmp_path: Path) -> None:
    words = ("a b", "50%", "$HOME", 'say "x"', "back\\slash", "a;b", "it's")
    path = tmp_path / "sample.service"
    sample = Unit(
        name=path.name,
        description="Sample",
        program="/bin/echo",
        flags={"name": "a value"},
        arguments=words,
        environment={"HOME": "/x"},
    )
    path.write_text(unit.text(sample))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True
    )
    assert said.stderr == ""
    parsed = configparser.RawConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit.text(sample).replace("\\\n", ""))
    line = parsed["Service"]["ExecStart"].replace("%%", "%").replace("$$", "$")
    assert shlex.split(line) == ["/bin/echo", "--name=a value", *words]


def test_an_artifact_is_named_by_its_digest() -> None:
    artifact = Artifact(
        name="etcd", version="1", kind="binary", sha256="a" * 64, urls=("http://m",)
    )
    line = render._artifact(artifact)
    assert shlex.split(line) == ["artifact", "etcd", "a" * 64, "0555", "http://m"]
