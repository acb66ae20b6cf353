"""``addons`` and the ways to an add-on's page: what a person and a program get to see."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from lab.problem import Problem
from ops import addons as module
from ops import expose, lifecycle
from ops.exit_codes import failure
from plan.addons.add_on import Page
from plan.addons.catalogue import ADD_ONS
from probe.access import Access
from probe.usage import PodMemory
from probe.watch import Outcome
from spec.cluster import Cluster
from tests.certs.clusters import SINGLE
from tests.plan import own_add_on
from tests.plan.shell import cluster

MEBIBYTE = 2**20


@dataclass
class StackOfTest:
    name: str = "lab2"


@dataclass
class ReachedForAddons:
    spec: Cluster
    access: Access = field(default_factory=lambda: Access(machines={}, ssh_key="none"))
    stack: StackOfTest = field(default_factory=StackOfTest)
    unapplied: str | None = None
    kubeconfig: str = "none"


def listed(
    monkeypatch: pytest.MonkeyPatch, spec: Cluster, *arguments: str, fails: str = ""
) -> Result:
    """The command's output where all conditions but one hold."""

    def outcomes(asked: Any, *_: object, **__: object) -> tuple[Outcome, ...]:
        return tuple(
            Outcome(name=row.name, holds=row.name != fails, seconds=0, error="[why]")
            for row in asked
        )

    async def memories(*_: object) -> dict[str, PodMemory]:
        return {"coredns": PodMemory(pods=2, used=46 * MEBIBYTE, limit=340 * MEBIBYTE)}

    monkeypatch.setattr(module, "reach", lambda _: ReachedForAddons(spec))
    monkeypatch.setattr(module, "run_watch", outcomes)
    monkeypatch.setattr(module, "_memories", memories)
    monkeypatch.setattr(module, "stdout", Console(highlight=False, width=300, height=100))
    app = typer.Typer()
    app.callback()(lambda: None)
    module.register(app)
    return CliRunner().invoke(app, ["addons", *arguments])


def rows(output: str) -> dict[str, str]:
    """Name of each add-on to its row, without the lines of the table."""
    lines = [" ".join(line.replace("│", " ").split()) for line in output.splitlines()]
    return {
        line.split()[0]: line for line in lines if line.split()[:1] and line.split()[0] in ADD_ONS
    }


def test_each_add_on_has_a_row_with_its_state_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    done = listed(monkeypatch, SINGLE)
    assert done.exit_code == 0, done.output
    shown = rows(done.stdout)
    assert shown.keys() == ADD_ONS.keys()
    assert "on, works" in shown["coredns"]
    assert "46 of 340 MiB in 2 pods" in shown["coredns"]
    assert shown["storage"].endswith("off")


def test_one_that_does_not_work_says_why_and_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = listed(monkeypatch, SINGLE, fails="dns")
    assert done.exit_code == 2
    assert "on, fails" in rows(done.stdout)["coredns"]
    assert "dns: [why]" in done.stdout
    assert failure(["addons"]) == 3, "nothing was asked"


def test_a_program_gets_json_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    states = json.loads(listed(monkeypatch, SINGLE, "--json", fails="dns").stdout)
    assert [state["name"] for state in states] == list(ADD_ONS)
    (coredns,) = (state for state in states if state["name"] == "coredns")
    assert coredns["is_on"] is True
    assert coredns["faults"] == ["dns: [why]"]
    assert coredns["memory"] == {"pods": 2, "used": 46 * MEBIBYTE, "limit": 340 * MEBIBYTE}


# -- pages -----------------------------------------------------------------------------------------


