"""What a guard's provider makes of states that are not its own."""

import json
import zlib
from base64 import b64encode
from typing import Any

import pytest

from components.guard import Drifted, GuardProvider, _demand, login
from plan.contents import CONTENTS, Contents, Unreadable, packed, unpacked
from plan.held import Item, Kind
from probe.machines import Done

ITEM = Item(kind=Kind.FILE, name="/etc/one", wanted="sha256:1 0600 root:root", step="one")
WHOLE = Contents(items=(ITEM,), texts={"one": "true\n" * 9}, secret=frozenset({"one"}))
WORDS = b"the words with which every step began on another day"


def _shortened(text: str) -> str:
    compressor = zlib.compressobj(zdict=WORDS)
    return b64encode(compressor.compress(text.encode()) + compressor.flush()).decode()


def _older(contents: Contents) -> str:
    """As plans were packed when the steps' own words were the dictionary."""
    told = CONTENTS.dump_python(contents, mode="json")
    texts = {name: _shortened(text) for name, text in contents.texts.items()}
    return json.dumps({**told, "items": _shortened(json.dumps(told["items"])), "texts": texts})


def _state(plan: str) -> dict[str, Any]:
    # Nobody is asked at this address: what cannot be read is known before.
    access = {"address": "127.0.0.1", "port": 1, "host_key": "none"}
    return {
        "held": {ITEM.key: "as it was seen last"},
        "login": login("master", access, "no key"),
        "plan": plan,
        "secrets": "{}",
        "repairs": 0,
    }


def test_what_was_packed_comes_back_whatever_the_words_of_steps_are() -> None:
    assert unpacked(packed(WHOLE)) == WHOLE


@pytest.mark.parametrize("plan", [_older(WHOLE), "", "no base64!", b64encode(b"no xz").decode()])
def test_a_plan_of_another_checkout_ends_no_refresh(
    plan: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state = _state(plan)
    found = GuardProvider().read("id", state)
    assert (found.id, found.outs, found.inputs) == ("id", state, None)
    said = capsys.readouterr().out
    assert said.startswith("warning: master was not asked, since its plan was kept by another")
    with pytest.raises(Unreadable):
        unpacked(plan)


def test_whatever_else_goes_wrong_ends_no_refresh_either(
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = _state(packed(WHOLE)) | {"login": "{}"}
    found = GuardProvider().read("id", state)
    assert (found.id, found.outs) == ("id", state)
    assert "nobody knows what a machine holds now" in capsys.readouterr().out


def test_a_step_that_fails_says_its_sentence_and_not_the_last_line_of_a_log() -> None:
    sentence = "not yet after 300 s: the kubelet is healthy"
    said = f"failed: {sentence}\nconnection refused\nthe last lines of kubelet.service:\nI1128 x\n"
    done = Done(status=1, stdout="waiting until the kubelet is healthy\n", stderr=said)
    with pytest.raises(Drifted) as raised:
        _demand(done, "minion1: the step node fails")
    assert str(raised.value).startswith(f"minion1: the step node fails ({sentence}); ")
    with pytest.raises(Drifted) as raised:
        _demand(done, "minion1: the step identity fails", hidden=True)
    assert sentence not in str(raised.value)
