"""The door: help that teaches, and one sentence where something is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.cache import Cache
from lab.paths import PROJECT


def hardway(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROJECT / "hardway", *arguments],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


VERBS = (
    "up",
    "down",
    "status",
    "preview",
    "validate",
    "drift",
    "hosts",
    "addons",
    "backup",
    "restore",
    "kubeconfig",
    "ssh",
    "diagnose",
    "env",
    "doctor",
    "artifacts",
    "bench",
    "picture",
    "test",
)


def test_help_names_every_verb_and_where_to_start() -> None:
    help_text = hardway("--help").stdout
    for verb in (*VERBS, "pulumi", "kubectl"):
        assert re.search(rf"^\W*{verb}\s", help_text, re.MULTILINE), verb
    assert "Start here" in help_text
    assert "--install-completion" in help_text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    done = hardway(verb, "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 5
    if verb not in ("artifacts", "hosts", "backup"):  # whose own verbs have them
        assert re.search(rf"Examples?: .*\./hardway {verb}\b|Example: eval", done.stdout)


@pytest.mark.parametrize("verb", ["list", "verify", "fetch", "export", "import"])
def test_a_verb_of_the_artifacts_shows_an_example(verb: str) -> None:
    assert f"Example: ./hardway artifacts {verb}" in hardway("artifacts", verb, "--help").stdout


@pytest.mark.parametrize("verb", ["check", "scan"])
def test_a_verb_of_the_hosts_shows_examples(verb: str) -> None:
    assert f"Examples: ./hardway hosts {verb}" in hardway("hosts", verb, "--help").stdout


@pytest.mark.parametrize("verb", ["pulumi", "kubectl"])
@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_a_verb_that_passes_its_words_on_explains_itself_without_a_lab(
    verb: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    empty = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_STATE_HOME": str(tmp_path / "state")}
    (tmp_path / "cache" / "hardway").mkdir(parents=True)
    (tmp_path / "cache" / "hardway" / "venvs").symlink_to(Cache().root / "venvs")
    done = hardway(verb, *arguments, **empty, HARDWAY_LAB="empty")
    assert done.returncode == 0, done.stderr
    help_text = " ".join(done.stdout.split())
    assert re.search(rf"Examples?: .*\./hardway {verb}\b", help_text)
    assert f"./hardway {verb} help" in help_text
    assert not (tmp_path / "state").exists(), "nothing is made"


@pytest.mark.engine
@pytest.mark.parametrize("arguments", [("help",), ("up", "--help"), ("stack", "ls", "-h")])
def test_pulumis_own_help_needs_no_stack_and_no_lab(
    arguments: tuple[str, ...], tmp_path: Path, toolchain: object
) -> None:
    del toolchain
    own = {"XDG_STATE_HOME": str(tmp_path), "HARDWAY_LAB": "empty", "PULUMI_STACK": "nosuch"}
    done = hardway("pulumi", *arguments, **own)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_kubectls_own_help_needs_no_lab(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "kubectl was given: $*"\n')
    program.chmod(0o755)
    own = {"XDG_STATE_HOME": str(tmp_path / "state"), "HARDWAY_LAB": "empty"}
    path = f"{program.parent}:{os.environ['PATH']}"
    for arguments in (("help",), ("get", "--help"), ("get", "pods", "-h")):
        done = hardway("kubectl", *arguments, **own, PATH=path)
        assert done.stdout == f"kubectl was given: {' '.join(arguments)}\n", done.stderr
    done = hardway("kubectl", "exec", "pod", "--", "ls", "--help", **own, PATH=path)
    assert done.returncode == 1, "the words of the pod's program"
    assert done.stdout == ""


def test_modules_of_the_folder_in_which_it_is_called_are_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor those of the programs that it starts, such as another checkout's."""
    for package in ("ops", "lab"):
        (tmp_path / package).mkdir()
        for module in ("__init__", "__main__"):
            (tmp_path / package / f"{module}.py").write_text("raise SystemExit('not this')\n")
    monkeypatch.chdir(tmp_path)
    done = hardway("--help")
    assert (done.returncode, done.stderr) == (0, "")
    program = tmp_path / "kubectl"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import lab; print(lab.__file__)'\n")
    program.chmod(0o755)
    done = hardway("kubectl", "help", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.stdout == f"{PROJECT}/lab/__init__.py\n", done.stderr


@pytest.mark.parametrize("verb", [*VERBS, "pulumi", "kubectl"])
def test_a_verb_is_in_the_one_module_that_is_loaded_for_it(verb: str) -> None:
    program = (
        "import sys; from ops.__main__ import app, register; import typer; register(sys.argv[1:]);"
        "print(*typer.main.get_command(app).commands); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--option", verb, "word"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    verbs, modules = done.stdout.splitlines()
    assert verb in verbs.split()
    assert len(verbs.split()) < 4
    if verb in ("up", "pulumi"):
        assert "httpx" not in modules.split(), "what they seldom need"


def test_completion_offers_the_verbs() -> None:
    done = hardway(_HARDWAY_COMPLETE="complete_bash", COMP_WORDS="hardway do", COMP_CWORD="1")
    assert done.stdout.split() == ["down", "doctor"] or set(done.stdout.split()) == {
        "down",
        "doctor",
    }


def one_sentence(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    message = " ".join(done.stderr.split())
    assert message.startswith("Error: ")
    assert message.endswith(".")
    return message


def test_an_unknown_stack_is_refused_with_the_known_ones() -> None:
    message = one_sentence(hardway("up", "--stack", "nosuch"))
    assert "Pulumi.nosuch.yaml" in message
    assert "dev" in message


def test_a_mistake_in_the_stack_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    file = PROJECT / "Pulumi.mistaken.yaml"
    file.write_text(
        "config:\n  hardway:cluster:\n    networks: {machines: 192.168.1.0/24}\n"
        "    machines: {m: {address: 10.0.0.1}}\n"
    )
    try:
        message = one_sentence(
            hardway("up", "--stack", "mistaken", XDG_STATE_HOME=str(tmp_path / "state"))
        )
        assert "machines.m.address 10.0.0.1 is outside" in message
        assert not (tmp_path / "state").exists()
    finally:
        file.unlink()


@pytest.mark.parametrize(
    ("verb", "arguments", "code"),
    [("validate", (), 3), ("drift", (), 3), ("kubectl", ("get", "nodes"), 1)],
)
def test_what_cannot_be_asked_is_neither_broken_nor_drifted(
    verb: str, arguments: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    own = {"XDG_STATE_HOME": str(tmp_path), "HARDWAY_LAB": "empty"}
    message = one_sentence(hardway(verb, "--stack", "nosuch", *arguments, **own), code)
    assert "Pulumi.nosuch.yaml" in message
    if Path("/run/libvirt/libvirt-sock").exists():
        pytest.skip("a libvirt of this host answers")
    assert "'empty' does not run" in one_sentence(hardway(verb, *arguments, **own), code)


def test_a_lab_name_that_cannot_be_one_is_refused() -> None:
    assert "at most 8" in one_sentence(hardway("status", HARDWAY_LAB="Not A Name"))


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "hardway").write_text("a file where the cache should be")
    done = hardway("status", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(tmp_path) in done.stderr


def test_doctor_prints_every_check_and_agrees_with_its_exit_code(tmp_path: Path) -> None:
    done = hardway("doctor", XDG_STATE_HOME=str(tmp_path))
    for subject in ("system", "user", "packages", "Go", "Pulumi", "disk", "memory", "libvirt"):
        assert subject in done.stdout, done.stderr
    assert done.returncode == ("problem" in done.stdout)


def test_status_of_an_empty_lab_says_so(tmp_path: Path) -> None:
    done = hardway("status", XDG_STATE_HOME=str(tmp_path), HARDWAY_LAB="empty")
    assert done.returncode == 0, done.stderr
    assert "none runs" in done.stdout
    assert re.search(r"certificates\W+none ends soon", done.stdout)


def test_every_command_that_the_documents_name_is_there() -> None:
    text = "\n".join((PROJECT / name).read_text() for name in ("README.md", "docs/architecture.md"))
    help_text = hardway("--help").stdout
    verbs = set(re.findall(r"\./hardway ([a-z-]*[a-z])", text))
    assert len(verbs) > 10
    for verb in verbs:
        assert re.search(rf"^\W*{verb}\s", help_text, re.MULTILINE), verb
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z]+)", text, re.MULTILINE))
    assert {"up", "down", "test"} <= named <= targets
