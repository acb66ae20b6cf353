"""Runs ``pulumi`` on a stack of the lab; manages its state, passphrase and configuration file."""

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
"""How many earlier states of a stack are kept in its history, and how many in its backups."""

STATE = re.compile(r"(.+)\.json(\.gz|\.zst)?")
"""The file name of a stack's state in a file backend; it may be compressed."""

ATTRIBUTES = ".attrs"
"""The suffix of the file in which a file backend keeps the attributes of another file."""

BACKEND_SETTINGS = (
    "PULUMI_DIY_BACKEND_",
    "PULUMI_SELF_MANAGED_STATE_",
    "PULUMI_RETAIN_CHECKPOINTS",
    "PULUMI_DISABLE_CHECKPOINT_BACKUPS",
)
"""Environment variables that configure a file backend (sdk/go/common/env, 3.259, and older names).

For the lab's own backend they are dropped, so that states lie where this module looks for them.
"""

LEFT_OUT = ("gs://", "azblob://")
"""URL prefixes of the backends that the recipe of Pulumi's CLI leaves out."""

AT_ONCE = 100
"""How many resources the engine works on at the same time, unless ``--parallel`` is given.

The engine's own limit is four for each processor. That is too low, since most steps and guards only
wait for a machine.
"""

ENGINE_SETTINGS = (
    "PULUMI_OPTION_",  # every option of every command: --target, --stack, --config-file
    "PULUMI_SKIP_CHECKPOINTS",  # an interrupted update would lose the record of all it has made
    "PULUMI_ENABLE_STREAMING_JSON_PREVIEW",
    "PULUMI_RUN_PROGRAM",
)
"""Environment variables that change what the engine does for a given command line."""


