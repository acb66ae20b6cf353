"""The GitHub workflows: what they may do, that their lines work, and what they make of a report."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from lab import gobuild, toolchain
from lab.cache import Cache
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from lab.progress import Silence
from lab.recipe import recipe
from tests import workflows
from tests.checkout import Checkout
from tests.workflows import Job

PINNED = re.compile(r"\s*- uses: ([\w./-]+)@([0-9a-f]{40}) # v(\d+\.\d+\.\d+)$")
JOBS = list(workflows.jobs())

node = pytest.mark.skipif(shutil.which("node") is None, reason="no node: scripts are not run")


def named(job: Job) -> str:
    return f"{job.file.stem}-{job.name}"


# -- what they may do ------------------------------------------------------------------------------


def test_every_action_is_pinned_by_commit_with_its_version_beside_it() -> None:
    pins: dict[str, set[tuple[str, str]]] = {}
    for file in workflows.files():
        for line in file.read_text().splitlines():
            if "uses:" in line:
                pinned = PINNED.fullmatch(line)
                assert pinned, line
                pins.setdefault(pinned[1], set()).add((pinned[2], pinned[3]))
    assert len(pins) > 5
    assert all(len(versions) == 1 for versions in pins.values()), "one version of each"


@pytest.mark.parametrize("file", workflows.files(), ids=lambda file: file.stem)
def test_a_token_can_do_nothing_that_a_job_does_not_ask_for(file: Path) -> None:
    workflow = workflows.parsed(file)
    assert workflow["permissions"] == {}
    assert "pull_request_target" not in workflow["on"]
    for job in workflow["jobs"].values():
        writes = {name for name, level in job["permissions"].items() if level == "write"}
        assert writes <= {"pull-requests", "issues"}
        if writes:
            assert not [
                step for step in job["steps"] if "run" in step or "checkout" in step["uses"]
            ]


@pytest.mark.parametrize("job", JOBS, ids=named)
def test_a_job_ends_and_keeps_no_credentials(job: Job) -> None:
    assert 0 < job.definition["timeout-minutes"] <= 180
    for step in job.steps:
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
        text = step.get("run", "") + step.get("with", {}).get("script", "")
        assert "${{" not in text, "an expression in a script is code of whoever filled it"
        assert "secrets." not in json.dumps(step)


@pytest.mark.parametrize("job", JOBS, ids=named)
def test_the_teams_runner_runs_no_code_of_forks(job: Job) -> None:
    events = workflows.parsed(job.file)["on"]
    condition = job.definition.get("if", "")
    if job.elsewhere:
        assert "vars.HARDWAY_STACK != ''" in condition, "nothing before it is set up"
        if "pull_request" in events:
            assert (
                "github.event.pull_request.head.repo.full_name == github.repository" in condition
                or "github.event_name == 'push'" in condition
            )
    elif "pull_request" in events:
        assert all(level == "read" for level in job.definition["permissions"].values())


def test_an_update_waits_for_approval_and_is_never_cut_off() -> None:
    (up,) = [job for job in JOBS if any("hardway up" in s.get("run", "") for s in job.steps)]
    assert up.definition["environment"] == "cluster"
    assert up.definition["concurrency"]["cancel-in-progress"] is False
    assert workflows.parsed(up.file)["on"]["push"] == {"branches": ["main"]}


def test_the_pulumi_that_is_installed_is_the_one_that_the_lab_knows() -> None:
    steps = [step for job in JOBS for step in job.steps if "pulumi/actions" in step.get("uses", "")]
    assert steps
    for step in steps:
        assert step["with"] == {"pulumi-version": toolchain.DOWNLOADED}


def test_zizmor_finds_nothing() -> None:
    done = subprocess.run(
        [
            "zizmor",
            "--offline",
            "--pedantic",
            "--no-progress",
            "--color=never",
            PROJECT / ".github",
        ],
        env={**os.environ, "PATH": f"{PROJECT / '.venv/bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "No findings to report" in done.stdout


@pytest.mark.engine
def test_actionlint_finds_nothing(paths: LabPaths) -> None:
    try:
        built = gobuild.build(recipe("actionlint", "1.7.12"), Cache(), Silence(), paths.logs)
    except Problem as problem:
        pytest.skip(f"actionlint cannot be had: {problem}")
    program = Cache().blob(built.files["actionlint"])
    done = subprocess.run([program, "-no-color"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# -- their shell lines -----------------------------------------------------------------------------


def test_every_line_is_one_that_a_test_runs() -> None:
    every = (*workflows.HERE, *workflows.ON_MACHINES, *workflows.AROUND)
    assert set(workflows.lines()) == set(every)


@pytest.mark.parametrize("line", [*workflows.HERE, *workflows.ON_MACHINES])
def test_the_verb_of_a_line_takes_its_words(line: str) -> None:
    from ops.__main__ import app, register

    if not app.registered_commands:
        register([])
    command = typer.main.get_command(app)
    program, verb, *arguments = shlex.split(line.partition(" || ")[0])
    assert program == "./hardway"
    subcommand = command.commands[verb]  # type: ignore[attr-defined]
    with subcommand.make_context(verb, list(arguments), resilient_parsing=True) as context:
        options, rest, _ = subcommand.make_parser(context).parse_args(list(arguments))
    if verb != "test":
        assert not rest
        assert len(options) == len([word for word in arguments if word.startswith("--")])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("runner"))


def test_the_preview_of_a_request_needs_the_checkout_alone(checkout: Checkout) -> None:
    checkout.change(machines={"master": {"address": "192.168.1.10", "roles": "ai"}})
    (line,) = [line for line in workflows.HERE if "preview" in line]
    done = checkout.run("env", "STACK=dev", "BASE=HEAD", "bash", "-e", "-c", line)
    assert done.returncode == 0, done.stdout + done.stderr
    report = (checkout.folder / "preview.md").read_text()
    assert "minion2" in report
    assert len(report) < 64000, "whole in a comment"
    assert "minion2" in (checkout.folder / "preview.html").read_text()


def test_the_unit_tests_are_those_without_marks(checkout: Checkout) -> None:
    (line,) = [line for line in workflows.HERE if "test" in line]
    done = checkout.run("bash", "-e", "-c", f"{line} --collect-only -q tests/spec tests/engine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/spec/" in done.stdout
    assert "tests/engine/" not in done.stdout


# -- what becomes of a report ----------------------------------------------------------------------

CALLED = """
const paginate = async (of, words) => {
  calls.push([of.called, words])
  return answers[of.called]
}
const github = { rest: {}, paginate }
for (const [part, verb] of Object.keys(answers).map((one) => one.split('.'))) {
  const call = async (words) => { calls.push([`${part}.${verb}`, words]); return {} }
  call.called = `${part}.${verb}`
  github.rest[part] = { ...github.rest[part], [verb]: call }
}
"""


def played(file: str, job: str, given: dict[str, Any], **environment: str) -> list[Any]:
    """What a script asks of GitHub, whose answers are given."""
    program = (
        f"const answers = {json.dumps(given['answers'])}\n"
        f"const context = {json.dumps(given['context'])}\n"
        f"const calls = []\n{CALLED}\n"
        f"const script = {json.dumps(workflows.script(file, job))}\n"
        "const known = ['github', 'context', 'require']\n"
        "const AsyncFunction = (async () => {}).constructor\n"
        "await new AsyncFunction(...known, script)(github, context, require)\n"
        "console.log(JSON.stringify(calls))"
    )
    done = subprocess.run(
        ["node", "--eval", f"(async () => {{\n{program}\n}})()"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    calls: list[Any] = json.loads(done.stdout)
    return calls


HEAD = "a" * 40
OURS = "team/clusters"
BOT = "github-actions[bot]"


def commented(
    folder: Path,
    report: str | None,
    *,
    comments: list[dict[str, Any]] | None = None,
    path: str = ".github/workflows/pull-request.yml",
    fork: bool = False,
    head: str = HEAD,
) -> list[tuple[str, dict[str, Any]]]:
    """The comments that are written for a report."""
    (folder / "report").mkdir(exist_ok=True)
    if report is not None:
        (folder / "report" / "preview.md").write_text(report)
    owner, name = OURS.split("/")
    whose = "stranger" if fork else owner
    given = {
        "context": {
            "repo": {"owner": owner, "repo": name},
            "payload": {
                "workflow_run": {
                    "path": path,
                    "head_sha": HEAD,
                    "head_branch": "change",
                    "head_repository": {
                        "full_name": f"{whose}/{name}",
                        "owner": {"login": whose},
                    },
                    "html_url": "https://github.example/run",
                }
            },
        },
        "answers": {
            "pulls.list": [{"number": 7, "head": {"sha": head}}],
            "issues.listComments": comments or [],
            "issues.createComment": {},
            "issues.updateComment": {},
        },
    }
    calls = played("comment.yml", "comment", given, RUNNER_TEMP=str(folder))
    for verb, request in calls:
        if verb == "pulls.list":
            assert request["head"] == f"{whose}:change", "it is asked whose it is, not read"
    return [(verb, request) for verb, request in calls if "Comment" in verb and "list" not in verb]


@node
def test_one_comment_is_made_and_then_kept_up_to_date(tmp_path: Path) -> None:
    ((verb, request),) = commented(tmp_path, "One file changes.")
    assert verb == "issues.createComment"
    assert request["issue_number"] == 7
    assert "One file changes." in request["body"]
    others = [
        {"id": 1, "user": {"login": "stranger"}, "body": request["body"]},
        {"id": 2, "user": {"login": BOT}, "body": "of another workflow"},
        {"id": 3, "user": None, "body": None},
    ]
    mine = {"id": 4, "user": {"login": BOT}, "body": request["body"]}
    ((verb, again),) = commented(tmp_path, "Two files change.", comments=[*others, mine])
    assert (verb, again["comment_id"]) == ("issues.updateComment", 4)
    assert "Two files change." in again["body"]
    ((verb, _),) = commented(tmp_path, "Two files change.", comments=others)
    assert verb == "issues.createComment"


@node
def test_the_real_stacks_comment_is_another_one_and_never_of_a_fork(tmp_path: Path) -> None:
    ((_, mock),) = commented(tmp_path, "text")
    ((_, real),) = commented(tmp_path, "text", path=".github/workflows/cluster.yml")
    assert real["body"].splitlines()[0] != mock["body"].splitlines()[0]
    assert commented(tmp_path, "text", path=".github/workflows/cluster.yml", fork=True) == []
    assert commented(tmp_path, "text", path=".github/workflows/other.yml") == []
    ((_, of_fork),) = commented(tmp_path, "text", fork=True)
    assert "nobody has reviewed" in of_fork["body"]
    assert "nobody has reviewed" not in mock["body"]


@node
def test_a_report_is_a_text_whatever_is_in_it(tmp_path: Path) -> None:
    evil = "@team \u202egnp.exe \x1b[31m ${{ secrets.GITHUB_TOKEN }} `require('fs')` \x00"
    ((_, request),) = commented(tmp_path, evil)
    assert "@team" not in request["body"]
    assert not re.search("[\u202e\x1b\x00]", request["body"])
    assert "${{ secrets.GITHUB_TOKEN }}" in request["body"], "nobody evaluates it"
    ((_, request),) = commented(tmp_path, "line\n" * 20000)
    assert len(request["body"]) < 65536
    assert "cut here" in request["body"]
    assert commented(tmp_path, "x" * 1_000_001) == []


@node
def test_without_a_report_or_after_another_push_nothing_is_said(tmp_path: Path) -> None:
    assert commented(tmp_path, None) == []
    assert commented(tmp_path, "text", head="b" * 40) == []
    (tmp_path / "report" / "preview.md").unlink()
    (tmp_path / "report" / "preview.md").symlink_to("/etc/hostname")
    assert commented(tmp_path, None) == []


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_code_of_drift_is_told_to_the_job_that_writes_the_issue(
    code: int, tmp_path: Path
) -> None:
    (job,) = [job for job in JOBS if job.file.name == "drift.yml" and job.name == "drift"]
    (step,) = [step for step in job.steps if step.get("id") == "drift"]
    (tmp_path / "hardway").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "hardway").chmod(0o755)
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        cwd=tmp_path,
        env={**os.environ, "STACK": "dev", "GITHUB_OUTPUT": str(tmp_path / "output")},
    )
    assert done.returncode == code
    assert (tmp_path / "output").read_text() == f"code={code}\n"
    assert job.definition["outputs"] == {"code": "${{ steps.drift.outputs.code }}"}


def said_of_drift(code: str, issues: list[dict[str, Any]]) -> list[Any]:
    given = {
        "context": {
            "repo": {"owner": "team", "repo": "clusters"},
            "serverUrl": "https://github.example",
            "runId": 5,
        },
        "answers": {
            "issues.listForRepo": issues,
            "issues.createComment": {},
            "issues.create": {},
            "issues.update": {},
        },
    }
    calls = played("drift.yml", "issue", given, CODE=code)
    return [(verb, request) for verb, request in calls if "list" not in verb]


def titled(code: str) -> dict[str, Any]:
    """The issue that a code makes where there is none."""
    ((verb, made),) = said_of_drift(code, [])
    assert verb == "issues.create"
    assert "runs/5" in made["body"]
    return {"number": 3 + len(code) + ord(code[-1:] or "0"), "title": made["title"]}


@node
@pytest.mark.parametrize("code", ["1", "2", "3", ""])
def test_what_is_seen_is_one_issue_that_is_closed_when_it_is_over(code: str) -> None:
    mine = titled(code)
    ((verb, request),) = said_of_drift(code, [mine])
    assert (verb, request["issue_number"]) == ("issues.update", mine["number"])
    assert "state" not in request
    closing = said_of_drift("0", [mine])
    assert [verb for verb, _ in closing] == ["issues.createComment", "issues.update"]
    assert closing[-1][1]["state"] == "closed"
    assert said_of_drift("0", [{**mine, "pull_request": {}}]) == []


@node
def test_a_morning_without_anything_to_say_is_silent() -> None:
    assert said_of_drift("0", []) == []


@node
def test_drift_certificates_and_silence_are_three_issues() -> None:
    issues = {code: titled(code) for code in "123"}
    assert len({issue["title"] for issue in issues.values()}) == 3
    assert titled("")["title"] == issues["3"]["title"], "the job died before it asked"

    def closed(code: str) -> set[int]:
        calls = said_of_drift(code, list(issues.values()))
        return {request["issue_number"] for _, request in calls if request.get("state") == "closed"}

    assert closed("1") == {issues["3"]["number"]}, "of certificates nothing was said"
    assert closed("2") == {issues["1"]["number"], issues["3"]["number"]}
    assert closed("3") == set()
