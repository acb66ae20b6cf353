"""``remote.Command`` through the real engine, the plugin and an OpenSSH server.

Tests with ``own_plugin`` show what only the plugin in ``plugins/command`` promises.
"""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.engine.sshd import MakeSshd, Sshd, fingerprint, make_key, pid_runs
from tests.engine.stack import EngineStack, eventually

pytestmark = pytest.mark.engine


def test_commands_live_as_documented(stack: EngineStack, sshd: Sshd, tmp_path: Path) -> None:
    did, seen, replaced = tmp_path / "did", tmp_path / "seen", tmp_path / "replaced"
    show = 'echo "$PULUMI_COMMAND_STDOUT"'

    def write(step: dict[str, object], second: dict[str, object]) -> None:
        step = {"create": f"echo create >> {did}", "delete": f"echo delete >> {did}"} | step
        second = {
            "create": f"echo create | tee -a {replaced}",
            "update": f"{show} > {seen}",
        } | second
        second["delete"] = f"echo delete >> {replaced}"
        stack.write(
            f"""
            remote.Command("step", connection=to("sshd"), **{step!r})
            remote.Command("other", connection=to("sshd"), **{second!r})
            remote.Command("empty", connection=to("sshd", port=1))
            """,
            sshd=sshd.connection(),
        )

    write({"stdin": "line one\nlimit=1\nline three\n"}, {})
    assert stack.up().steps() == {name: ["create"] for name in ("step", "other", "empty")}
    assert did.read_text().split() == ["create"]
    stack.preview("--expect-no-changes")

    write({"stdin": "line one\nlimit=2\nline three\n"}, {"stdin": "x"})
    preview = stack.preview("--diff")
    assert preview.steps() == {"step": ["update"], "other": ["update"]}
    assert_line_diff(preview.text, "limit=1", "limit=2")
    stack.up()
    assert did.read_text().split() == ["create", "create"]
    assert seen.read_text().split() == ["create"]

    write({"update": "exit 3", "delete": f"echo never >> {did}"}, {"triggers": ["new"]})
    run = stack.up("--continue-on-error", fails=True)
    assert "status 3" in run.errors_of("step")
    assert "limit=2" in stack.resources()["step"]["inputs"]["stdin"]
    assert run.steps()["other"] == ["create-replacement", "replace", "delete-replaced"]
    assert replaced.read_text().split() == ["create", "create", "delete"]

    stack.write("raise SystemExit('destroy does not ask the program')")
    stack.destroy()
    assert did.read_text().split() == ["create", "create", "delete"]
    assert not stack.resources()


def assert_line_diff(text: str, old: str, new: str) -> None:
    """The preview shows the changed line with a minus and a plus, and its neighbours without."""
    marks = {
        line.strip()[2:].strip(): line.strip()[0] for line in text.splitlines() if line.strip()
    }
    assert marks[old] == "-"
    assert marks[new] == "+"
    assert "line three" in text


@pytest.mark.usefixtures("own_plugin")
def test_what_fails_says_why_and_leaves_nothing_in_the_state(
    stack: EngineStack, sshd: Sshd, make_sshd: MakeSshd, tmp_path: Path
) -> None:
    closed, pid = make_sshd(), tmp_path / "pid"
    wrong_key = make_key(tmp_path / "other_host_key").with_suffix(".pub")
    stack.write(
        f"""
        remote.Command("good", connection=to("sshd"), create="echo good")
        remote.Command("failing", connection=to("sshd"),
            stdin=Output.secret("hidden line of stdin"),
            environment={{"TOKEN": Output.secret("hidden-token")}},
            create="cat; echo $TOKEN; seq 1 9000; echo the reason >&2; exit 42 # the script")
        remote.Command("environment", connection=to("sshd"), create="true",
            environment={{"REFUSED": "hidden-value"}})
        remote.Command("host-key", connection=to("sshd", host_key=Path("{wrong_key}").read_text()),
            create="true")
        remote.Command("limit", connection=to("closed", dial_error_limit=2), create="true")
        remote.Command("timeout", connection=to("sshd"),
            create="timeout -k 10 600 bash -euo pipefail -s",
            stdin="echo $$ > {pid}; echo began; sleep 600",
            opts=ResourceOptions(custom_timeouts=CustomTimeouts(create="2s")))
        """,
        sshd=sshd.connection(),
        closed=closed.connection(),
    )
    run = stack.up("--continue-on-error", fails=True)
    assert list(stack.resources()) == ["good"]
    assert not stack.pending()

    failing = run.errors_of("failing")
    assert "exit status 42" in failing
    assert "the reason" in failing
    assert "9000" in failing
    assert "\n8970\n" not in failing
    assert "# the script" not in failing
    assert "hidden" not in run.text + run.logged()
    assert "REFUSED" in run.errors_of("environment")
    assert "AcceptEnv" in run.errors_of("environment")
    assert fingerprint(wrong_key) in run.errors_of("host-key")
    assert sshd.fingerprint in run.errors_of("host-key")
    assert f"127.0.0.1:{sshd.port}" in run.errors_of("host-key")
    assert "gave up after 3 failed attempts" in run.errors_of("limit")
    assert "connection refused" in run.errors_of("limit")
    assert "stopped after 2s" in run.errors_of("timeout")
    assert "began" in run.errors_of("timeout")
    eventually("the process is gone", lambda: not pid_runs(int(pid.read_text())))


