"""The page: what is in it, and what a real browser makes of it."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from preview.change import Verb
from preview.difference import lines
from preview.page import data, page
from preview.palette import COLOURS
from preview.review import FileChange, Review
from preview.visible import visible
from tests.preview.samples import REVIEWS, SAMPLES

if TYPE_CHECKING:
    from tests.preview.browser import Browser


def files(review: Review) -> list[FileChange]:
    steps = [step for machine in review.machines for step in machine.steps]
    return [file for step in (*steps, *review.steps) for file in step.files]


# -- what is in it -------------------------------------------------------------------------------


class Reader(HTMLParser):
    """What a browser would run, load or show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.inside[self.cdata_elem][-1] += data


def held_back(reader: Reader) -> None:
    """Nothing is loaded, and the policy lets exactly the page's own style and script in."""
    addresses = {
        value
        for _, attributes in reader.tags
        for name, value in attributes.items()
        if name in {"src", "href", "action", "data", "srcset", "poster", "xlink:href"}
    }
    assert all(str(address).startswith("#") for address in addresses)
    assert not any(name.startswith("on") or name == "style" for _, a in reader.tags for name in a)
    (policy,) = (a["content"] for t, a in reader.tags if a.get("http-equiv"))
    assert str(policy).startswith("default-src 'none';")
    payload, script = reader.inside["script"]
    assert "<" not in payload, "a parser's idea of where a script ends does not matter"
    (style,) = reader.inside["style"]
    for kind, text in (("script-src", script), ("style-src", style)):
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}';" in str(policy)
    json.loads(payload)


@cache
def known_tags() -> set[str]:
    """All that reports write themselves."""
    samples = (sample for name, sample in SAMPLES.items() if name != "hostile")
    return {tag for sample in samples for tag, _ in Reader(page(sample())).tags}


def text_of(value: dict[str, Any], index: int | None) -> list[str] | None:
    if index is None:
        return None
    ranges = value["texts"][index]
    pairs = zip(ranges[::2], ranges[1::2], strict=True)
    return [line for start, count in pairs for line in value["lines"][start : start + count]]


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_of_a_sample_leaves_its_place(name: str) -> None:
    held_back(Reader(page(SAMPLES[name]())))


