"""``kubectl`` through the door: the real program, in a network with nothing in it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from certs.kubeconfig import kubeconfig
from certs.table import Authority
from lab.paths import LabPaths
from ops import kubectl as verb
from tests.certs.clusters import PEOPLE, made
from tests.plan.stored import as_root, stored

API, PROXY = "192.0.2.1", "http://192.0.2.9:3128"

PROGRAM = """#!/bin/sh
echo "$NO_PROXY $no_proxy" >>{seen}
exec unshare --net {program} --request-timeout=10s "$@" 2>>{seen}
"""


@pytest.fixture
def seen(tmp_path: Path, paths: LabPaths, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``kubectl`` was given, and what it said in a network without any other computer."""
    seen = tmp_path / "seen"
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "kubectl").write_text(PROGRAM.format(seen=seen, program=stored("kubectl")))
    (folder / "kubectl").chmod(0o755)
    world = made("single")
    pair = world.bundles[PEOPLE].pairs["admin"]
    config = kubeconfig(
        cluster_name="dev",
        server=f"https://{API}:6443",
        authority_pem=world.authorities.signers[Authority.KUBERNETES].certificate,
        certificate_pem=pair.certificate,
        key_pem=pair.key,
        user="admin",
    )
    reached = SimpleNamespace(spec=None, kubeconfig=config)
    monkeypatch.setattr(verb, "reach", lambda _: reached)
    monkeypatch.setattr(verb, "lab_paths", lambda: paths)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    return seen


def run() -> None:
    app = typer.Typer()
    verb.register(app)
    CliRunner().invoke(app, ["kubectl", "get", "--raw", "/readyz"])


@as_root
def test_the_api_is_asked_without_the_persons_proxy(seen: Path) -> None:
    run()
    log = seen.read_text()
    assert f"dial tcp {API}:6443" in log, log
    assert "proxyconnect" not in log


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_what_a_person_asks_without_a_proxy_stays(
    seen: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "example.com,.internal")
    run()
    given, lower = seen.read_text().splitlines()[0].split()
    assert given == lower == f"example.com,.internal,{API}"
