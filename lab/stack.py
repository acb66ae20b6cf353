"""Running ``pulumi`` on a stack of the lab: its state, its passphrase, its configuration file."""

import json
import os
import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import libvirt
from lab.cache import locked, write_atomically
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from lab.toolchain import Toolchain
from spec.offer import OFFER_VARIABLE

SALT = re.compile(r"^encryptionsalt: .*\n?", re.MULTILINE)

SECRETS = re.compile(r"^(encryptionsalt|secretsprovider): ", re.MULTILINE)

TAKES_CONFIG_FILE = frozenset(
    {"up", "update", "preview", "pre", "destroy", "dn", "down", "refresh", "config"}
)
"""The commands with a ``--config-file`` option (``pulumi <command> --help``, 3.259)."""


@dataclass(frozen=True)
class Stack:
    """One stack of this project, as this lab runs it.

    Pulumi writes the salt of the stack's passphrase into ``Pulumi.<stack>.yaml``. The passphrase is
    this lab's own, so its salt has no place in a repository that others read: it is kept beside
    the state, and ``pulumi`` reads a copy of the stack's file that has it. A stack file with a salt
    of its own (a team that shares a passphrase) is used as it is.
    """

    name: str
    paths: LabPaths
    toolchain: Toolchain
    enter: Sequence[str] = ()
    """The command prefix that puts ``pulumi`` where it reaches the machines."""
    extra: Mapping[str, str] | None = None
    """More environment variables, such as the lab's offer."""

    @property
    def file(self) -> Path:
        """The stack's configuration in the checkout."""
        return PROJECT / f"Pulumi.{self.name}.yaml"

    def environment(self) -> dict[str, str]:
        """The environment of every ``pulumi``; a person's own backend or passphrase wins."""
        own = {"PULUMI_STACK": self.name, **(self.extra or {})}
        if "PULUMI_BACKEND_URL" not in os.environ:
            self.paths.backend.mkdir(parents=True, exist_ok=True)
            own["PULUMI_BACKEND_URL"] = f"file://{self.paths.backend}"
        if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & os.environ.keys():
            own["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(self._passphrase())
        return self.toolchain.environment() | own

    def _passphrase(self) -> Path:
        path = self.paths.state / "passphrase"
        if not path.is_file():
            with locked(self.paths.state / "passphrase.lock"):
                if not path.is_file():
                    write_atomically(path, secrets.token_urlsafe(32).encode(), mode=0o600)
        return path

    def exists(self) -> bool:
        """Whether the stack has a state."""
        if "PULUMI_BACKEND_URL" not in os.environ:
            # Pulumi's own answer takes most of a second.
            stacks = self.paths.backend / ".pulumi" / "stacks"
            return any(stacks.glob(f"*/{self.name}.json"))
        done = self._quietly("stack", "ls", "--json")
        return f'"name": "{self.name}"' in done.stdout

    def create(self) -> None:
        """Make the stack if it is not there, leaving the checkout's file alone."""
        if not self.file.is_file():
            raise Problem(
                f"the stack '{self.name}' has no {self.file.name}",
                f"write one, starting from a copy of Pulumi.dev.yaml, or choose one of "
                f"{', '.join(stack_names())}",
            )
        salted = self._salted()
        if SECRETS.search(self.file.read_text()) or (salted.exists() and self.exists()):
            return
        with locked(self.paths.state / "stack.lock"):
            private = salted.parent
            private.mkdir(parents=True, exist_ok=True)
            if self.exists():
                self._restore_salt()
                return
            # Beside the state and not in the checkout: the salt is written where this is run.
            salted.unlink(missing_ok=True)
            write_atomically(private / "Pulumi.yaml", (PROJECT / "Pulumi.yaml").read_bytes())
            self._checked("--cwd", private, "stack", "init", self.name)

    def _restore_salt(self) -> None:
        """Take the salt from the state itself, which has it once the first update is done."""
        told = self._quietly("stack", "export").stdout
        provider = json.loads(told or "{}").get("deployment", {}).get("secrets_providers", {})
        if salt := provider.get("state", {}).get("salt"):
            write_atomically(self._salted(), f"encryptionsalt: {salt}\n".encode(), mode=0o600)

    def remove(self) -> None:
        """Remove the state of a stack without resources, and what is kept beside it.

        ``pulumi destroy --remove`` would take the checkout's file with it.
        """
        self._checked("stack", "rm", self.name, "--yes", "--preserve-config")
        self._salted().unlink(missing_ok=True)

    def _salted(self) -> Path:
        return self.paths.state / "config" / f"Pulumi.{self.name}.yaml"

    def pulumi(
        self, *arguments: str, capture: bool = False, cwd: Path = PROJECT
    ) -> subprocess.CompletedProcess[str]:
        """Run ``pulumi`` with the person's terminal (or captured) and return its result."""
        words = list(arguments)
        copy = (
            bool(words and words[0] in TAKES_CONFIG_FILE)
            and "--config-file" not in words
            and self._salted().is_file()
            and self.file.is_file()
            and not SECRETS.search(self.file.read_text())
        )
        if copy:
            before = self._refresh_copy()
            words += ["--config-file", str(self._salted())]
        done = subprocess.run(
            [*self.enter, str(self.toolchain.pulumi), *words],
            env=self.environment(),
            cwd=cwd,
            text=True,
            capture_output=capture,
            check=False,
        )
        if copy:
            self._take_back(before)
        return done

    def _refresh_copy(self) -> str:
        salted = self._salted()
        salt = SALT.search(salted.read_text())
        text = self.file.read_text()
        joined = text.rstrip("\n") + "\n" + (salt[0] if salt else "")
        write_atomically(salted, joined.encode(), mode=0o600)
        return text

    def _take_back(self, before: str) -> None:
        """``pulumi config set`` edits the copy: bring the edit, not the salt, to the checkout."""
        after = SALT.sub("", self._salted().read_text())
        if after.strip() != before.strip():
            write_atomically(self.file, after.encode())

    def _quietly(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.toolchain.pulumi), *map(str, arguments), "--non-interactive"],
            env=self.environment(),
            cwd=PROJECT,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def _checked(self, *arguments: str | Path) -> None:
        done = self._quietly(*arguments)
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())
            words = " ".join(str(word) for word in arguments if not str(word).startswith("-"))
            raise Problem(f"pulumi {words} failed ({said})", "mend that and run it again")


def stack_names() -> list[str]:
    """The stacks that the checkout has configurations for."""
    return sorted(
        path.name.removeprefix("Pulumi.").removesuffix(".yaml")
        for path in PROJECT.glob("Pulumi.*.yaml")
    )


def offer_path(paths: LabPaths, stack: str) -> Path:
    """Where the lab says what it offers to the program of a stack."""
    return paths.state / "offers" / f"{stack}.json"


def stack_in_lab(name: str, paths: LabPaths, tools: Toolchain) -> Stack:
    """A stack that ``pulumi`` can be run on, inside the lab's network if its machines are there.

    They are where the lab made it an offer: a stack with a hypervisor of its own gets none.
    """
    found = libvirt.find(paths) if offer_path(paths, name).is_file() else None
    return Stack(
        name=name,
        paths=paths,
        toolchain=tools,
        enter=libvirt.enter(found) if found else (),
        extra={
            OFFER_VARIABLE: str(offer_path(paths, name)),
            "PULUMI_DEBUG_COMMANDS": "true",  # makes --event-log known
        },
    )
