"""The drawing: true to the review, readable, safe to embed; the README's is up to date."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings

from ops.picture import README_PICTURE
from ops.stacks import read_cluster
from preview.change import Verb
from preview.palette import COLOURS
from preview.picture import WIDTH, picture
from preview.review import Review
from preview.still import still
from preview.words import SIGN
from tests.plan.golden import NAMES, golden_spec
from tests.preview.samples import REVIEWS, SAMPLES, large
from tests.preview.test_page import colour, contrast

SVG = "{http://www.w3.org/2000/svg}"
PLAIN = {"svg", "title", "desc", "style", "rect", "text", "g", "path", "circle"}


def drawn(review: Review) -> ElementTree.Element:
    return ElementTree.fromstring(picture(review))


def texts(root: ElementTree.Element) -> list[str]:
    return [str(one.text) for one in root.iter(f"{SVG}text")]


def boxes(root: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    """Of machines: left, top, right, bottom."""
    found = []
    for one in root.iter(f"{SVG}rect"):
        if one.get("class") in {"card", "tile"}:
            x, y, wide, high = (float(one.get(name, 0)) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + wide, y + high))
    return found


def test_the_readme_has_the_picture_of_the_default_stack() -> None:
    assert README_PICTURE.read_text() == picture(still(read_cluster("dev"))), "run make picture"


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_names_all_that_a_cluster_has(name: str) -> None:
    spec = golden_spec(name)
    said = texts(drawn(still(spec)))
    for machine, one in spec.machines.items():
        assert {machine, str(one.address)} <= set(said)
        assert any(f"{one.cpus} CPU" in text and f"{one.disk} GiB disk" in text for text in said)
    networks = (spec.networks.machines, spec.networks.pods, spec.networks.services)
    assert {spec.api_url, *map(str, networks)} <= set(said)
    assert said.count("etcd") == len(spec.etcd_members)
    assert said.count("control plane") == len(spec.control_planes)
    assert said.count("node") == len(spec.nodes)


@pytest.mark.parametrize("size", [4, 15, 16, 63, 64, 200, 500])
def test_every_machine_has_its_place(size: int) -> None:
    """No two share a spot, and none lies outside."""
    root = drawn(still(large(size)))
    found = boxes(root)
    assert len(found) == size
    for one, other in combinations(found, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart
    height = float(root.get("height", 0))
    assert all(left >= 0 and right <= WIDTH and low <= height for left, _, right, low in found)
    assert height < 1200


@pytest.mark.parametrize("name", SAMPLES)
def test_what_changes_has_a_colour_and_a_sign(name: str) -> None:
    review = SAMPLES[name]()
    root = drawn(review)
    groups = [one for one in root.iter(f"{SVG}g") if list(one.iter(f"{SVG}rect"))]
    assert [one.get("class") for one in groups] == [
        machine.verb for machine in sorted(review.machines, key=_rank)
    ]
    for one in groups:
        signs = [mark.text for mark in one.iter(f"{SVG}text") if mark.get("class") == "sign"]
        verb = Verb(str(one.get("class")))
        assert signs == ([] if verb is Verb.SAME else [SIGN[verb].replace("-", "−")])
    verbs = {machine.verb for machine in review.machines} - {Verb.SAME}
    legend = [one for one in root.iter(f"{SVG}g") if not list(one.iter(f"{SVG}rect"))]
    assert {one.get("class") for one in legend} == verbs, "a legend where something changes"


def _rank(machine: object) -> int:
    roles = set(getattr(machine, "roles", ()))
    if "control-plane" in roles:
        return 0 if "etcd" in roles else 1
    return 2 if "etcd" in roles else 3


@given(review=REVIEWS)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_but_shapes_is_ever_drawn(review: Review) -> None:
    root = drawn(review)
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= PLAIN
    attributes = {name for one in root.iter() for name in one.keys()}  # noqa: SIM118
    assert not {name for name in attributes if name.startswith("on") or "href" in name}
    assert root.find(f"{SVG}title") is not None
    assert root.find(f"{SVG}desc") is not None
    style = root.findtext(f"{SVG}style") or ""
    assert not re.search(r"url\(|@import|var\(", style), "viewers that know no variables"


def test_who_does_not_see_it_is_told_what_is_in_it() -> None:
    told = drawn(SAMPLES["adding"]()).findtext(f"{SVG}desc") or ""
    assert "1 machine is added" in told
    assert all(one.name in told for one in SAMPLES["adding"]().machines)
    assert len(drawn(SAMPLES["five_hundred"]()).findtext(f"{SVG}desc") or "") < 1000


def test_the_same_review_gives_the_same_bytes() -> None:
    review = SAMPLES["dangerous"]()
    assert picture(review) == picture(replace(review, counts=dict(reversed(review.counts.items()))))


@pytest.mark.parametrize("scheme", [0, 1])
def test_marks_and_texts_stand_out(scheme: int) -> None:
    """WCAG 2.2: 1.4.3 for texts, 1.4.11 for what marks a machine."""
    pairs = [("ink", one) for one in ("paper", "card", "raised")]
    pairs += [("quiet", one) for one in ("paper", "card", "raised")]
    for verb in ("create", "update", "replace", "delete"):
        pairs += [(verb, f"{verb}-tint"), (verb, "paper"), ("card", verb)]
        pairs += [("ink", f"{verb}-tint"), ("quiet", f"{verb}-tint")]
    pairs += [("ink", one) for one in ("create-mark", "delete-mark", "found")]
    for front, back in pairs:
        ratio = contrast(colour(COLOURS[front][scheme]), colour(COLOURS[back][scheme]))
        assert ratio >= 4.5, f"{front} on {back}"
