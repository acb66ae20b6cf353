"""A step's script with the machine's programs replaced: what it does, and what it says."""

import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from plan import library
from plan.model import Step
from spec.cluster import Cluster, parse
from tests.plan import inline
from tests.plan.golden import digests
from tests.plan.limited import limited

HARMLESS = ("journalctl", "sleep", "ip", "iptables", "modprobe", "swapoff", "sysctl", "timedatectl")


def cluster(**more: object) -> Cluster:
    """A master that is also a minion, and a minion; what else is said comes on top."""
    machines = {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
        "minion": {"address": "192.168.1.11"},
    }
    base = {"networks": {"machines": "192.168.1.0/24"}, "machines": machines}
    return parse({**base, "artifacts": {"digests": digests(None)}, **more}, name="test")


@dataclass(frozen=True)
class Said:
    """What a script did."""

    code: int
    output: str
    errors: str
    calls: list[str]
    """The replaced programs' command lines, in order; one with several lines has several here."""

    def of(self, name: str) -> list[str]:
        """The calls of one program."""
        return [call for call in self.calls if call.split(" ")[0] == name]


@dataclass(frozen=True)
class StandIn:
    """A folder that stands for a machine, and the programs that are replaced on it."""

    folder: Path
    programs: Mapping[str, str]
    """Name to the body of a shell script that does its work."""

    def with_programs(self, **programs: str) -> "StandIn":
        return replace(self, programs={**self.programs, **programs})

    def run(self, step: Step, **settings: str) -> Said:
        """Run the step's script after the real prelude; ``settings`` replace the step's own."""
        variables = {**step.settings, **settings}
        return self.say(
            *([library.script("admin")] if step.admin else []),
            *(f"{name}={shlex.quote(value)}" for name, value in variables.items()),
            library.script(str(step.script)),
        )

    def say(self, *lines: str) -> Said:
        """Run these lines after the real prelude."""
        script = "\n".join(lines)
        # No test waits out a limit.
        script = re.sub(r"\bawait [a-z\d-]+ ", "await 0 ", script)
        body = limited(f"{inline.functions('prelude', before=script)}\n{script}", 1)
        body = body.replace("/var/lib/hardway", str(self.folder / "state"))
        body = body.replace(
            "programs=/usr/local/lib/hardway", f"programs={self.folder / 'programs'}"
        )
        body = body.replace("PATH=", f"PATH={self._programs()}:", 1)
        log = self.folder / "calls"
        log.write_text("")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", body],
            capture_output=True,
            text=True,
            timeout=60,
            env={"CALLS": str(log), "FOLDER": str(self.folder), "HOME": str(self.folder)},
        )
        return Said(done.returncode, done.stdout, done.stderr, log.read_text().splitlines())

    def _programs(self) -> Path:
        folder = self.folder / "programs"
        folder.mkdir(exist_ok=True)
        for name, body in self.programs.items():
            path = folder / name
            path.write_text(f'#!/bin/bash\necho "{name} $*" >>"$CALLS"\n{body}\n')
            path.chmod(0o755)
        return folder


def stand_in(folder: Path, **programs: str) -> StandIn:
    """A machine on which the programs that change a kernel do nothing."""
    harmless = dict.fromkeys((*HARMLESS, "wait-for-api"), "exit 0")
    return StandIn(folder, {**harmless, **programs})