@dataclass(frozen=True)
class Stack:
    """One stack of this project, as this lab runs it.

    Pulumi writes the salt of the stack's passphrase into ``Pulumi.<stack>.yaml``. The passphrase
    belongs to this lab, so its salt does not belong in a shared repository. The salt is kept beside
    the state, and ``pulumi`` reads a copy of the stack's file with the salt added. A stack file
    that has its own salt (where a team shares a passphrase) is used unchanged.
    """

    name: str
    paths: LabPaths
    toolchain: Toolchain
    enter: Sequence[str] = ()
    """The command prefix that runs ``pulumi`` in the network namespace of the machines."""
    extra: Mapping[str, str] | None = None
    """Additional environment variables, such as the path of the lab's offer."""

    @property
    def file(self) -> Path:
        """The stack's configuration file in the checkout."""
        return PROJECT / f"Pulumi.{self.name}.yaml"

    def environment(self) -> dict[str, str]:
        """The environment of every ``pulumi``; a backend or passphrase that the user has set wins.

        SSH_AUTH_SOCK is removed where the SSH agent does not answer. With it the published command
        plugin would fail every step, although each step has its own key. Raises a Problem where
        this Pulumi cannot reach the backend.
        """
        self._demand_reachable_backend()
        own = {"PULUMI_STACK": self.name, **(self.extra or {})}
        if self._own_backend:
            self.paths.backend.mkdir(parents=True, exist_ok=True)
            self._forget_attributes()
            own["PULUMI_BACKEND_URL"] = self._backend_url
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
        """Raise a Problem where this Pulumi was built here without support for the backend.

        It would otherwise take the backend's URL for a URL of Pulumi's own service.
        """
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
        """Whether states are in the lab's own backend.

        PULUMI_BACKEND_URL may name that backend as well: ``./hardway env`` prints such a line.
        """
        plain = f"file://{self.paths.backend}"
        return os.environ.get("PULUMI_BACKEND_URL") in (None, plain, self._backend_url)

    @property
    def _backend_url(self) -> str:
        """The lab's own backend, which keeps no attributes of its files.

        A file backend writes them in place, so that whoever reads a state at that moment, and
        everybody after a kill at that moment, gets "failed to load checkpoint: EOF" (gocloud.dev
        0.46, fileblob's ``setAttrs``).
        """
        return f"file://{self.paths.backend}?metadata=skip"

    def _forget_attributes(self) -> None:
        """Remove the attributes that earlier versions of this program had kept, whole or not."""
        for file in (self.paths.backend / ".pulumi").rglob(f"*{ATTRIBUTES}"):
            file.unlink(missing_ok=True)

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
            # To run pulumi takes most of a second.
            return self.name in stacks_with_state(self.paths)
        done = self._quietly("stack", "ls", "--json")
        return f'"name": "{self.name}"' in done.stdout

    def create(self) -> None:
        """Create the stack if it does not exist, without a change to its file in the checkout.

        Raises a Problem where the stack has no such file.
        """
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
            # pulumi writes the salt into its working directory, which must not be the checkout.
            salted.unlink(missing_ok=True)
            write_atomically(private / "Pulumi.yaml", (PROJECT / "Pulumi.yaml").read_bytes())
            self._checked("--cwd", private, "stack", "init", self.name)

    def _restore_salt(self) -> None:
        """Read the salt from the state, which contains it after the first update."""
        exported = self._quietly("stack", "export").stdout
        provider = json.loads(exported or "{}").get("deployment", {}).get("secrets_providers", {})
        if salt := provider.get("state", {}).get("salt"):
            write_atomically(self._salted(), f"encryptionsalt: {salt}\n".encode(), mode=0o600)

    def remove(self) -> None:
        """Remove the state of a stack without resources, and the stack's files in the lab.

        ``pulumi destroy --remove`` would also remove the stack's file in the checkout.
        """
        self._checked("stack", "rm", self.name, "--yes", "--preserve-config")
        self._salted().unlink(missing_ok=True)
        plugins_path(self.paths, self.name).unlink(missing_ok=True)
        offer_path(self.paths, self.name).unlink(missing_ok=True)
        if self._own_backend:
            kept = self.paths.backend / ".pulumi"
            for kind in ("backups", "history"):
                for folder in kept.glob(f"{kind}/*/{self.name}"):
                    shutil.rmtree(folder)
            for file in kept.glob(f"stacks/*/{self.name}.json*"):
                file.unlink()  # the previous state

    def _forget_old_states(self) -> None:
        """Remove all but the latest earlier states of the stack, which contain all its keys.

        Each update writes two of them.
        """
        if not self._own_backend:
            return
        kept = self.paths.backend / ".pulumi"
        for kind in ("backups/*/{}/*", "history/*/{}/*.history.*", "history/*/{}/*.checkpoint.*"):
            # The file names end with nanoseconds since 1970.
            for path in sorted(kept.glob(kind.format(self.name)))[:-STATES_KEPT]:
                path.unlink(missing_ok=True)

    def _salted(self) -> Path:
        return self.paths.state / "config" / f"Pulumi.{self.name}.yaml"

    def pulumi(
        self,
        *arguments: str,
        capture: bool = False,
        each_line: Callable[[str], None] | None = None,
        cwd: Path = PROJECT,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``pulumi`` on the user's terminal, or with its output captured; return its result.

        Where ``each_line`` is given, it gets each line of the standard output instead of the
        terminal.

        On a signal to end, ``pulumi`` stops and saves its state before this process ends. Raises a
        Problem if the stack's file was edited while ``pulumi`` changed it.
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
        """Record the origin of each plugin: ``installed``, ``official`` or ``built``."""
        origins = {choice.tool: choice.origin for choice in self.toolchain.choices}
        made = {name: origins.get(f"pulumi-resource-{name}", "built") for name in PLUGINS}
        path = plugins_path(self.paths, self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(made).encode())

    def at_home(self, line: command_line.CommandLine, cwd: Path = PROJECT) -> bool:
        """Whether a command line is for this project, not for another directory (``-C``)."""
        places = line.values("cwd")
        return not places or (cwd / places[-1]).resolve() == self.file.parent.resolve()

    @contextmanager
    def _configured(self, line: command_line.CommandLine, cwd: Path) -> Iterator[tuple[str, ...]]:
        """Give a command a copy of the stack's file with the salt; bring its changes back.

        Yields the options to add to the command line; none where the command needs no copy.
        """
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
        # Each command gets its own copy, since another command may run at the same time.
        with tempfile.TemporaryDirectory(dir=self._salted().parent) as folder:
            copy = Path(folder, self.file.name)
            write_atomically(copy, given.encode(), mode=0o600)
            try:
                yield (f"--config-file={copy}",)
            finally:
                self._take_back(before, given, copy.read_text())

    def _take_back(self, before: str, given: str, after: str) -> None:
        """Write to the checkout's file what a command (``pulumi config set``) changed in the copy.

        The salt stays out of the checkout.
        """
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
            message = " ".join((done.stderr or done.stdout).split())
            command = " ".join(
                str(argument) for argument in arguments if not str(argument).startswith("-")
            )
            raise Problem(f"pulumi {command} failed ({message})", "mend that and run it again")


def _after_the_verb(
    line: command_line.CommandLine, arguments: Sequence[str], options: Sequence[str]
) -> list[str]:
    """The command line with options added after the verb.

    They cannot go to the end, where arguments after ``--`` may be.
    """
    if line.at is None:
        return list(arguments)
    return [*arguments[: line.at + 1], *options, *arguments[line.at + 1 :]]


def _answers(agent: str) -> bool:
    """Whether an SSH agent listens at this socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(1)
        try:
            line.connect(agent)
        except OSError:
            return False
    return True


def stacks_with_state(paths: LabPaths) -> list[str]:
    """The names of the stacks in the lab's own backend, sorted."""
    states = (paths.backend / ".pulumi" / "stacks").rglob("*")
    return sorted({match[1] for path in states if (match := STATE.fullmatch(path.name))})


def stack_names() -> list[str]:
    """The names of the stacks that have a configuration file in the checkout, sorted."""
    return sorted(
        path.name.removeprefix("Pulumi.").removesuffix(".yaml")
        for path in PROJECT.glob("Pulumi.*.yaml")
    )


def offer_path(paths: LabPaths, stack: str) -> Path:
    """The file in which the lab writes its offer to the Pulumi program of a stack."""
    return paths.state / "offers" / f"{stack}.json"


def is_in_lab(paths: LabPaths, stack: str) -> bool:
    """Whether the lab's last offer to a stack is a libvirt of the lab.

    A stack with its own hypervisor has no offer, or that of images alone.
    """
    try:
        where = json.loads(offer_path(paths, stack).read_text())["hypervisor"]
    except (OSError, ValueError, KeyError):
        return False
    return bool(where.get("kind", "libvirt") == "libvirt")


def plugins_path(paths: LabPaths, stack: str) -> Path:
    """The file that maps each plugin that wrote a stack's state to its origin."""
    return paths.state / "plugins" / f"{stack}.json"


def stack_in_lab(name: str, paths: LabPaths, tools: Toolchain) -> Stack:
    """A stack on which ``pulumi`` can run, in the lab's network if the machines are there."""
    connection = libvirt.find(paths) if is_in_lab(paths, name) else None
    return Stack(
        name=name,
        paths=paths,
        toolchain=tools,
        enter=libvirt.enter(connection) if connection else (),
        extra={
            OFFER_VARIABLE: str(offer_path(paths, name)),
            "PULUMI_DEBUG_COMMANDS": "true",  # enables the option --event-log
        },
    )
