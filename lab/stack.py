"""Running ``pulumi`` on a stack of the lab: its state, its passphrase, its configuration file."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import command_line, libvirt
from lab.cache import locked, write_atomically
from lab.namespace import ENGINE_VARIABLE
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from lab.process import attended
from lab.toolchain import PLUGINS, Toolchain
from spec.offer import OFFER_VARIABLE

SALT = re.compile(r"^encryptionsalt: .*\n?", re.MULTILINE)

SECRETS = re.compile(r"^(encryptionsalt|secretsprovider): ", re.MULTILINE)

UPDATES = frozenset({"up", "update", "destroy", "dn", "down", "refresh", "import", "watch"})
"""The commands that write a stack's state step by step, under a lock."""

TAKES_CONFIG_FILE = UPDATES | {"preview", "pre", "config", "logs"}
"""The commands with a ``--config-file`` option (``pulumi <command> --help``, 3.259)."""

STATES_KEPT = 10
"""How many of its earlier states a living stack keeps, in its history and in its backups."""

STATE = re.compile(r"(.+)\.json(\.gz|\.zst)?")
"""The file of a stack's state in a file backend, packed where somebody has asked for that."""

ATTRIBUTES = ".attrs"
"""The suffix of what a file backend notes of a file beside it."""

BACKEND_SETTINGS = (
    "PULUMI_DIY_BACKEND_",
    "PULUMI_SELF_MANAGED_STATE_",
    "PULUMI_RETAIN_CHECKPOINTS",
    "PULUMI_DISABLE_CHECKPOINT_BACKUPS",
)
"""How a file backend keeps its states (sdk/go/common/env, 3.259, with the older names).

In the lab's own backend states lie where this module looks for them.
"""

LEFT_OUT = ("gs://", "azblob://")
"""The backends that the recipe of Pulumi's CLI leaves out."""

AT_ONCE = 100
"""Resources that the engine works on at the same time; ``--parallel`` says otherwise.

Its own limit is four for each processor, and most steps and guards only wait for a machine.
"""