@given(review=REVIEWS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_of_any_review_leaves_its_place(review: Review) -> None:
    reader = Reader(page(review))
    held_back(reader)
    assert json.loads(reader.inside["script"][0]) == json.loads(json.dumps(data(review)))
    assert {tag for tag, _ in reader.tags} <= known_tags()


@given(review=REVIEWS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_each_text_is_in_it_whole_and_once(review: Review) -> None:
    value = data(review)
    known = {
        (file["path"], *(tuple(text_of(value, file[when]) or ()) for when in ("before", "after")))
        for file in value["files"]
    }
    for file in files(review):
        texts = [tuple(lines(visible(text)) if text else ()) for text in (file.before, file.after)]
        assert tuple(texts) in {entry[1:] for entry in known}
    assert len(value["lines"]) == len(set(value["lines"]))
    assert len(value["texts"]) == len(
        {json.dumps(content) for content in value["texts"]}
    ) or "" in {text for file in files(review) for text in (file.before, file.after)}


def test_hunks_lead_from_one_text_to_the_other() -> None:
    for name in SAMPLES:
        value = data(SAMPLES[name]())
        for file in value["files"]:
            before, after = (text_of(value, file[when]) or [] for when in ("before", "after"))
            hunks, at, made = value["diffs"][file["diff"]], 0, []
            for i1, i2, j1, j2 in zip(*(hunks[n::4] for n in range(4)), strict=True):
                made += before[at:i1] + after[j1:j2]
                at = i2
            assert made + before[at:] == after


def test_machines_that_are_alike_cost_little() -> None:
    """A further machine costs its name, its address and the lines that are its own."""
    small, large = (len(page(SAMPLES[name]())) for name in ("new", "five_hundred"))
    assert (large - small) / 497 < 2_500


# -- what a browser makes of it ------------------------------------------------------------------


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Browser]":
    from tests.preview.browser import browser

    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, sample in SAMPLES.items():
        (folder / f"{name}.html").write_text(page(sample()))
    return {name: folder / f"{name}.html" for name in SAMPLES}


SHOWN = ".item[aria-level='{}']"
FILE = "article .file"


def rows(window: "Browser", level: int = 0) -> list[str]:
    return window.texts((SHOWN.format(level) if level else ".item") + " .label")


def focused(window: "Browser") -> str:
    return str(window.run("return document.activeElement.querySelector('.label')?.textContent"))


@pytest.mark.browser
@pytest.mark.parametrize("name", SAMPLES)
def test_it_opens_without_a_complaint_or_a_request(
    name: str, window: "Browser", pages: dict[str, Path]
) -> None:
    window.open(pages[name])
    window.type("j", "j", "k")
    changed = [
        machine.name for machine in SAMPLES[name]().machines if machine.verb is not Verb.SAME
    ]
    everything = SAMPLES[name]().machines
    if name != "hostile":
        wanted = changed or [machine.name for machine in everything]
        assert rows(window, 1)[: len(wanted)] == wanted
    assert window.complaints() == []
    assert [
        address for address in window.requests() if not address.startswith(("file:///", "about:"))
    ] == []


@pytest.mark.browser
def test_light_and_dark_follow_the_system_and_the_reader(
    window: "Browser", pages: dict[str, Path]
) -> None:
    papers = [colour(value) for value in COLOURS["paper"]]
    look = "return getComputedStyle(document.body).backgroundColor"
    drawn = "return getComputedStyle(document.querySelector('.picture .paper')).fill"
    for scheme, paper in zip(("light", "dark"), papers, strict=True):
        window.open(pages["flag_change"], scheme=scheme)
        assert rgb(window.run(look)) == rgb(window.run(drawn)) == paper
        window.element("#scheme").click()
        switched = papers[1 - papers.index(paper)]
        assert rgb(window.run(look)) == rgb(window.run(drawn)) == switched


@pytest.mark.browser
def test_search_finds_names_and_contents(window: "Browser", pages: dict[str, Path]) -> None:
    window.open(pages["fifty"])
    whole = len(rows(window))
    window.type("/", "failswapon: false")
    window.until(lambda: "32 machines, 32 files found" in window.texts("#found")[0], "32 files")
    assert set(rows(window, 3)) == {"/etc/kubernetes/kubelet.yaml"}
    window.element("#search").clear()
    window.element("#search").send_keys("MINION18")
    window.until(lambda: rows(window, 1) == ["minion18"], "one machine by its name")
    assert len(rows(window, 3)) == 20, "a machine that is found brings all of its files"
    window.type("\ue00c")
    assert window.element("#search").get_attribute("value") == ""
    assert len(rows(window)) == whole
    assert window.run("return document.activeElement.role") == "treeitem"
    window.type("/", "nowhere at all")
    window.until(lambda: window.texts("#found") == ["Nothing is found."], "nothing")


@pytest.mark.browser
def test_what_is_found_is_marked_where_it_stands(window: "Browser", pages: dict[str, Path]) -> None:
    window.open(pages["flag_change"], query="#m0.s0.f0")
    window.element("#search").send_keys("cgroupDriver")
    window.until(
        lambda: set(window.texts(f"{FILE} mark")) == {"cgroupDriver"},
        "a mark in a line that was folded",
    )


@pytest.mark.browser
def test_filters_show_what_happens(window: "Browser", pages: dict[str, Path]) -> None:
    window.open(pages["fifty"])
    verbs = {machine.name: machine.verb for machine in SAMPLES["fifty"]().machines}
    on = {Verb.CREATE, Verb.UPDATE, Verb.DELETE}
    for verb in (Verb.UPDATE, Verb.SAME, Verb.CREATE, Verb.UPDATE):
        button = window.element(f"#filters [data-verb={verb}]")
        button.click()
        on ^= {verb}
        assert button.get_attribute("aria-pressed") == str(verb in on).lower()
        assert set(rows(window, 1)) == {
            name for name, shown_verb in verbs.items() if shown_verb in on
        }


@pytest.mark.browser
def test_all_of_it_can_be_reached_by_keyboard(window: "Browser", pages: dict[str, Path]) -> None:
    window.open(pages["new"])
    window.type("\ue004")
    assert window.run("return document.activeElement.className") == "skip"
    window.type("/")
    assert window.run("return document.activeElement.id") == "search"
    window.type("\ue00c")
    assert focused(window) == "master"
    window.type("j", "\ue015")
    assert focused(window) == "minion-2"
    window.type("k", "\ue013", "l")
    assert window.run("return document.activeElement.getAttribute('aria-expanded')") == "true"
    window.type("\ue014", "j", "j", "l", "l")
    level = "return document.activeElement.getAttribute('aria-level')"
    assert window.run(level) == "2"
    window.type("j", "j", "l")
    window.type("\ue010")
    assert focused(window) == rows(window)[-1]
    window.type("\ue011")
    assert focused(window) == "master"
    window.type("h")
    assert window.run("return document.activeElement.getAttribute('aria-expanded')") == "false"
    window.type("n")
    assert window.run(level) == "3"
    assert window.texts(f"{FILE} .path") == [focused(window)]
    window.type("\ue007")
    assert window.run("return document.activeElement.id") == "pane"
    window.type("\ue00c", "?")
    assert window.element("#keys").is_displayed()
    window.type("\ue00c")
    assert not window.element("#keys").is_displayed()


@pytest.mark.browser
def test_the_tree_says_what_it_is(window: "Browser", pages: dict[str, Path]) -> None:
    window.open(pages["flag_change"])
    assert len(window.all("#tree [tabindex='0']")) == 1, "one stop for Tab"
    items = window.run(
        "return [...document.querySelectorAll('#tree [role=treeitem]')].map(one => "
        "['aria-level', 'aria-posinset', 'aria-setsize'].map(n => Number(one.getAttribute(n))))"
    )
    assert items[:4] == [[1, 1, 3], [2, 1, 1], [3, 1, 1], [1, 2, 3]]
    assert (
        window.run("return document.querySelectorAll('#tree > :not([role=treeitem])').length") == 0
    )
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    window.type("j")
    assert window.run(outline) != "none", "where the focus is can be seen"


SIDES = """
const cells = [...document.querySelectorAll('article .diff tbody tr')].map(row => [...row.cells]);
const text = cell => [...cell.childNodes].filter(one => one.className !== 'unended')
  .map(one => one.textContent).join('');
return [0, 2].map(side => cells.filter(row => row[side].textContent)
  .map(row => [Number(row[side].textContent), text(row[side + 1])]));
"""


@pytest.mark.browser
@pytest.mark.parametrize("name", ["flag_change", "hostile"])
def test_side_by_side_are_both_texts(name: str, window: "Browser", pages: dict[str, Path]) -> None:
    review = SAMPLES[name]()
    for number, file in enumerate(review.machines[0].steps[0].files):
        if file.before is None or file.before == file.after:
            continue
        window.open(pages[name], query=f"#m0.s0.f{number}")
        while folds := window.all(f"{FILE} .more button"):
            window.run("arguments[0].click()", folds[0])
        for side, text in zip(window.run(SIDES), (file.before, file.after), strict=True):
            shown = [line.removesuffix("\n") for line in lines(visible(text or ""))]
            assert side == [[at, line] for at, line in enumerate(shown, 1)]


@pytest.mark.browser
def test_marks_within_lines_leave_what_is_common(window: "Browser", pages: dict[str, Path]) -> None:
    window.open(pages["flag_change"], query="#m0.s0.f0")
    assert window.texts(f"{FILE} .part") == ["100", "200", "true", "false"]
    plain = (
        "return [...document.querySelectorAll('article tr')].filter(r => r.querySelector('.part'))"
        ".map(r => [...r.querySelectorAll('.code')].map(c => { const d = c.cloneNode(true);"
        " d.querySelectorAll('.part').forEach(p => p.remove()); return d.textContent; }))"
    )
    pairs = window.run(plain)
    assert pairs
    assert all(left == right for left, right in pairs)


@pytest.mark.browser
def test_a_narrow_window_has_one_column(window: "Browser", pages: dict[str, Path]) -> None:
    window.open(pages["flag_change"], width=420, query="#m0.s0.f0")
    assert window.all(".diff.unified")
    assert not window.all(".diff.split")
    signs = window.texts(f"{FILE} td.minus, {FILE} td.plus")
    assert signs == [
        *("eventBurst: 100", "eventBurst: 200"),
        *("failSwapOn: true", "failSwapOn: false", "maxPods: 250"),
    ]
    wide = "return document.documentElement.scrollWidth <= innerWidth"
    assert window.run(wide), "nothing hangs out"
    window.wide(1400)
    window.until(lambda: window.all(".diff.split"), "two columns again")


@pytest.mark.browser
def test_hostile_texts_run_nothing(window: "Browser", pages: dict[str, Path]) -> None:
    window.open(pages["hostile"])
    for query in ("", "#m0", "#m0.s0", "#m1", "#cluster", "#artifacts", "#m1.c", "#m1.r"):
        window.open(pages["hostile"], query=query)
        assert window.run("return window.hurt") is None
        assert window.run("return document.querySelectorAll('img, iframe, object').length") == 0
        assert window.run("return document.querySelectorAll('script').length") == 2
        assert window.complaints() == []
    window.element("#search").send_keys("<script>")
    window.until(lambda: "found" in window.texts("#found")[0], "it is searched")
    assert window.run("return window.hurt") is None


@pytest.mark.browser
def test_a_script_that_got_in_would_not_run(window: "Browser", pages: dict[str, Path]) -> None:
    """The policy is in force: it stops what the page's own code never does."""
    window.open(pages["nothing"])
    window.run(
        "const one = document.createElement('script');"
        "try { one.textContent = 'window.hurt = 1'; } catch {}"
        "document.body.append(one);"
        "const two = document.createElement('img'); two.src = 'about.png';"
        "document.body.append(two)"
    )
    window.until(
        lambda: any("Content Security" in complaint for complaint in window.complaints()),
        "a refusal",
    )
    assert window.run("return window.hurt") is None


@pytest.mark.browser
def test_the_picture_leads_to_what_changes(window: "Browser", pages: dict[str, Path]) -> None:
    window.open(pages["adding"])
    assert len(window.all(".picture a")) == 1
    window.run(
        "document.querySelector('.picture a').dispatchEvent(new MouseEvent('click',"
        "{bubbles: true, cancelable: true, view: window}))"
    )
    window.until(lambda: focused(window) == "minion-2", "the machine is chosen")
    assert window.texts("article h2")[0].endswith("minion-2")
    assert window.all(".picture a[aria-current]")


@pytest.mark.browser
def test_five_hundred_machines_are_drawn_as_they_are_needed(
    window: "Browser", pages: dict[str, Path]
) -> None:
    window.open(pages["five_hundred"])
    assert len(rows(window, 1)) >= 500
    assert window.run("return document.querySelectorAll('*').length") < 12_000
    window.type("/", "minion497")
    window.until(lambda: rows(window, 1) == ["minion497"], "one of them")
    window.type("\ue00c", "/", "--node-ip=10.0.2.5")
    window.until(lambda: "found" in window.texts("#found")[0], "contents of all of them")
    assert window.complaints() == []


@pytest.mark.browser
def test_on_paper_are_all_differences(window: "Browser", pages: dict[str, Path]) -> None:
    window.open(pages["flag_change"], scheme="dark")
    window.run("dispatchEvent(new Event('beforeprint'))")
    assert len(window.all("#printed .file")) == 3
    window.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert window.element("#printed").is_displayed()
    assert not window.element("#tree").is_displayed()
    assert rgb(window.run("return getComputedStyle(document.body).backgroundColor")) == colour(
        COLOURS["paper"][0]
    )
    window.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.browser
def test_nothing_moves_for_whoever_does_not_want_it(
    window: "Browser", pages: dict[str, Path]
) -> None:
    window.open(pages["flag_change"])
    look = "return getComputedStyle(document.querySelector('.item')).transitionDuration"
    window.media(("prefers-reduced-motion", "reduce"))
    assert window.run(look) == "0s"
    window.media(("prefers-reduced-motion", "no-preference"))
    assert window.run(look) != "0s"


TEXTS = """
const seen = [];
const solid = value => {
  const parts = value.match(/[\\d.]+/g).map(Number);
  return parts[3] === 0 ? null : parts;
};
for (const one of document.body.querySelectorAll('*')) {
  const own = [...one.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || !one.getClientRects().length || one.closest('svg, .hidden, .skip')) continue;
  let under = one;
  while (under && !solid(getComputedStyle(under).backgroundColor)) under = under.parentElement;
  seen.push([one.className + ' ' + one.tagName, solid(getComputedStyle(one).color),
    solid(getComputedStyle(under || document.documentElement).backgroundColor)]);
}
return seen;
"""


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(scheme: str, window: "Browser", pages: dict[str, Path]) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1, of all that is shown, with what is chosen, found and switched."""
    for name, query in (("dangerous", "#m0"), ("flag_change", "#m0.s0.f0"), ("fifty", "#m19")):
        window.open(pages[name], scheme=scheme, query=query)
        window.all("#filters button")[0].click()
        window.element("#search").send_keys("e")
        window.until(lambda: window.texts("mark"), "something is found")
        shown = window.run(TEXTS)
        assert len(shown) > 30
        low = {
            (what, round(contrast(front[:3], back[:3]), 2))
            for what, front, back in shown
            if contrast(front[:3], back[:3]) < 4.5
        }
        assert low == set()


def rgb(value: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", value)[:3]]


def colour(value: str) -> list[int]:
    return [int(value[n : n + 2], 16) for n in (1, 3, 5)]


def contrast(front: Sequence[float], back: Sequence[float]) -> float:
    """As WCAG 2.2 defines it."""
    light, dark = sorted((_luminance(front), _luminance(back)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(parts: Sequence[float]) -> float:
    scaled = [part / 255 for part in parts]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in scaled]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
