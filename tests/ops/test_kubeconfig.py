"""A context comes into a person's kubeconfig and goes out of it; kubectl itself is the judge."""

import json
import os
import stat
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from certs.kubeconfig import kubeconfig
from lab.problem import Problem
from ops import kubeconfig as verb
from ops import kubeconfig_file
from ops.kubeconfig import merged, places, withdraw
from tests.plan.stored import stored

OWN = """\
# mine
preferences:
  colors: true
contexts:
- context:
    user: me
    cluster: work
    namespace: team
  name: work
current-context: work
kind: Config
apiVersion: v1
clusters:
- cluster:
    server: https://work.example:6443
    proxy-url: http://proxy.example
  name: work
users:
- name: me
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: login
      args: ["--code", "0123", '2024-01-01', 'yes']
      env: null
      interactiveMode: IfAvailable
extensions:
- name: note
  extension: {last-update: 2024-05-06 07:08:09, octal: 0123, truth: yes}
"""


def ours(server: str = "https://192.168.1.10:6443", key: str = "key one") -> str:
    return kubeconfig(
        cluster_name="dev",
        server=server,
        authority_pem="authority",
        certificate_pem="certificate",
        key_pem=key,
        user="admin",
    )


@pytest.fixture(scope="module")
def kubectl_is_stored() -> None:
    """The program is found before a test has another home, in which there is no store."""
    stored("kubectl")


