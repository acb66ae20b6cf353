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
    return [str(element.text) for element in root.iter(f"{SVG}text")]


def boxes(root: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    """Of machines: left, top, right, bottom."""
    corners = []
    for element in root.iter(f"{SVG}rect"):
        if element.get("class") in {"card", "tile"}:
            x, y, wide, high = (
                float(element.get(name, 0)) for name in ("x", "y", "width", "height")
            )
            corners.append((x, y, x + wide, y + high))
    return corners


def test_the_readme_has_the_picture_of_the_default_stack() -> None:
    assert README_PICTURE.read_text() == picture(still(read_cluster("dev"))), "run make picture"


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_names_all_that_a_cluster_has(name: str) -> None:
    spec = golden_spec(name)
    shown = texts(drawn(still(spec)))
    for machine, described in spec.machines.items():
        assert {machine, str(described.address)} <= set(shown)
        assert any(
            f"{described.cpus} CPU" in text and f"{described.disk} GiB disk" in text
            for text in shown
        )
    networks = (*spec.networks.machines, spec.networks.pods, spec.networks.services)
    assert {spec.api_url, *map(str, networks)} <= set(shown)
    assert shown.count("etcd") == len(spec.etcd_members)
    assert shown.count("control plane") == len(spec.control_planes)
    assert shown.count("node") == len(spec.nodes)


@pytest.mark.parametrize("size", [4, 15, 16, 63, 64, 200, 500])
def test_every_machine_has_its_place(size: int) -> None:
    """No two share a spot, and none lies outside."""
    root = drawn(still(large(size)))
    corners = boxes(root)
    assert len(corners) == size
    for first, second in combinations(corners, 2):
        apart = (
            first[2] <= second[0]
            or second[2] <= first[0]
            or first[3] <= second[1]
            or second[3] <= first[1]
        )
        assert apart
    height = float(root.get("height", 0))
    assert all(left >= 0 and right <= WIDTH and low <= height for left, _, right, low in corners)
    assert height < 1200


@pytest.mark.parametrize("name", SAMPLES)
def test_what_changes_has_a_colour_and_a_sign(name: str) -> None:
    review = SAMPLES[name]()
    root = drawn(review)
    groups = [group for group in root.iter(f"{SVG}g") if list(group.iter(f"{SVG}rect"))]
    assert [group.get("class") for group in groups] == [
        machine.verb for machine in sorted(review.machines, key=_rank)
    ]
    for group in groups:
        signs = [mark.text for mark in group.iter(f"{SVG}text") if mark.get("class") == "sign"]
        verb = Verb(str(group.get("class")))
        assert signs == ([] if verb is Verb.SAME else [SIGN[verb].replace("-", "−")])
    verbs = {machine.verb for machine in review.machines} - {Verb.SAME}
    legend = [group for group in root.iter(f"{SVG}g") if not list(group.iter(f"{SVG}rect"))]
    assert {group.get("class") for group in legend} == verbs, "a legend where something changes"


def _rank(machine: object) -> int:
    roles = set(getattr(machine, "roles", ()))
    if "control-plane" in roles:
        return 0 if "etcd" in roles else 1
    return 2 if "etcd" in roles else 3


@given(review=REVIEWS)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_but_shapes_is_ever_drawn(review: Review) -> None:
    root = drawn(review)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= PLAIN
    attributes = {name for element in root.iter() for name in element.keys()}  # noqa: SIM118
    assert not {name for name in attributes if name.startswith("on") or "href" in name}
    assert root.find(f"{SVG}title") is not None
    assert root.find(f"{SVG}desc") is not None
    style = root.findtext(f"{SVG}style") or ""
    assert not re.search(r"url\(|@import|var\(", style), "viewers that know no variables"


def test_who_does_not_see_it_is_told_what_is_in_it() -> None:
    description = drawn(SAMPLES["adding"]()).findtext(f"{SVG}desc") or ""
    assert "1 machine is added" in description
    assert all(machine.name in description for machine in SAMPLES["adding"]().machines)
    assert len(drawn(SAMPLES["five_hundred"]()).findtext(f"{SVG}desc") or "") < 1000


def test_the_same_review_gives_the_same_bytes() -> None:
    review = SAMPLES["dangerous"]()
    assert picture(review) == picture(replace(review, counts=dict(reversed(review.counts.items()))))


@pytest.mark.parametrize("scheme", [0, 1])
def test_marks_and_texts_stand_out(scheme: int) -> None:
    """WCAG 2.2: 1.4.3 for texts, 1.4.11 for what marks a machine."""
    pairs = [("ink", surface) for surface in ("paper", "card", "raised")]
    pairs += [("quiet", surface) for surface in ("paper", "card", "raised")]
    for verb in ("create", "update", "replace", "delete"):
        pairs += [(verb, f"{verb}-tint"), (verb, "paper"), ("card", verb)]
        pairs += [("ink", f"{verb}-tint"), ("quiet", f"{verb}-tint")]
    pairs += [("ink", mark) for mark in ("create-mark", "delete-mark", "found")]
    for front, back in pairs:
        ratio = contrast(colour(COLOURS[front][scheme]), colour(COLOURS[back][scheme]))
        assert ratio >= 4.5, f"{front} on {back}"
