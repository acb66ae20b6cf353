"""What a guard's provider makes of states that are not its own."""

import asyncio
import hashlib
import json
import lzma
import zlib
from base64 import b64encode
from collections.abc import Collection
from typing import Any

import pytest
from pulumi.runtime import rpc

from components.guard import GuardProvider, login, mended
from components.guarding import Drifted, demand
from plan.contents import ITEMS, STEPS, Contents, StepCommand, Unreadable, packed, unpacked
from plan.item import LEADS, Item, Kind
from probe.machines import Done
from probe.observation import ALL
from probe.vxlan import NOWHERE

ITEM = Item(kind=Kind.FILE, name="/etc/one", wanted="sha256:1 0600 root:root", step="one")
ONE = StepCommand(name="one", line="true", data="true\n" * 9, seconds=9, secret=True)
WHOLE = Contents(items=(ITEM,), steps=(ONE,))
WORDS = b"the words with which every step began on another day"


def _shortened(text: str) -> str:
    compressor = zlib.compressobj(zdict=WORDS)
    return b64encode(compressor.compress(text.encode()) + compressor.flush()).decode()


def _older() -> list[str]:
    """As plans were packed with a dictionary, and as items and steps were packed together."""
    items = ITEMS.dump_python((ITEM,), mode="json")
    steps = STEPS.dump_python((ONE,), mode="json")
    shortened = {"items": _shortened(json.dumps(items)), "texts": {ONE.name: ONE.data}}
    together = lzma.compress(json.dumps({"items": items, "steps": steps}).encode())
    return [json.dumps(shortened), b64encode(together).decode()]


def _state(items: str) -> dict[str, Any]:
    # Nobody is asked at this address: what cannot be read is known before.
    access = {"address": "127.0.0.1", "port": 1, "host_key": "none"}
    return {
        "differs": {ITEM.key: "as it was seen last"},
        "login": login("master", access, "no key"),
        "items": items,
        "secrets": "{}",
        "repairs": 0,
    }


def test_what_was_packed_comes_back_whatever_the_words_of_steps_are() -> None:
    assert unpacked(ITEMS, packed(ITEMS, WHOLE.items)) == WHOLE.items
    assert unpacked(STEPS, packed(STEPS, WHOLE.steps)) == WHOLE.steps


