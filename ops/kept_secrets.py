"""What only the state of a stack has, and nothing can make again, as a file for a safe place."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from certs import passphrase as sealing
from certs.bundle import Authorities, BundleError
from lab.paths import LabPaths
from lab.problem import Problem
from ops.display import at_terminal, option_of
from ops.reach import kept_by_cluster, resources, stashes
from preview import kinds
from spec import resource_names
from spec.cluster import Cluster
from spec.kept import written

FORMAT = 1
"""Of the file's content; a later program that writes another one counts it up."""

SHORTEST = 12
"""The fewest characters of a passphrase."""

FIRST_LINE = "A file with the passphrase in its first line, in place of a question."


@dataclass(frozen=True, kw_only=True)
class KeptSecrets:
    """The keys of a stack that its state has, and neither its file nor a certificate's renewal."""

    stack: str
    made: datetime
    authorities: str = field(repr=False)
    """``Authorities.state()`` as JSON."""
    stashes: Mapping[str, Mapping[str, str]] = field(repr=False)
    """Resource name to the keys that a ``Stash`` keeps: SSH keys, keys of backups, the seed of
    passwords."""
    applied: str = ""
    """The spec that was applied last, as the state keeps it: to compare with, and no secret."""

    @property
    def read_authorities(self) -> Authorities:
        return Authorities.from_state(json.loads(self.authorities))

    def has_ssh_keys(self, numbers: Iterable[int]) -> bool:
        """Whether all SSH keys with these numbers are among them."""
        names = {resource_names.numbered(resource_names.SSH_KEY, number) for number in numbers}
        return names <= self.stashes.keys()

    def differs_from(self, spec: Cluster) -> str | None:
        """A sentence where the spec is not the one that was applied when the file was written."""
        if not self.applied or self.applied == written(spec):
            return None
        return (
            f"Pulumi.{self.stack}.yaml is not what was applied on {self.made:%Y-%m-%d}, when the "
            "file was written; it is taken as what the machines are now, so write into it no "
            "change that was not applied yet"
        )

    def written(self) -> str:
        """The secrets as JSON."""
        value = {
            "format": FORMAT,
            "stack": self.stack,
            "made": self.made.isoformat(),
            "authorities": json.loads(self.authorities),
            "stashes": self.stashes,
            "applied": self.applied,
        }
        return json.dumps(value, indent=1, sort_keys=True) + "\n"


@dataclass(frozen=True)
class SaveNotes:
    """When a stack's keys were last made, and when they were last saved, on this computer."""

    paths: LabPaths
    stack: str

    @property
    def _made(self) -> Path:
        return self.paths.state / "keys-made" / self.stack

    @property
    def _saved(self) -> Path:
        return self.paths.state / "keys-saved" / self.stack

    def made(self, time: float) -> None:
        """Note that keys were made at this time, in seconds since the epoch."""
        self._made.parent.mkdir(parents=True, exist_ok=True)
        self._made.touch()
        os.utime(self._made, (time, time))

    def saved(self) -> None:
        """Note that all keys were saved now."""
        self._saved.parent.mkdir(parents=True, exist_ok=True)
        self._saved.touch()

    def forget(self) -> None:
        """Forget both, as the stack is gone."""
        for note in (self._made, self._saved):
            note.unlink(missing_ok=True)

    @property
    def lack(self) -> bool:
        """Whether keys were made that nobody has saved since."""
        made, saved = (
            note.stat().st_mtime if note.exists() else 0.0 for note in (self._made, self._saved)
        )
        return made > saved


def secrets_in(state: Mapping[str, Any], stack: str) -> KeptSecrets:
    """The secrets of an exported state with secrets in plain text.

    Raises a Problem where the state has none, as before the first update.
    """
    authorities = kept_by_cluster(state).get(resource_names.AUTHORITIES)
    kept = stashes(state)
    if not authorities or not kept:
        raise Problem(
            f"the state of the stack '{stack}' has no keys yet",
            f"bring it up with ./hardway up{option_of(stack)}",
        )
    applied = next(
        (
            str(resource["outputs"].get("spec", ""))
            for _, resource in resources(state)
            if resource["type"] == kinds.SPECIFICATION
        ),
        "",
    )
    made = datetime.now(UTC).replace(microsecond=0)
    return KeptSecrets(
        stack=stack, made=made, authorities=authorities, stashes=kept, applied=applied
    )


def encrypted(secrets: KeptSecrets, passphrase: str) -> bytes:
    """The content of a file with these secrets."""
    return sealing.encrypted(secrets.written().encode(), passphrase)


def decrypted(file: Path, passphrase: str) -> KeptSecrets:
    """The secrets in a file. Raises a Problem where it is no such file or does not open."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise Problem(
            f"there is no file {file}", "name the one that ./hardway backup secrets wrote"
        ) from None
    if not content.startswith(sealing.MAGIC):
        raise _no_such_file(file)
    try:
        value = json.loads(sealing.decrypted(content, passphrase))
    except (sealing.WrongPassphrase, ValueError) as error:
        raise Problem(
            f"{file} does not open with this passphrase", "give the one with which it was written"
        ) from error
    try:
        if value["format"] != FORMAT:
            raise Problem(
                f"{file} is of a later version of this program", "use that version's checkout"
            )
        secrets = KeptSecrets(
            stack=value["stack"],
            made=datetime.fromisoformat(value["made"]),
            authorities=json.dumps(value["authorities"], sort_keys=True),
            stashes={name: dict(kept) for name, kept in value["stashes"].items()},
            applied=str(value["applied"]),
        )
        _ = secrets.read_authorities
    except (KeyError, TypeError, ValueError, AttributeError, BundleError) as error:
        raise _no_such_file(file) from error
    return secrets


def _no_such_file(file: Path) -> Problem:
    return Problem(
        f"{file} has no secrets of a stack", "name the one that ./hardway backup secrets wrote"
    )


def passphrase_from(file: Path | None, *, new: bool) -> str:
    """The passphrase in the first line of a file, or as a person answers; ``new`` asks twice.

    Raises a Problem where nobody can answer, or where a new passphrase is too short.
    """
    if file is not None:
        try:
            passphrase = file.read_text().partition("\n")[0]
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise Problem(
                f"{file} cannot be read as a passphrase ({error})", "name a file with a line in it"
            ) from error
    elif at_terminal():
        passphrase = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    else:
        raise Problem(
            "nobody is there to give a passphrase", "name a file with it: --passphrase-file FILE"
        )
    if new and len(passphrase) < SHORTEST:
        raise Problem(
            f"the passphrase has {len(passphrase)} characters, and whoever guesses it has the "
            "cluster",
            f"choose one of {SHORTEST} or more",
        )
    return str(passphrase)
