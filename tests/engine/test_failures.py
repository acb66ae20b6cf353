"""Several machines wait in vain at once: what the real engine shows of it, and what is kept."""

import json
from pathlib import Path

import pytest

from lab.problem import Problem
from ops.events import kept_of
from ops.failures import failures
from ops.lifecycle import _failed
from tests.engine.sshd import Sshd
from tests.engine.stack import CliRun, EngineStack
from tests.plan import inline
from tests.plan.test_failing import KUBELET

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("own_plugin")]

MACHINES = ("master", "minion1", "minion2")
TITLE = "the kubelet is healthy"

STEP = """{{
{functions}
touch {folder}/there.$name
# All of them run before the first fails, after which the engine begins nothing more.
for _ in {{1..600}}; do
    there=({folder}/there.*)
    [ "${{#there[@]}}" -lt {machines} ] || break
    sleep 0.1
done
await 1 '{title}' kubelet.service sh -c 'echo connection refused; exit 1'
exit
}}
"""


def failed_update(stack: EngineStack, sshd: Sshd, folder: Path) -> CliRun:
    """An update with a step on each machine that waits in vain, on a host with long logs."""
    journal = folder / "programs" / "journalctl"
    journal.parent.mkdir()
    journal.write_text(f"#!/bin/bash\n{KUBELET}")
    journal.chmod(0o755)
    functions = inline.functions("prelude").replace("/var/lib/hardway", str(folder / "state"))
    functions = functions.replace("PATH=", f"PATH={journal.parent}:", 1)
    text = STEP.format(functions=functions, folder=folder, machines=len(MACHINES), title=TITLE)
    (folder / "step").write_text(text)
    stack.write(
        f"""
        for name in {MACHINES}:
            remote.Command(f"{{name}}-node", connection=to("sshd"),
                create="timeout -k 10 600 bash -euo pipefail -s",
                stdin=f"name={{name}}\\n" + Path("{folder / "step"}").read_text())
        """,
        sshd=sshd.connection(),
    )
    return stack.up("--parallel", "8", fails=True)


def test_a_failed_update_ends_with_a_sentence_for_each_machine(
    stack: EngineStack, sshd: Sshd, tmp_path: Path
) -> None:
    run = failed_update(stack, sshd, tmp_path)
    lines = run.text.partition("\nDiagnostics:\n")[2].splitlines()
    reasons = [number for number, line in enumerate(lines) if f" s: {TITLE}; no news for " in line]
    assert len(reasons) == len(MACHINES)
    for number in reasons:
        assert lines[number - 1].strip() == "stderr ends with:", "nothing of it is cut off"
        assert lines[number].strip().startswith("failed: not yet after ")
    assert len(lines) < 20 * len(MACHINES)

    events = [kept for event in run.events if (kept := kept_of(event))]
    sentences = failures(events, MACHINES)
    assert sorted(sentence.partition(",")[0] for sentence in sentences) == list(MACHINES)
    for sentence in sentences:
        assert ", step node: not yet after " in sentence
        assert f" s: {TITLE}; no news for " in sentence
        assert sentence.endswith(" s by this computer's clock)")
    assert "I1128" in run.text
    assert "I1128" not in json.dumps(events)
    problem = _failed(run.status, sentences)
    assert isinstance(problem, Problem)
    assert tuple(str(problem).splitlines()[: len(MACHINES)]) == sentences