@pytest.mark.parametrize("items", [*_older(), "", "no base64!", b64encode(b"no xz").decode()])
def test_a_plan_of_another_checkout_ends_no_refresh(
    items: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state = _state(items)
    result = GuardProvider().read("id", state)
    assert (result.id, result.outs, result.inputs) == ("id", state, None)
    printed = capsys.readouterr().out
    assert printed.startswith("warning: master was not asked, since its plan was kept by another")
    with pytest.raises(Unreadable):
        unpacked(ITEMS, items)


def test_a_plan_of_an_earlier_program_ends_no_refresh(
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = _state("")
    del state["items"]
    earlier = state | {"plan": "items and steps in one text"}
    assert GuardProvider().read("id", earlier).outs == earlier
    assert "was not asked" in capsys.readouterr().out


SECRETS = {"login", "items", "steps", "secrets"}


def _inputs() -> dict[str, Any]:
    state = _state(packed(ITEMS, WHOLE.items)) | {"steps": packed(STEPS, WHOLE.steps)}
    return {name: value for name, value in state.items() if name != "repairs"}


def test_a_state_has_no_steps_and_all_else_that_is_secret_once() -> None:
    provider, inputs = GuardProvider(), _inputs()
    checked = provider.check({}, inputs).inputs
    assert {name for name in inputs if len(str(checked[name])) == 64} == SECRETS
    assert provider.whole(checked) == inputs
    outputs = provider.outputs(checked)
    assert outputs["steps"] == checked["steps"]
    assert {name for name in inputs if outputs[name] != inputs[name]} == {"steps"}
    assert provider.inputs(outputs) == checked


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_each_secret_that_changes_is_a_difference(name: str) -> None:
    provider, inputs = GuardProvider(), _inputs()
    checked = provider.check({}, inputs).inputs
    outputs = provider.outputs(checked)
    assert not provider.diff("id", outputs, checked).changes
    others = provider.check(checked, inputs | {name: packed(STEPS, (NODE,))}).inputs
    assert provider.diff("id", outputs, others).changes
    unknown = provider.check(checked, inputs | {name: rpc.UNKNOWN}).inputs
    assert unknown[name] == rpc.UNKNOWN
    assert provider.diff("id", outputs, unknown).changes


def test_a_state_of_an_earlier_program_is_no_difference() -> None:
    """It had the texts in the inputs too, or even everything twice: an update ends that."""
    provider, earlier = GuardProvider(), _inputs()
    checked = provider.check(earlier, _inputs()).inputs
    steps = hashlib.sha256(earlier["steps"].encode()).hexdigest()
    assert not provider.diff("id", earlier | {"steps": steps, "repairs": 3}, checked).changes
    assert provider.diff("id", earlier, checked).changes


def test_an_input_that_was_never_checked_is_an_error_and_no_text() -> None:
    with pytest.raises(LookupError, match="has not had this input checked"):
        GuardProvider().update("id", {}, {"items": "0" * 64})


@pytest.mark.parametrize("value", ["1" * 64, rpc.UNKNOWN])
def test_a_check_of_a_digest_or_of_the_unknown_does_not_make_it_a_text(value: str) -> None:
    """The engine may have an input of the state checked again, which is a digest already."""
    provider = GuardProvider()
    checked = provider.check({}, _inputs() | {"items": value}).inputs
    assert checked["items"] == value
    with pytest.raises(LookupError, match="has not had this input checked"):
        provider.create(checked)
    with pytest.raises(LookupError, match="has not had this input checked"):
        provider.update("id", {}, checked)


def test_a_check_of_a_digest_leaves_its_text_known() -> None:
    provider, inputs = GuardProvider(), _inputs()
    checked = provider.check({}, inputs).inputs
    assert provider.check(checked, checked).inputs == checked
    assert provider.whole(checked) == inputs


def test_whatever_else_goes_wrong_ends_no_refresh_either(
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = _state(packed(ITEMS, WHOLE.items)) | {"login": "{}"}
    result = GuardProvider().read("id", state)
    assert (result.id, result.outs) == ("id", state)
    assert "nobody knows what a machine holds now" in capsys.readouterr().out


def test_a_step_that_fails_says_its_sentence_and_not_the_last_line_of_a_log() -> None:
    sentence = "not yet after 300 s: the kubelet is healthy"
    errors = (
        f"failed: {sentence}\nconnection refused\nthe last lines of kubelet.service:\nI1128 x\n"
    )
    done = Done(status=1, stdout="waiting until the kubelet is healthy\n", stderr=errors)
    with pytest.raises(Drifted) as raised:
        demand(done, "minion1: the step node fails")
    assert str(raised.value).startswith(f"minion1: the step node fails ({sentence}); ")
    with pytest.raises(Drifted) as raised:
        demand(done, "minion1: the step identity fails", hidden=True)
    assert sentence not in str(raised.value)


# -- ways to other nodes ---------------------------------------------------------------------------

DEVICE = Item(kind=Kind.VXLAN, name="flannel.1", wanted=LEADS, step="node", mark="flanneld.service")
NODE = StepCommand(name="node", line="true", data="true\n", seconds=9)
ALONE = Contents(items=(DEVICE,), steps=(NODE,))


class Alone:
    """A machine whose device knows no other node, whatever is run on it."""

    def __init__(self) -> None:
        self.run_on_it: list[tuple[str, ...]] = []

    async def run(self, node: str, script: str, *arguments: str, **more: Any) -> Done:
        del node, more
        if "observe.sh" in script:
            return Done(status=0, stdout=f"device\tflannel.1\t5e:00\n{ALL}\n", stderr="")
        self.run_on_it.append(arguments)
        return Done(status=0, stdout="", stderr="")


def mended_alone(seen: Collection[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """What was mended, and the words of what ran for that."""
    machines: Any = Alone()
    differing = asyncio.run(mended(machines, "minion1", ALONE, {}, seen))
    return [difference.observed for difference in differing], machines.run_on_it


def test_other_nodes_may_still_be_on_their_way_when_a_machine_is_done() -> None:
    assert mended_alone(()) == ([], [])
    assert mended_alone([ITEM.key]) == ([], [])


def test_a_node_that_was_seen_alone_has_flanneld_restarted_once() -> None:
    """Whether that helps depends on others too: the conditions ask for it."""
    states, ran = mended_alone([DEVICE.key])
    assert states == [NOWHERE]
    assert ran == [("flanneld.service", "--", "--"), ()]