@pytest.mark.usefixtures("own_plugin")
def test_what_works_works_together(
    stack: EngineStack, sshd: Sshd, make_sshd: MakeSshd, tmp_path: Path
) -> None:
    jump = make_sshd("DEBUG1")
    jump.start()
    (tmp_path / "source").write_text("copied")
    modes = ("stdout", "stderr", "stdoutAndStderr", "none")
    secrets = ("hidden line of stdin", "hidden-token", "OPENSSH PRIVATE KEY")

    def write(stdin: str) -> None:
        stack.write(
            f"""
            for mode in {modes}:
                remote.Command(mode, connection=to("sshd"), logging=mode,
                    create=f"echo {{mode}}-out; echo {{mode}}-err >&2;"
                    " head -c 1500000 /dev/zero | tr '\\\\0' x; echo; echo last")
            remote.Command("environment", connection=to("sshd"), environment={{"COLOUR": "blue"}},
                create="echo $COLOUR")
            remote.Command("jump", connection=to("sshd", proxy="jump"),
                create="echo arrived")
            remote.Command("secret", connection=to("sshd"), create="cat | wc -c", logging="none",
                stdin=Output.secret("{stdin}"),
                environment=Output.secret({{"TOKEN": "hidden-token"}}))
            remote.CopyToRemote("file", connection=to("sshd"), remote_path="{tmp_path}/target",
                source=pulumi.FileAsset("{tmp_path}/source"))
            remote.CopyToRemote("text", connection=to("sshd"), remote_path="{tmp_path}/text",
                source=pulumi.StringAsset("words"))
            made = local.Command("local", create="cat; echo 1 > made.txt", stdin="local words",
                asset_paths=["*.txt"])
            pulumi.export("run", local.run(command="echo ran").stdout)
            pulumi.export("made", made.assets)
            """,
            sshd=sshd.connection(),
            jump=jump.connection(),
        )

    write("hidden line of stdin")
    run = stack.up()
    outputs = {name: resource["outputs"] for name, resource in stack.resources().items()}
    for mode in modes:
        assert outputs[mode]["stdout"] == f"{mode}-out\n{'x' * 1_500_000}\nlast"
        assert outputs[mode]["stderr"] == f"{mode}-err"
        assert (f"{mode}-out" in run.logged()) == (mode in ("stdout", "stdoutAndStderr"))
        assert (f"{mode}-err" in run.logged()) == (mode in ("stderr", "stdoutAndStderr"))
    assert outputs["environment"]["stdout"] == "blue"
    assert outputs["jump"]["stdout"] == "arrived"
    assert f"target 127.0.0.1 port {sshd.port}" in jump.log()
    assert outputs["secret"]["stdout"] == str(len("hidden line of stdin"))
    assert outputs["local"]["stdout"] == "local words"
    assert list(outputs["local"]["assets"]) == ["made.txt"]
    assert (tmp_path / "target").read_text() == "copied"
    assert (tmp_path / "text").read_text() == "words"

    write("hidden line changed")
    preview = stack.preview("--diff")
    assert preview.steps() == {"secret": ["update"]}
    assert "[secret]" in preview.text
    for text in (run.text, run.logged(), preview.text, json.dumps(preview.events), stack.state()):
        for secret in (*secrets, "hidden line changed"):
            assert secret not in text


