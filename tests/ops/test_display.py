"""On a terminal all steps under way are shown in one place, which gives way to a question."""

import io

import pytest
from rich.console import Console

from ops import display
from ops.display import LiveProgress


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to a terminal."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80, _environ={"TERM": "xterm"})
    monkeypatch.setattr(display, "stderr", console)
    return text


def test_steps_beside_each_other_are_shown_together(written: io.StringIO) -> None:
    progress = LiveProgress()
    with progress.task("the first") as first:
        first.note("of the first")
        with progress.task("the second") as second:
            second.note("of the second")
            assert progress._bars is not None
            assert [task.description for task in progress._bars.tasks] == [
                "the first",
                "the second",
            ]
        with progress.task("the third"):
            pass
    assert not progress._under_way
    shown = written.getvalue()
    assert all(title in shown for title in ("the first", "the second", "the third"))


def test_a_step_that_fails_leaves_no_display_behind(written: io.StringIO) -> None:
    progress = LiveProgress()
    with pytest.raises(ValueError, match="failed"), progress.task("the first"):
        raise ValueError("failed")
    with progress.task("the second"):
        pass
    assert "the second" in written.getvalue()


@pytest.mark.usefixtures("written")
def test_a_question_has_the_terminal_for_itself() -> None:
    progress = LiveProgress()
    with progress.task("the first"):
        bars = progress._bars
        assert bars is not None
        started = [bars.live.is_started]
        with progress.asking():
            started.append(bars.live.is_started)
        started.append(bars.live.is_started)
        assert started == [True, False, True]
    with progress.asking():
        assert progress._bars is None
