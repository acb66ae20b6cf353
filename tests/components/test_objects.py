"""What the provider of the objects' comparison makes of an API that does not answer."""

from typing import Any

import pytest

from components import guarding
from components.guarding import Drifted
from components.objects import ObjectsProvider
from plan import addons
from plan.contents import OBJECTS, STEPS, StepCommand, packed
from plan.model import Kubeconfig
from tests.plan.golden import golden_spec
from tests.plan.running import Keys
from tests.ports import free_port

STEP = StepCommand(name="add-ons-apply", line="true", data="true\n", seconds=9, secret=True)


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    """The state of an object that differed when the API answered last; nobody listens there now."""
    spec = golden_spec("default")
    keys = Keys(spec)
    source = Kubeconfig(addons.ADMIN, f"https://127.0.0.1:{free_port()}")
    return {
        "differs": {"object ConfigMap kube-system/coredns": "as it was seen last"},
        "kubeconfig": keys.content(source, keys.of_people()),
        "login": "{}",
        "objects": packed(OBJECTS, addons.declared(spec)),
        "steps": packed(STEPS, (STEP,)),
        "repairs": 0,
    }


def test_a_refresh_warns_and_keeps_what_was_seen_last(
    state: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = ObjectsProvider().read("id", state)
    assert (result.id, result.outs, result.inputs) == ("id", state, None)
    printed = capsys.readouterr().out
    assert printed.startswith("warning: https://127.0.0.1:")
    assert "cannot be reached (Connection refused), so nobody knows what the API holds" in printed
    assert len(printed.splitlines()) == 1


def test_what_another_checkout_declared_ends_no_refresh(
    state: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    changed = state | {"objects": "what nobody reads any more"}
    assert ObjectsProvider().read("id", changed).outs == changed
    assert capsys.readouterr().out.startswith("warning: the API was not asked, since its plan was")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, in seconds, of which nobody waits for any."""
    made: list[float] = []
    monkeypatch.setattr(guarding, "pause", made.append)
    monkeypatch.setattr(guarding, "ATTEMPTS", 3)
    return made


def test_a_repair_asks_several_times_and_says_why_it_cannot_go_on(
    state: dict[str, Any], pauses: list[float]
) -> None:
    checked = ObjectsProvider().check({}, state).inputs
    with pytest.raises(Drifted, match=r"Connection refused\), so its objects cannot be compared"):
        ObjectsProvider().update("id", state, checked)
    assert pauses == [guarding.PAUSE] * 2


def test_an_update_in_which_nothing_is_known_to_differ_goes_on(
    state: dict[str, Any], pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    result = ObjectsProvider().create(ObjectsProvider().check({}, state).inputs)
    assert result.outs is not None
    assert (result.outs["repairs"], pauses) == (0, [guarding.PAUSE] * 2)
    printed = capsys.readouterr().out
    assert printed.startswith("warning: https://127.0.0.1:")
    assert printed.endswith("cannot be compared; ./hardway drift compares them later\n")