@pytest.mark.usefixtures("own_plugin")
def test_connections_are_closed_while_the_plugin_goes_on(stack: EngineStack, sshd: Sshd) -> None:
    stack.write(
        f"""
        before = None
        for number in range(5):
            before = remote.Command(f"step{{number}}", connection=to("sshd"), create="true",
                opts=ResourceOptions(depends_on=[before] if before else []))
        # The server ends a connection's process a moment after its client has gone.
        remote.Command("count", connection=to("sshd"), opts=ResourceOptions(depends_on=[before]),
            create='''for i in $(seq 100); do
                set -- $(cat /proc/{sshd.pid}/task/{sshd.pid}/children)
                if [ $# = 1 ]; then break; fi
                sleep 0.1
            done
            echo $#''')
        """,
        sshd=sshd.connection(),
    )
    stack.up()
    assert stack.resources()["count"]["outputs"]["stdout"] == "1"


def test_a_login_is_tried_until_the_server_has_started(
    stack: EngineStack, make_sshd: MakeSshd
) -> None:
    late = make_sshd()
    stack.write(
        'remote.Command("step", connection=to("late", dial_error_limit=-1), create="echo here")',
        late=late.connection(),
    )
    up = stack.start_up()
    # Of the two plugins ours says the first, the published one the second.
    messages = ("no SSH yet", "failed")
    eventually(
        "an attempt failed", lambda: any(message in stack.logged_so_far() for message in messages)
    )
    late.start()
    run = stack.finish(up)
    assert run.status == 0, run.text
    assert stack.resources()["step"]["outputs"]["stdout"] == "here"


@pytest.mark.usefixtures("own_plugin")
def test_an_interrupt_stops_commands_here_and_there(
    stack: EngineStack, sshd: Sshd, tmp_path: Path
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    stack.write(
        f"""
        remote.Command("there", connection=to("sshd"),
            create="timeout -k 10 600 bash -s", stdin="echo $$ > {there}; sleep 600")
        local.Command("here", create="echo $$ > {here}; sleep 600; true")
        """,
        sshd=sshd.connection(),
    )
    up = stack.start_up()
    eventually("both commands run", lambda: all(map(written, (there, here))))
    os.kill(up.pid, signal.SIGINT)
    run = stack.finish(up)
    assert run.status != 0
    for file in (there, here):
        assert "the update was cancelled" in run.errors_of(file.name)
    eventually(
        "both are gone", lambda: not any(pid_runs(int(f.read_text())) for f in (there, here))
    )
    assert not stack.resources()
    assert not stack.pending()


def written(file: Path) -> bool:
    return file.exists() and file.read_text().endswith("\n")


def test_a_copy_that_was_lost_is_made_again_where_its_name_is_given(
    stack: EngineStack, sshd: Sshd, tmp_path: Path
) -> None:
    """What a step says whose scripts are not as they were copied."""
    source, copied, ran = stack.directory / "scripts", tmp_path / "place", tmp_path / "ran"
    source.mkdir()
    (source / "step.sh").write_text(f"echo >> {ran}\n")
    run = f"bash {copied}/scripts/step.sh"

    def write(data: str) -> None:
        stack.write(
            f"""
            scripts = remote.CopyToRemote("a-scripts", connection=to("sshd"),
                source=pulumi.FileArchive("scripts"), remote_path={str(copied)!r})
            remote.Command("a-step", connection=to("sshd"), create={run!r}, stdin={data!r},
                opts=ResourceOptions(depends_on=[scripts]))
            """,
            sshd=sshd.connection(),
        )

    write("one")
    stack.up()
    assert "path" in stack.resources()["a-scripts"]["inputs"]["source"]
    assert str(stack.directory) not in json.dumps(stack.resources()["a-scripts"]["inputs"])
    (copied / "scripts" / "step.sh").unlink()
    write("two")
    stack.up(fails=True)
    stack.up("--replace", "**-scripts")
    assert ran.read_text() == "\n\n"
    (source / "step.sh").write_text(f"echo 2 >> {ran}\n")
    assert stack.up().steps() == {"a-scripts": ["update"]}
    assert (copied / "scripts" / "step.sh").read_text() == f"echo 2 >> {ran}\n"