ENGINE_SETTINGS = (
    "PULUMI_OPTION_",  # every option of every command: --target, --stack, --config-file
    "PULUMI_SKIP_CHECKPOINTS",  # an update that is cut off would forget all that it has made
    "PULUMI_ENABLE_STREAMING_JSON_PREVIEW",
    "PULUMI_RUN_PROGRAM",
)
"""What would make an engine do something else than its command line says."""


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
        """The environment of every ``pulumi``; a person's own backend or passphrase wins.

        An SSH agent that does not answer is left out: the published command plugin would fail every
        step, although each has its key. Raises a Problem where states lie where this Pulumi cannot
        reach them.
        """
        self._demand_reachable_backend()
        own = {"PULUMI_STACK": self.name, **(self.extra or {})}
        if self._own_backend:
            self.paths.backend.mkdir(parents=True, exist_ok=True)
            own["PULUMI_BACKEND_URL"] = f"file://{self.paths.backend}"
        if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & os.environ.keys():
            own["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(self._passphrase())
        dropped = ENGINE_SETTINGS + (BACKEND_SETTINGS if self._own_backend else ())
        inherited = {
            name: value
            for name, value in self.toolchain.environment().items()
            if not name.startswith(dropped)
        }
        if not _answers(inherited.get("SSH_AUTH_SOCK", "")):
            inherited.pop("SSH_AUTH_SOCK", None)
        return {"PULUMI_PARALLEL": str(AT_ONCE)} | inherited | own

    def _demand_reachable_backend(self) -> None:
        """A Pulumi that was built would take such a URL for one of Pulumi's own service."""
        url = os.environ.get("PULUMI_BACKEND_URL", "")
        if url.startswith(LEFT_OUT) and self.toolchain.choices[0].origin == "built":
            raise Problem(
                f"PULUMI_BACKEND_URL is {url.partition(':')[0]}://..., which the Pulumi that was "
                "built here cannot reach (lab/recipes/recipes.yaml says why)",
                f"install an official Pulumi {self.toolchain.choices[0].version} or later, or use "
                "file://, s3:// or postgres://",
            )

    @property
    def _own_backend(self) -> bool:
        """Whether states are in the lab's own backend; ``./hardway env`` names that as well."""
        return os.environ.get("PULUMI_BACKEND_URL") in (None, f"file://{self.paths.backend}")

    def _passphrase(self) -> Path:
        path = self.paths.state / "passphrase"
        if not path.is_file():
            with locked(self.paths.state / "passphrase.lock"):
                if not path.is_file():
                    write_atomically(path, secrets.token_urlsafe(32).encode(), mode=0o600)
        return path

    def exists(self) -> bool:
        """Whether the stack has a state."""
        if self._own_backend:
            # Pulumi's own answer takes most of a second.
            return self.name in stacks_with_state(self.paths)
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
        plugins_path(self.paths, self.name).unlink(missing_ok=True)
        if self._own_backend:
            kept = self.paths.backend / ".pulumi"
            for kind in ("backups", "history"):
                for folder in kept.glob(f"{kind}/*/{self.name}"):
                    shutil.rmtree(folder)
            for file in kept.glob(f"stacks/*/{self.name}.json*"):
                file.unlink()  # the last state but one, and what the backend notes of a file

    def _forget_old_states(self) -> None:
        """Keep the last of a stack's earlier states: each update writes two, with all keys."""
        if not self._own_backend:
            return
        kept = self.paths.backend / ".pulumi"
        for kind in ("backups/*/{}/*", "history/*/{}/*.history.*", "history/*/{}/*.checkpoint.*"):
            # Their names end with nanoseconds since 1970, and the backend notes something of each.
            found = sorted(p for p in kept.glob(kind.format(self.name)) if p.suffix != ATTRIBUTES)
            for path in found[:-STATES_KEPT]:
                path.unlink(missing_ok=True)
                path.with_name(path.name + ATTRIBUTES).unlink(missing_ok=True)

    def _salted(self) -> Path:
        return self.paths.state / "config" / f"Pulumi.{self.name}.yaml"

    def pulumi(
        self,
        *arguments: str,
        capture: bool = False,
        each_line: Callable[[str], None] | None = None,
        cwd: Path = PROJECT,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``pulumi`` with the person's terminal (or captured) and return its result.

        ``each_line`` gets the lines of its standard output in the terminal's place.

        Where it is asked to end it stops, saves its state, and only then this process ends too.
        Raises a Problem if the stack's file was edited while ``pulumi`` changed it.
        """
        line = command_line.read(arguments)
        with self._configured(line, cwd) as options:
            done = attended(
                [*self.enter, self.toolchain.pulumi, *_after_the_verb(line, arguments, options)],
                environment=self.environment() | {ENGINE_VARIABLE: str(self.paths.state)},
                directory=cwd,
                capture=capture,
                each_line=each_line,
            )
        if line.verb in UPDATES:
            self._forget_old_states()
            self._note_plugins()
        return done

    def _note_plugins(self) -> None:
        """Note which plugins wrote the state: the published ones, or those that are built here."""
        origins = {choice.tool: choice.origin for choice in self.toolchain.choices}
        made = {name: origins.get(f"pulumi-resource-{name}", "built") for name in PLUGINS}
        path = plugins_path(self.paths, self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(made).encode())

    def at_home(self, line: command_line.CommandLine, cwd: Path = PROJECT) -> bool:
        """Whether a command line means this project and not that of another folder (``-C``)."""
        places = line.values("cwd")
        return not places or (cwd / places[-1]).resolve() == self.file.parent.resolve()

    @contextmanager
    def _configured(self, line: command_line.CommandLine, cwd: Path) -> Iterator[tuple[str, ...]]:
        """Give a command the stack's file with its salt, and take back what it changed there."""
        if not (
            line.verb in TAKES_CONFIG_FILE
            and not line.has("config-file")
            and self.at_home(line, cwd)
            and self._salted().is_file()
            and self.file.is_file()
            and not SECRETS.search(self.file.read_text())
        ):
            yield ()
            return
        salt = SALT.search(self._salted().read_text())
        before = self.file.read_text()
        given = before.rstrip("\n") + "\n" + (salt[0] if salt else "")
        # A copy of its own for each command: another one may run at the same time.
        with tempfile.TemporaryDirectory(dir=self._salted().parent) as folder:
            copy = Path(folder, self.file.name)
            write_atomically(copy, given.encode(), mode=0o600)
            try:
                yield (f"--config-file={copy}",)
            finally:
                self._take_back(before, given, copy.read_text())

    def _take_back(self, before: str, given: str, after: str) -> None:
        """``pulumi config set`` edits the copy: bring the edit, not the salt, to the checkout."""
        if after == given:
            return
        if not SALT.search(given) and (salt := SALT.search(after)):
            write_atomically(self._salted(), salt[0].encode(), mode=0o600)
        text = SALT.sub("", after)
        if text.strip() == before.strip():
            return
        if self.file.read_text() != before:
            raise Problem(
                f"{self.file.name} was edited while pulumi changed it; your edit is kept, and what "
                "pulumi would have written there is not",
                "give the values of that command to ./hardway pulumi config set",
            )
        write_atomically(self.file, text.encode())

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


def _after_the_verb(
    line: command_line.CommandLine, words: Sequence[str], options: Sequence[str]
) -> list[str]:
    """The words with options behind the verb: at their end there may be words after ``--``."""
    if line.at is None:
        return list(words)
    return [*words[: line.at + 1], *options, *words[line.at + 1 :]]


def _answers(agent: str) -> bool:
    """Whether somebody listens at the socket of an SSH agent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(1)
        try:
            line.connect(agent)
        except OSError:
            return False
    return True


def stacks_with_state(paths: LabPaths) -> list[str]:
    """The stacks in the lab's own backend, by name."""
    states = (paths.backend / ".pulumi" / "stacks").rglob("*")
    return sorted({found[1] for path in states if (found := STATE.fullmatch(path.name))})


def stack_names() -> list[str]:
    """The stacks that the checkout has configurations for."""
    return sorted(
        path.name.removeprefix("Pulumi.").removesuffix(".yaml")
        for path in PROJECT.glob("Pulumi.*.yaml")
    )


def offer_path(paths: LabPaths, stack: str) -> Path:
    """Where the lab says what it offers to the program of a stack."""
    return paths.state / "offers" / f"{stack}.json"


def plugins_path(paths: LabPaths, stack: str) -> Path:
    """Where the lab notes from where the plugins came that wrote a stack's state, by name."""
    return paths.state / "plugins" / f"{stack}.json"


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
