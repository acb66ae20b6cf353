"""Golden clusters: a spec and all that follows from it. ``make golden`` rewrites them."""

import shutil

import pytest

from tests.plan.golden import GOLDEN, NAMES, tree


@pytest.mark.parametrize("name", NAMES)
def test_a_cluster_is_as_it_was_reviewed(name: str, request: pytest.FixtureRequest) -> None:
    folder, planned = GOLDEN / name, tree(name)
    if request.config.getoption("--golden"):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        for file, text in planned.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
    reviewed = {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "spec.yaml"
    }
    assert planned == reviewed, "run make golden and review the difference"