@pytest.fixture
def with_page(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster with an add-on of the test's own, which has a page."""
    own_add_on.add(monkeypatch)
    return cluster(addons={own_add_on.NAME: True})


Open = Callable[..., Result]


@pytest.fixture
def open_(monkeypatch: pytest.MonkeyPatch) -> Open:
    """``open`` on a cluster, where each Service is exposed at port 8080."""

    def run(spec: Cluster, *arguments: str, printed: bool = True) -> Result:
        def exposed(stack: str, namespace: str, service: str, port: str | None) -> expose.Exposed:
            asked.append((stack, namespace, service, port))
            return expose.Exposed(host="127.0.0.1", port=8080, is_https=False)

        asked: list[Any] = []
        monkeypatch.setattr(expose, "_exposed", exposed)
        monkeypatch.setattr(expose, "opened", lambda _: ReachedForAddons(spec))
        app = typer.Typer()
        app.callback()(lambda: None)
        expose.register(app)
        done = CliRunner().invoke(app, ["open", *(["--print"] if printed else []), *arguments])
        done.asked = asked  # type: ignore[attr-defined]
        return done

    return run


@pytest.mark.parametrize("name", ["echo_once", "echo-once"])
def test_an_add_on_is_opened_by_its_name(open_: Open, with_page: Cluster, name: str) -> None:
    done = open_(with_page, name)
    assert done.stdout == "http://127.0.0.1:8080/heard\n"
    assert done.asked == [("dev", "kube-system", "echo", "80")]  # type: ignore[attr-defined]


def test_a_page_at_a_nodes_own_port_is_opened_there(
    open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expose, "_entered", lambda *_: None)
    done = open_(cluster(addons={"ingress": True}), "ingress")
    assert done.stdout == "http://192.168.1.10:80/\n"
    assert done.asked == []  # type: ignore[attr-defined]


def test_a_token_for_a_login_is_a_line_of_its_own_and_goes_unasked_to_terminals_alone(
    open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = cluster(addons={"dashboard": True})
    accounts = []

    def page_token(_reached: object, page: Page) -> str:
        accounts.append(page.account)
        return "a.new.token"

    monkeypatch.setattr(expose, "page_token", page_token)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    url = "http://127.0.0.1:8080/"
    assert open_(spec, "dashboard").stdout.splitlines() == [url, "a.new.token"]
    assert accounts == ["dashboard-login"]
    assert open_(spec, "dashboard", printed=False).stdout.splitlines() == [url]
    assert len(accounts) == 1, "none is made that nobody sees"
    monkeypatch.setattr(expose, "_is_terminal", lambda: True)
    shown = open_(spec, "dashboard", printed=False).stdout.splitlines()
    assert shown == [url, "a.new.token"]


def test_a_password_for_a_login_is_what_the_secret_in_the_cluster_says(
    open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class ApiOfTest:
        async def json(self, path: str) -> dict[str, Any]:
            asked.append(path)
            return {"data": {"password": b64encode(b"sesame").decode(), "token": "x"}}

    monkeypatch.setattr(expose, "_entered", lambda *_: None)
    monkeypatch.setattr(expose, "_answered", lambda _r, _e, ask: asyncio.run(ask(ApiOfTest())))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    spec, url = cluster(addons={"notebooks": True}), "https://192.168.1.10:8000/"
    assert open_(spec, "notebooks").stdout.splitlines() == [url, "sesame"]
    assert asked == ["/api/v1/namespaces/hardway-notebooks/secrets/jupyterhub"]
    assert open_(spec, "notebooks", printed=False).stdout.splitlines() == [url]
    assert len(asked) == 1, "nobody sees it"


@pytest.mark.parametrize("more", [("80",), ("--namespace", "default")])
def test_a_service_of_an_add_ons_name_is_opened_by_its_port_or_namespace(
    open_: Open, with_page: Cluster, more: tuple[str, ...]
) -> None:
    done = open_(with_page, "echo_once", *more)
    assert done.stdout == "http://127.0.0.1:8080/\n"
    assert done.asked[0][:3] == ("dev", "default", "echo_once")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("storage", r"^the add-on storage is off: write storage: true under addons in Pulumi\.dev"),
        ("coredns", r"^the add-on coredns has no page to open: see \./hardway addons"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(open_: Open, name: str, sentence: str) -> None:
    with pytest.raises(Problem, match=sentence):
        raise open_(SINGLE, name).exception or AssertionError


def test_up_ends_with_the_urls_of_the_pages(
    monkeypatch: pytest.MonkeyPatch, with_page: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(expose, "page_url", lambda stack, page: f"http://{stack}{page.path}")
    lifecycle._print_pages("dev", with_page)
    assert capsys.readouterr().out == "echo_once: http://dev/heard\n"

    def fails(*_: object) -> str:
        raise Problem("no node is ready", "see ./hardway validate")

    monkeypatch.setattr(expose, "page_url", fails)
    lifecycle._print_pages("dev", with_page)
    assert capsys.readouterr().out == "echo_once: no node is ready: see ./hardway validate.\n"
    lifecycle._print_pages("dev", SINGLE)
    assert capsys.readouterr().out == ""