@pytest.fixture(autouse=True)
def home(kubectl_is_stored: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(OWN)
    path.chmod(0o600)
    return path


def kubectl(*arguments: str, files: str | Path) -> str:
    """What the real program of the stack says, told of these files."""
    return subprocess.run(
        [stored("kubectl"), "config", *arguments],
        env={**os.environ, "KUBECONFIG": str(files)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def view(files: str | Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(kubectl("view", "--raw", "--output", "json", files=files))
    return value


def named(view: dict[str, Any], section: str, name: str) -> dict[str, Any] | None:
    return next((entry for entry in view[section] or () if entry["name"] == name), None)


def test_kubectl_finds_the_context_and_everything_that_was_there(own: Path) -> None:
    before = view(own)
    assert merged([own], own, "hardway-dev", ours()) == [own]
    after = view(own)
    assert kubectl("current-context", files=own).strip() == "hardway-dev"
    context = named(after, "contexts", "hardway-dev")
    assert context is not None
    assert context["context"] == {"cluster": "hardway-dev", "user": "hardway-dev"}
    cluster, user = (named(after, s, "hardway-dev") for s in ("clusters", "users"))
    assert cluster is not None
    assert user is not None
    assert cluster["cluster"]["server"] == "https://192.168.1.10:6443"
    assert user["user"]["client-key-data"] == b64encode(b"key one").decode()
    for section in ("contexts", "clusters", "users"):
        after[section].remove(named(after, section, "hardway-dev"))
    assert after | {"current-context": "work"} == before


def test_values_stay_as_they_were_written_and_in_their_order(own: Path) -> None:
    merged([own], own, "hardway-dev", ours())
    text = own.read_text()
    for kept in ("2024-05-06 07:08:09", "octal: 0123", "truth: yes", '"0123"', "'2024-01-01'"):
        assert kept in text
    assert list(yaml.safe_load(text)) == list(yaml.safe_load(OWN))


def test_out_again_it_is_as_it_was(own: Path) -> None:
    before = view(own)
    merged([own], own, "hardway-dev", ours())
    assert withdraw([own], "hardway-dev") == [own]
    after = view(own)
    assert after.pop("current-context") == ""
    before.pop("current-context")
    assert after == before
    assert withdraw([own], "hardway-dev") == []


def test_another_current_context_stays_on_request_and_when_ours_goes(own: Path) -> None:
    merged([own], own, "hardway-dev", ours(), keep_current=True)
    assert kubectl("current-context", files=own).strip() == "work"
    withdraw([own], "hardway-dev")
    assert kubectl("current-context", files=own).strip() == "work"


def test_a_second_time_changes_no_byte_and_a_new_cluster_replaces_the_old(own: Path) -> None:
    merged([own], own, "hardway-dev", ours())
    kubectl("set-context", "hardway-dev", "--namespace", "team", files=own)
    merged([own], own, "hardway-dev", ours())
    once = own.read_text()
    assert merged([own], own, "hardway-dev", ours()) == []
    assert own.read_text() == once
    kubectl("set-credentials", "hardway-dev", "--token", "old", files=own)
    merged([own], own, "hardway-dev", ours("https://192.168.1.20:6443", "key two"))
    after = view(own)
    assert len(after["clusters"]) == 2
    user = named(after, "users", "hardway-dev")
    cluster = named(after, "clusters", "hardway-dev")
    context = named(after, "contexts", "hardway-dev")
    assert user is not None
    assert user["user"]["client-key-data"] == b64encode(b"key two").decode()
    assert "token" not in user["user"]
    assert cluster is not None
    assert cluster["cluster"]["server"] == "https://192.168.1.20:6443"
    assert context is not None
    assert context["context"]["namespace"] == "team"


@pytest.mark.parametrize(
    "arguments",
    [
        ("set-cluster", "hardway-dev", "--insecure-skip-tls-verify"),
        ("set-cluster", "hardway-dev", "--proxy-url", "http://proxy.example"),
        ("set-cluster", "hardway-dev", "--tls-server-name", "other.example"),
        ("set-credentials", "hardway-dev", "--username", "me", "--password", "old"),
        ("set-credentials", "hardway-dev", "--exec-command", "login"),
    ],
)
def test_nothing_of_an_entry_from_before_stays_beside_the_new_authority(
    own: Path, arguments: tuple[str, ...]
) -> None:
    merged([own], own, "hardway-dev", ours())
    good = view(own)
    kubectl(*arguments, files=own)
    assert view(own) != good
    assert merged([own], own, "hardway-dev", ours()) == [own]
    assert view(own) == good


@pytest.mark.parametrize(
    "written",
    [
        OWN.replace("team\n", "team\t# a tab before it\n"),
        json.dumps(yaml.safe_load(OWN), default=str, indent="\t"),
        OWN.replace("kind: Config\n", "kind:\tConfig\n"),
        OWN + "---\nanother: document\n",
        OWN + "---\n",
        OWN + "...\n",
        "---\n" + OWN,
        "\ufeff" + OWN,
        OWN.replace("\n", "\r\n"),
        "---\n",
        "---\n---\na: 1\n",
        "# nothing\n",
    ],
)
def test_what_kubectl_reads_is_changed_and_all_of_it_stays(own: Path, written: str) -> None:
    own.write_bytes(written.encode())
    before = view(own)
    assert merged([own], own, "hardway-dev", ours(), keep_current=True) == [own]
    assert named(view(own), "users", "hardway-dev")
    assert ("another: document" in own.read_text()) == ("another: document" in written)
    assert withdraw([own], "hardway-dev") == [own]
    assert view(own) == before


def test_a_file_is_made_for_its_owner_alone(home: Path) -> None:
    files, default = places({})
    assert files == (home / ".kube" / "config",)
    merged(files, default, "hardway-dev", ours())
    assert stat.S_IMODE(default.stat().st_mode) == 0o600
    assert stat.S_IMODE(default.parent.stat().st_mode) == 0o700
    assert os.listdir(default.parent) == ["config"]
    assert kubectl("get-contexts", "--output", "name", files=default).split() == ["hardway-dev"]


def test_a_file_that_others_could_read_is_closed_and_stays_its_owners(own: Path) -> None:
    own.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(own, 1234, 1234)
    owner = own.stat().st_uid
    merged([own], own, "hardway-dev", ours())
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert own.stat().st_uid == owner


def test_a_symbolic_link_stays_one(own: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(own.name)
    merged([link], link, "hardway-dev", ours())
    assert link.is_symlink()
    assert named(view(own), "contexts", "hardway-dev")
    assert sorted(os.listdir(tmp_path)) == ["config", "link"]


@pytest.mark.parametrize(
    "content",
    [
        "clusters: [",
        "- a\n- b\n",
        "text",
        "kind: Pod\napiVersion: v1\n",
        "clusters: {a: b}\n",
        "users:\n- user: {}\n",
        "a: 1\n---\nb: [\n",
        "contexts: []\ncontexts: []\n",
        "\0\1",
        "\xc3(",
    ],
)
def test_what_is_no_kubeconfig_is_refused_and_untouched(content: str, own: Path) -> None:
    own.write_bytes(content.encode("latin-1"))
    with pytest.raises(Problem, match="left alone"):
        merged([own], own, "hardway-dev", ours())
    with pytest.raises(Problem, match="left alone"):
        withdraw([own], "hardway-dev")
    assert own.read_bytes() == content.encode("latin-1")
    assert os.listdir(own.parent) == ["config"]


@pytest.mark.parametrize(
    "written",
    [
        "",
        "apiVersion: v1\nkind: Config\nclusters: null\ncontexts: []\nusers:\n",
        '{"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}',
        json.dumps(yaml.safe_load(OWN), default=str),
    ],
)
def test_every_form_of_a_kubeconfig_is_taken(written: str, own: Path) -> None:
    own.write_text(written)
    before = kubectl("get-contexts", "--output", "name", files=own).split()
    merged([own], own, "hardway-dev", ours())
    after = kubectl("get-contexts", "--output", "name", files=own).split()
    assert sorted(after) == sorted([*before, "hardway-dev"])
    assert named(view(own), "users", "hardway-dev")
    withdraw([own], "hardway-dev")
    assert kubectl("get-contexts", "--output", "name", files=own).split() == before


@pytest.mark.parametrize(
    "entry",
    [
        {"contexts": [{"name": "hardway-dev", "context": {"cluster": "work", "user": "me"}}]},
        {"contexts": [{"name": "own", "context": {"cluster": "hardway-dev", "user": "me"}}]},
        {"contexts": [{"name": "own", "context": {"cluster": "work", "user": "hardway-dev"}}]},
    ],
)
def test_what_is_somebody_elses_is_not_taken_over(entry: dict[str, Any], own: Path) -> None:
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "Config"} | entry)
    own.write_text(text)
    with pytest.raises(Problem, match="--context"):
        merged([own], own, "hardway-dev", ours())
    assert own.read_text() == text


def test_what_another_context_has_come_to_use_stays(own: Path) -> None:
    merged([own], own, "hardway-dev", ours())
    kubectl("set-context", "mine", "--cluster", "hardway-dev", "--user", "me", files=own)
    withdraw([own], "hardway-dev")
    after = view(own)
    assert named(after, "clusters", "hardway-dev")
    assert named(after, "users", "hardway-dev") is None
    assert named(after, "contexts", "hardway-dev") is None


@pytest.mark.parametrize("there", [(), (0,), (1,), (0, 1), (1, 2)])
def test_of_several_files_the_one_that_kubectl_would_write_is_written(
    there: tuple[int, ...], tmp_path: Path
) -> None:
    def files(folder: str) -> list[Path]:
        (tmp_path / folder).mkdir()
        paths = [tmp_path / folder / str(number) for number in range(3)]
        for number in there:
            paths[number].write_text("apiVersion: v1\nkind: Config\n")
        return paths

    def changed(paths: list[Path]) -> list[str]:
        return [p.name for p in paths if p.exists() and "hardway-dev" in p.read_text()]

    theirs, mine = files("kubectl"), files("hardway")
    joined = os.pathsep.join(map(str, theirs))
    kubectl("set-cluster", "hardway-dev", files=joined)
    kubectl("set-context", "hardway-dev", files=joined)
    kubectl("use-context", "hardway-dev", files=joined)
    paths, default = places({"KUBECONFIG": os.pathsep.join(["", *map(str, mine), str(mine[0])])})
    merged(paths, default, "hardway-dev", ours())
    assert changed(mine) == changed(theirs)


def test_a_context_is_changed_in_the_file_that_has_it(tmp_path: Path, own: Path) -> None:
    second = tmp_path / "second"
    merged([second], second, "hardway-dev", ours(), keep_current=True)
    merged([own, second], own, "hardway-dev", ours(key="key two"))
    both = f"{own}{os.pathsep}{second}"
    user = named(view(both), "users", "hardway-dev")
    assert user is not None
    assert user["user"]["client-key-data"] == b64encode(b"key two").decode()
    assert named(view(own), "users", "hardway-dev") is None
    assert kubectl("current-context", files=both).strip() == "hardway-dev"
    assert withdraw([own, second], "hardway-dev") == [own, second]
    assert kubectl("get-contexts", "--output", "name", files=both).split() == ["work"]


def test_runs_at_the_same_time_lose_nothing(own: Path) -> None:
    def together(work: Callable[[int], object]) -> None:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    together(lambda number: merged([own], own, f"hardway-{number}", ours()))
    names = kubectl("get-contexts", "--output", "name", files=own).split()
    assert sorted(names) == sorted(["work", *(f"hardway-{number}" for number in range(8))])
    together(lambda number: withdraw([own], f"hardway-{number}"))
    assert kubectl("get-contexts", "--output", "name", files=own).split() == ["work"]
    assert os.listdir(own.parent) == ["config"]


def test_the_lock_is_kubectls(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kubeconfig_file.locked(own):
        with pytest.raises(subprocess.CalledProcessError) as refused:
            kubectl("use-context", "work", files=own)
        assert "config.lock" in refused.value.stderr
    monkeypatch.setattr(kubeconfig_file, "LOCK_SECONDS", 0.1)
    (own.parent / "config.lock").touch()
    with pytest.raises(Problem, match=r"remove .*config\.lock"):
        merged([own], own, "hardway-dev", ours())
    assert own.read_text() == OWN


def test_where_it_cannot_be_written_whole_the_old_file_is_there(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        merged([own], own, "hardway-dev", ours())
    assert own.read_text() == OWN
    assert os.listdir(own.parent) == ["config"]


def test_the_verb_removes_without_any_stack(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    app = typer.Typer()
    verb.register(app)
    monkeypatch.setenv("KUBECONFIG", str(own))
    merged([own], own, "hardway-gone", ours())
    assert CliRunner().invoke(app, ["--stack", "gone", "--remove"]).exit_code == 0
    assert kubectl("get-contexts", "--output", "name", files=own).split() == ["work"]
    both = CliRunner().invoke(app, ["--merge", "--remove"])
    assert isinstance(both.exception, Problem)
