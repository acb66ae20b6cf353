"""A step as data: what a machine makes of them, and what systemd makes of a unit."""

import configparser
import grp
import os
import pwd
import shlex
import subprocess
from pathlib import Path

import pytest

from plan import render, unit
from plan.model import Artifact, Certificate, Directory, File, Link, SecretFile, Step, Unit
from plan.things import artifact as artifacts
from tests.plan import inline

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


def test_data_that_were_cut_off_do_nothing(tmp_path: Path) -> None:
    data = render.text(STEP)

    def run(cut: str) -> subprocess.CompletedProcess[str]:
        return inline.run_step(
            cut, tmp_path, lambda text: text.replace("/var/lib/hardway", str(tmp_path / "state"))
        )

    for end in range(0, len(data) - 1, 37):
        done = run(data[:end])
        assert not (tmp_path / "state").exists(), data[:end]
        assert (done.returncode, done.stdout) == (1, "")
        assert render.failure(done.stderr) == (
            "the data of the step did not come whole; run the same again"
        )


def test_all_arrives_byte_for_byte_whatever_is_in_it(tmp_path: Path) -> None:
    owner = f"{pwd.getpwuid(os.getuid()).pw_name}:{grp.getgrgid(os.getgid()).gr_name}"
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "shows.sh").write_text('printf "%s|" "$some" "$other" "$empty"\n')
    content = "  one $HOME `two`\nEND\n\n\\three\tx \nend\nfile\t0600\n"
    settings = {"some": "a 'b' $c", "other": " two\n\n\tlines", "empty": ""}
    data = render.text(
        Step(
            name="sample",
            directories=(Directory(path="/srv", owner=owner),),
            files=(File(path="/srv/it's a file", content=content, owner=owner),),
            links=(Link(path="/srv/it's", target="/x y"),),
            settings=settings,
            begin="identity",
        )
    ).replace("run\tidentity", "run\tshows")

    def here(text: str) -> str:
        return text.replace("/var/lib/hardway", f"{tmp_path}/state").replace(
            "/srv", f"{tmp_path}/srv"
        )

    done = inline.run_step(data, tmp_path, here)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"{value}|" for value in settings.values())
    assert (tmp_path / "srv" / "it's a file").read_text() == content
    assert (tmp_path / "srv" / "it's").readlink() == Path("/x y")
    assert (tmp_path / "state" / "steps" / "sample").read_text() == here(data)


@pytest.mark.parametrize("field", ["a\tb", "a\nb"])
def test_a_field_with_a_tab_or_a_newline_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="tab or a newline"):
        render.text(Step(name="x", links=(Link(path="/x", target=field),)))


@pytest.mark.parametrize("content", ["no end", "nul\0\n", "joins\1\n", ""])
def test_what_cannot_be_sent_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="newline"):
        render.text(Step(name="x", files=(File(path="/x", content=content),)))


def test_a_secret_step_needs_its_keys() -> None:
    with pytest.raises(ValueError, match="needs keys"):
        render.text(SECRET)
    text = render.text(SECRET, lambda source: f"{source}\n")
    assert "Certificate(name='apiserver')" in text


@pytest.mark.parametrize("secret", [True, False])
def test_a_secret_step_is_not_kept_on_the_machine(tmp_path: Path, secret: bool) -> None:
    owner = f"{pwd.getpwuid(os.getuid()).pw_name}:{grp.getgrgid(os.getgid()).gr_name}"
    key = SecretFile(path="/srv/key", source=Certificate("apiserver"), owner=owner)
    plain = File(path="/srv/plain", content="plain\n", owner=owner)
    step = Step(name="sample", secret_files=(key,) if secret else (), files=(plain,))

    def here(text: str) -> str:
        return text.replace("/var/lib/hardway", f"{tmp_path}/state").replace(
            "/srv", f"{tmp_path}/srv"
        )

    done = inline.run_step(render.text(step, lambda _: "hidden\n"), tmp_path, here)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "srv" / "key").exists() == secret
    assert (tmp_path / "state" / "steps" / "sample").exists() != secret
    files = (path for path in tmp_path.rglob("*") if path.is_file())
    assert {path.name for path in files if "hidden" in path.read_text()} == (
        {"key"} if secret else set()
    )


def test_systemd_reads_back_the_words_that_were_given(tmp_path: Path) -> None:
    arguments = ("a b", "50%", "$HOME", 'say "x"', "back\\slash", "a;b", "it's")
    path = tmp_path / "sample.service"
    sample = Unit(
        name=path.name,
        description="Sample",
        program="/bin/echo",
        flags={"name": "a value"},
        arguments=arguments,
        environment={"HOME": "/x"},
    )
    path.write_text(unit.text(sample))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True
    )
    assert verified.stderr == ""
    parsed = configparser.RawConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit.text(sample).replace("\\\n", ""))
    line = parsed["Service"]["ExecStart"].replace("%%", "%").replace("$$", "$")
    assert shlex.split(line) == ["/bin/echo", "--name=a value", *arguments]


def test_an_artifact_is_named_by_its_digest() -> None:
    artifact = Artifact(
        name="etcd", version="1", kind="binary", sha256="a" * 64, urls=("http://m",)
    )
    (line,) = artifacts.KIND.records(Step(name="s", artifacts=(artifact,)), None)
    assert line == f"artifact\tetcd\t{'a' * 64}\t0555\thttp://m\n"
