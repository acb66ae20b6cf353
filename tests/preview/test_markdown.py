"""The comment: whatever a review holds, it stays in its place and below the limit."""

import re
from html.parser import HTMLParser
from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from preview.difference import unified
from preview.markdown import LIMIT, markdown
from preview.review import Review
from preview.visible import visible
from tests.preview.samples import REVIEWS, SAMPLES

PARSER = MarkdownIt("commonmark", {"linkify": False}).enable("table")
OURS = {"details", "summary", "b", "code"}
"""All tags that a comment has."""


class Tags(HTMLParser):
    """Which tags are open, as a browser counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not attrs, f"<{tag}> has attributes"
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"an HTML comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")


def tokens(text: str) -> list[Token]:
    """All of them, also those inside lines."""
    every = []
    for token in PARSER.parse(text):
        every += [token, *(token.children or ())]
    return every


def sound(text: str) -> None:
    """Nothing but what reports write: no tag, link or picture of anybody else, all of it closed."""
    tags = Tags()
    for token in tokens(text):
        assert token.type not in {"link_open", "image", "code_block", "hr", "ordered_list_open"}
        assert token.type != "heading_open" or token.map[0] == 0  # type: ignore[index]
        assert token.type != "fence" or token.info == "diff"
        if token.type in {"html_block", "html_inline"}:
            tags.feed(token.content)
    tags.close()
    assert not tags.open
    assert tags.seen <= OURS
    # GitHub makes people's names and bare addresses into links.
    outside = re.sub(r"^(`{3,})diff\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    outside = re.sub(r"(?<!\\)`[^`\n]+`", "", outside)
    assert not re.search(r"@\w|://|\bwww\.", outside)
    # A parser drops cells for which the table's head has no column.
    for table, rows in groupby(outside.split("\n"), key=lambda line: line.startswith("|")):
        assert not table or len({row.count("|") for row in rows}) == 1


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_sound_and_fit(name: str) -> None:
    for limit in (LIMIT, 20_000, 5_000, 1_000):
        text = markdown(SAMPLES[name](), limit)
        assert 0 < len(text) < limit
        sound(text)


@given(review=REVIEWS, limit=st.integers(0, 12_000) | st.just(LIMIT))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_review_and_any_limit(review: Review, limit: int) -> None:
    text = markdown(review, limit)
    assert len(text) <= limit
    sound(text)


TEXT = st.text(alphabet="ab\n`", max_size=60)


@given(before=TEXT, after=TEXT)
def test_a_difference_leads_from_one_text_to_the_other(before: str, after: str) -> None:
    """As ``patch`` would: what it takes away and keeps is the one text, in the hunks' places."""
    old, at, last = before.splitlines(keepends=True), 0, ""
    new: list[str] = []
    for line in unified(before, after):
        if head := re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@", line):
            start = int(head[1]) - (head[2] != "0")
            new += old[at:start]
            at = start
        elif line[0] == "\\":
            if last == "+":
                new[-1] = new[-1].removesuffix("\n")
        elif line[0] == "+":
            new.append(line[1:] + "\n")
        else:
            assert line[1:] == old[at].removesuffix("\n")
            new += [old[at]] if line[0] == " " else []
            at += 1
        last = line[0]
    assert "".join([*new, *old[at:]]) == after


def test_nothing_is_two_lines() -> None:
    text = markdown(SAMPLES["nothing"]())
    assert text.count("\n") == 2
    assert "42 resources stay" in text


def test_the_summary_is_never_cut() -> None:
    """All of what stands before the first fold is there with a small part of the room."""
    for name in ("flag_change", "dangerous", "fifty", "five_hundred"):
        whole = markdown(SAMPLES[name](), 10**8).partition("<details>")[0]
        assert markdown(SAMPLES[name](), 6_000).startswith(whole)


def test_a_cut_says_what_is_missing() -> None:
    whole = markdown(SAMPLES["new"](), 10**8)
    assert "see the page" not in whole
    files = len(re.findall(r"^`[+~-] /.*\n\n```", whole, flags=re.MULTILINE))
    cut = markdown(SAMPLES["new"](), 12_000)
    match = re.search(r"the contents of (\d+) files; see the page", cut)
    assert match
    assert files == int(match[1]) + len(re.findall("^```diff", cut, flags=re.MULTILINE))
    assert re.search(r"more files? on \d machines?", markdown(SAMPLES["new"](), 3_000))


def test_short_differences_come_before_long_ones() -> None:
    cut = markdown(SAMPLES["new"](), 16_000)
    shown = [len(fence) for fence in re.findall(r"^```diff\n.*?^```$", cut, flags=re.S | re.M)]
    whole = markdown(SAMPLES["new"](), 10**8)
    every = [len(fence) for fence in re.findall(r"^```diff\n.*?^```$", whole, flags=re.S | re.M)]
    assert shown
    assert max(shown) <= min(sorted(every)[len(shown) :])


def test_equal_differences_are_shown_once() -> None:
    text = markdown(SAMPLES["fifty"](), 10**8)
    assert text.count("+maxPods: 250") == 1


def test_contents_are_shown_as_they_are() -> None:
    """Every line of every sample that fits is in a fence, with what cannot be seen made visible."""
    for name in ("flag_change", "adding", "hostile"):
        fences = "\n".join(
            t.content for t in tokens(markdown(SAMPLES[name]())) if t.type == "fence"
        )
        for machine in SAMPLES[name]().machines:
            for file in (file for step in machine.steps for file in step.files):
                for line in unified(file.before, file.after):
                    assert visible(line)[:800] in fences


def test_dangers_come_before_machines() -> None:
    text = markdown(SAMPLES["dangerous"]())
    assert text.index("**`quorum`**") < text.index("**Danger:**") < text.index("| machine |")
    assert text.index("**Danger:**") < text.index("**Notice:**")
