"""What is read back from a step's text is what was written into it."""

import pytest

from plan import unit as units
from plan.model import Step
from plan.reading import Text, read
from plan.render import script, started_with, text
from tests.plan.golden import NAMES, golden_plan


def steps(name: str) -> list[Step]:
    plan = golden_plan(name)
    return [step for one in plan.nodes.values() for step in one.steps] + list(plan.add_ons)


@pytest.mark.parametrize("name", NAMES)
def test_all_of_a_step_is_read_back(name: str) -> None:
    for step in steps(name):
        told = read(text(step, lambda source: f"of {source}\n"))
        assert told.files == {
            file.path: Text(file.content, f"{file.mode:04o} {file.owner}") for file in step.files
        } | {
            file.path: Text(f"of {file.source}\n", f"{file.mode:04o} {file.owner}")
            for file in step.secret_files
        }
        assert told.units == {one.name: Text(units.text(one)) for one in step.units}
        assert told.needs == {one.name: started_with(one) for one in step.units}
        assert told.links == {link.path: link.target for link in step.links}
        assert told.artifacts == {
            one.name: one.archive.digest if one.archive else f"sha256:{one.sha256}"
            for one in step.artifacts
        }
        assert told.directories.keys() == {one.path for one in step.directories}
        assert told.packages == step.packages
        assert told.users == step.users
        assert told.masked == step.masked
        assert told.settings == dict(step.settings)
        rule = step.not_newer
        assert told.not_newer == tuple(
            f"{server} {rule.version}" for server in (rule.servers if rule else ()) if rule
        )
        assert told.shared == tuple(turn.unit for turn in step.turns)
        assert told.script == (script(step.script).strip("\n") if step.script else "")
        assert told.outcome == step.outcome
        assert script("prelude").strip("\n") in told.words


@pytest.mark.parametrize("strange", ["", "{", "echo hello\n", "cat >x <<'END'\n", "a='\nb\n"])
def test_a_text_that_is_no_step_is_a_script(strange: str) -> None:
    assert read(strange).files == {}


def test_a_setting_of_several_lines_and_a_file_with_every_ending_are_read() -> None:
    from plan.model import File

    hostile = "END\nEND-END\nfile 0600 root:root /x\nunit y <<'END'\n"
    step = Step(
        name="s",
        files=(File(path="/it's a file", content=hostile),),
        settings={"some": "two\nlines 'quoted'", "other": ""},
        script="etcd",
    )
    told = read(text(step))
    assert told.files == {"/it's a file": Text(hostile, "0600 root:root")}
    assert told.settings == {"some": "two\nlines 'quoted'", "other": ""}
    assert told.script == script("etcd").strip("\n")
