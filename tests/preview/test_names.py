"""People choose the names of machines, and may choose those of other resources."""

from typing import Any

import pytest

from preview.change import Verb
from preview.review import Review
from preview.reviewing import reviewed
from tests.declared import described
from tests.preview.recorded import changed, made

MASTER, FIRST, LAST = described("default")["machines"]

NAMES = {
    # Each is that of a resource of the whole cluster's, or of a provider.
    "of-the-cluster": {MASTER: "people", FIRST: "libvirt", LAST: "authorities"},
    # The cluster's own.
    "as-the-cluster": {MASTER: "dev", FIRST: "command", LAST: "ready"},
    # What the engine calls a part of a machine is the name of another machine.
    "of-a-part": {MASTER: "m-add-ons", FIRST: "m", LAST: "m-disk"},
    "of-a-step": {MASTER: "m", FIRST: "m-ready", LAST: "m-add-ons"},
}


def cluster(names: dict[str, str], more: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """The default cluster with other names, and more of some machines."""
    spec = {**described("default"), "name": "dev"}
    machines = {
        names[name]: {**fields, **(more or {}).get(name, {})}
        for name, fields in spec["machines"].items()
    }
    return {**spec, "machines": machines}


def without(spec: dict[str, Any], machine: str) -> dict[str, Any]:
    """The same without a machine."""
    kept = {name: value for name, value in spec["machines"].items() if name != machine}
    return {**spec, "machines": kept}


def meaning(review: Review, names: dict[str, str]) -> dict[str, Any]:
    """What a review says of machine by machine, under the names of the default cluster."""
    back = {new: old for old, new in names.items()}

    def part(of: str, name: str) -> str:
        return name.removeprefix(of) if name.startswith(of) else f"of another: {name}"

    return {
        "counts": review.counts,
        "whole": (
            sorted((resource.kind, resource.verb) for resource in review.resources),
            sorted((step.name, step.verb) for step in review.steps),
            sorted((certificate.name, certificate.verb) for certificate in review.certificates),
        ),
        "machines": {
            back[machine.name]: (
                machine.verb,
                sorted(
                    (part(machine.name, resource.name), resource.verb)
                    for resource in machine.resources
                ),
                sorted((step.name, step.verb) for step in machine.steps),
                sorted(
                    (certificate.name, certificate.verb) for certificate in machine.certificates
                ),
            )
            for machine in review.machines
        },
    }


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_a_new_cluster_is_the_same_whatever_its_machines_are_called(names: dict[str, str]) -> None:
    same = {name: name for name in (MASTER, FIRST, LAST)}
    usual = reviewed(made(cluster(same)))
    renamed = reviewed(made(cluster(names)))
    assert meaning(renamed, names) == meaning(usual, same)


@pytest.mark.parametrize("machine", [FIRST, LAST])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_a_machine_that_is_made_anew_or_leaves_takes_no_other_with_it(
    names: dict[str, str], machine: str
) -> None:
    same = {name: name for name in (MASTER, FIRST, LAST)}
    meanings = {}
    for called in (same, names):
        before = cluster(called)
        larger = cluster(called, {machine: {"memory": 4096}})
        for what, after in {"larger": larger, "gone": without(before, called[machine])}.items():
            every, refused = changed(before, after)
            assert not refused
            review = reviewed(every)
            (touched,) = (m for m in review.machines if m.verb in (Verb.REPLACE, Verb.DELETE))
            assert touched.name == called[machine]
            meanings[what, called is names] = meaning(review, called)
    assert meanings["larger", True] == meanings["larger", False]
    assert meanings["gone", True] == meanings["gone", False]


def test_nothing_changes_where_nothing_changes() -> None:
    for names in NAMES.values():
        every, refused = changed(cluster(names), cluster(names))
        assert not refused
        assert reviewed(every).empty
