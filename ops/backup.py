"""The commands ``backup key``, ``now``, ``list``, ``fetch`` and ``secrets``."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.markup import escape
from rich.table import Table

from certs.backup import BackupKeys, NotOurs, decrypt
from lab.paths import lab_paths
from lab.problem import Problem
from lab.progress import Task
from ops import kept_secrets
from ops.display import note_line, option_of, progress, stderr, stdout
from ops.reach import Reached, kept_backup_keys, opened, reach
from ops.stacks import StackOption, read_cluster
from plan import backup as plan
from plan import layout
from probe import backups
from probe.backups import Stock, StoredBackup, shown
from probe.machines import Machines, Unreachable
from probe.space import mebibytes
from spec import bucket_key

START = f"""
systemctl reset-failed {plan.SERVICE} 2>/dev/null || true
exec systemctl --no-block start {plan.SERVICE}
"""

LONGEST = timedelta(hours=1)
"""The longest time that a backup or a download may take."""

ASKED = 60
"""Seconds within which a stack's machine must say which backups it has, where others ask."""

PAUSE = 1
"""Seconds between two looks at a backup that is made."""

backup = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.add_typer(backup, name="backup", rich_help_panel="A cluster")


@backup.callback()
def _group() -> None:
    """Make a backup of etcd, list those there are, fetch one; save what only the state has."""


@backup.command()
def key(stack: StackOption = "dev") -> None:
    """Print the public SSH key with which backups are copied to `backup.to`.

    Its user there must let it in, as by this line in `~/.ssh/authorized_keys`. It is known once the
    stack was brought up, and does not change. A bucket lets in an access key instead of it.

    Examples: `./hardway backup key`
    """
    reached = opened(stack)
    if bucket_key.wants_bucket_key(reached.spec):
        stderr.print(
            *note_line("backups go to a bucket, which lets in an access key and not this one"),
            soft_wrap=True,
        )
    print(f"restrict {_keys(reached).ssh_public} hardway-{stack}-backup")


@backup.command()
def now(stack: StackOption = "dev") -> None:
    """Make a backup now, and copy it to `backup.to` where that is set.

    Examples: `./hardway backup now`
    """
    reached = reach(stack)
    node = _machine(reached)
    stock = asyncio.run(_made(reached, node))
    last = stock.last
    assert last is not None
    if last.result == backups.FAILED:
        raise Problem(
            f"no backup was made on {node}: {last.text}",
            f"mend that and run it again; ./hardway ssh {node} -- {backups.LOG} says more",
        )
    newest = stock.newest
    if newest is None:
        raise Problem(
            f"the backup that was made on {node} is gone again",
            f"./hardway ssh {node} -- {backups.LOG} says more",
        )
    stdout.print(
        f"made [bold]{escape(newest.name)}[/] on {node}: {mebibytes(newest.size)} MiB, "
        f"{newest.keys} keys at revision {newest.revision}, sha256 {newest.sha256}",
        soft_wrap=True,
    )
    if last.result == backups.NOT_COPIED:
        raise Problem(
            f"the backup was made, but {last.text}",
            f"let in the key that ./hardway backup key{option_of(stack)} prints, or mend that; the "
            "next backup makes up for it",
        )
    if last.result == backups.NOT_UPLOADED:
        raise Problem(
            f"the backup was made, but {last.text}",
            f"mend that, or give another access key ({bucket_key.command(bucket_key.HALVES[0])}, "
            "docs/backup.md); the next backup makes up for it",
        )


async def _made(reached: Reached, node: str) -> Stock:
    """Make a backup; return the stock after it. Raises a Problem."""
    async with Machines(reached.access) as machines:
        with progress().task(f"back up etcd on {node}") as task, _answering(reached):
            before = await backups.ask(machines, node)
            await _start(reached, machines, node)
            end = asyncio.get_running_loop().time() + LONGEST.total_seconds()
            while asyncio.get_running_loop().time() < end:
                stock = await backups.ask(machines, node)
                if stock.stage:
                    task.note(stock.stage)
                elif stock.last and (before.last is None or stock.last != before.last):
                    if before.stage is None:
                        return stock
                    # That run had begun before, so it lacks what was written until now.
                    before = stock
                    await _start(reached, machines, node)
                await asyncio.sleep(PAUSE)
    raise Problem(
        f"the backup on {node} has not ended within an hour",
        f"./hardway ssh {node} -- {backups.LOG} says what it does",
    )


async def _start(reached: Reached, machines: Machines, node: str) -> None:
    """Start the service that makes a backup. Raises a Problem."""
    done = await machines.run(node, START, timeout=60)
    if done.status != 0:
        raise Problem(
            f"{plan.SERVICE} of {node} cannot be started ({done.reason})",
            f"./hardway up --refresh{option_of(reached.stack.name)} mends the machine",
        )


@backup.command("list")
def list_(
    stack: StackOption = "dev",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the backups on the member's machine, the newest last, with sizes and digests.

    Exit code 2: the last one failed or was not copied, or the newest is too old.

    Examples: `./hardway backup list`, for programs `./hardway backup list --json`
    """
    from ops.exit_codes import ExitCode

    reached = reach(stack)
    node = _machine(reached)
    stock = asyncio.run(_stock(reached, node))
    assert reached.spec.backup is not None
    fault = backups.fault(stock, plan.too_old(reached.spec.backup))
    if as_json:
        print(json.dumps(_data(node, stock, fault), indent=1))
    else:
        _show(node, stock, copies=plan.destination(reached.spec) is not None)
        if fault:
            stdout.print(f"[bold yellow]warning[/]  {escape(fault)}")
    raise typer.Exit(int(ExitCode.WARNED if fault else ExitCode.WELL))


def _data(node: str, stock: Stock, fault: str | None) -> dict[str, object]:
    rows = [
        {**vars(backup), "time": backup.time.isoformat(), "sha256": backup.sha256}
        for backup in stock.backups
    ]
    return {"machine": node, "backups": rows, "warning": fault}


def _show(node: str, stock: Stock, *, copies: bool) -> None:
    table = Table("backup", "made", "MiB", "revision", "keys", *(["copied"] if copies else []))
    for stored in stock.backups:
        table.add_row(
            *(f"{stored.name}\n[dim]sha256 {stored.sha256}[/]", shown(stored.time)),
            *(mebibytes(stored.size), str(stored.revision), str(stored.keys)),
            *(["yes" if stored.copied else "no"] if copies else []),
        )
    if stock.backups:
        stdout.print(table, soft_wrap=True)
    else:
        stdout.print(f"no backups are on {node}")


@backup.command()
def fetch(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The backup; without it, the newest.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; its own name here without it.")
    ] = None,
    encrypted: Annotated[
        bool, typer.Option("--encrypted", help="Leave it encrypted, to keep it elsewhere.")
    ] = False,
    stack: StackOption = "dev",
) -> None:
    """Fetch a backup from the member's machine, check it, and decrypt it.

    The file can be read by you alone. It has everything that the cluster knows, and the keys in it
    are those of service accounts and other Secrets, which the API servers have encrypted on their
    own. `./hardway restore` takes it encrypted or not.

    Examples: `./hardway backup fetch`, to keep it elsewhere `./hardway backup fetch --encrypted`
    """
    reached = reach(stack)
    node = _machine(reached)
    keys = _keys(reached)
    stock = asyncio.run(_stock(reached, node))
    stored = chosen(stock, name, node, option_of(stack))
    own = stored.name if encrypted else stored.name.removesuffix(".age")
    path = output or Path(own)
    if path.is_dir():
        path = path / own
    fetched(reached, node, stored, None if encrypted else keys, path)
    stdout.print(f"fetched [bold]{escape(str(path))}[/], of {shown(stored.time)}", soft_wrap=True)


@backup.command()
def secrets(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to.")],
    passphrase_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help=kept_secrets.FIRST_LINE)
    ] = None,
    stack: StackOption = "dev",
) -> None:
    """Save what only the state has: authorities, SSH keys, the keys of Secrets and of backups.

    A passphrase encrypts the file. Keep it where neither the machines nor this computer are, and
    make it anew after each update that says so. With it, `./hardway recover` gives a cluster a new
    state, and backups can be read.

    Examples: `./hardway backup secrets dev.secrets`, without a question
    `./hardway backup secrets dev.secrets --passphrase-file FILE`
    """
    if file.is_dir():
        file = file / f"{stack}.secrets"
    held = kept_secrets.secrets_in(opened(stack).state, stack)
    content = kept_secrets.encrypted(held, kept_secrets.passphrase_from(passphrase_file, new=True))
    with appearing(file) as whole:
        whole.write(content)
    kept_secrets.SaveNotes(lab_paths(), stack).saved()
    stdout.print(f"saved [bold]{escape(str(file))}[/], which opens with your passphrase alone")


def chosen(stock: Stock, name: str | None, node: str, option: str) -> StoredBackup:
    """The backup of this name, or the newest. Raises a Problem where there is none."""
    if not stock.backups:
        raise Problem(f"no backups are on {node}", f"make one with ./hardway backup now{option}")
    matching = [stored for stored in stock.backups if name in (None, stored.name)]
    if not matching:
        raise Problem(
            f"there is no backup {name} on {node}",
            f"./hardway backup list{option} shows those there are",
        )
    return matching[-1]


def fetched(
    reached: Reached, node: str, stored: StoredBackup, keys: BackupKeys | None, path: Path
) -> None:
    """Fetch a backup to a file, decrypted where there are keys. Raises a Problem.

    The file appears under its name once it is whole, in place of what was there.
    """
    with appearing(path) as whole, progress().task(f"fetch {stored.name} from {node}") as task:
        if keys is None:
            asyncio.run(_download(reached, node, stored, whole, task))
            return
        with appearing(path.with_name(f"{path.name}.age"), keep=False) as encrypted_file:
            asyncio.run(_download(reached, node, stored, encrypted_file, task))
            task.note("decrypting")
            encrypted_file.seek(0)
            try:
                decrypt(keys, encrypted_file, whole)
            except NotOurs as error:
                raise Problem(
                    f"{stored.name} cannot be decrypted: {error}",
                    "use the state with which it was made, or fetch it with --encrypted",
                ) from error


async def _download(
    reached: Reached, node: str, stored: StoredBackup, target: BinaryIO, task: Task
) -> None:
    digest, count = hashlib.sha256(), 0

    def take(part: bytes) -> None:
        nonlocal count
        target.write(part)
        digest.update(part)
        count += len(part)
        task.note(f"{mebibytes(count)} of {mebibytes(stored.size)} MiB")

    async with Machines(reached.access) as machines:
        with _answering(reached):
            done = await machines.fetch(
                node,
                'exec cat "$1"',
                f"{layout.BACKUPS}/{stored.name}",
                take=take,
                timeout=LONGEST.total_seconds(),
            )
    if done.status != 0:
        raise Problem(
            f"{stored.name} cannot be read on {node} ({done.reason})", "run the same again"
        )
    if digest.hexdigest() != stored.sha256:
        raise Problem(
            f"{stored.name} of {node} has the sha256 {digest.hexdigest()} and not {stored.sha256}",
            "it was changed or damaged since it was made: fetch another one",
        )


@contextmanager
def appearing(path: Path, *, keep: bool = True) -> Iterator[BinaryIO]:
    """A new file that its owner alone can read, and that gets its name once all went well.

    Before, it has a name with ``.part``, which the next attempt overwrites. Without ``keep`` it
    goes in any case.
    """
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# -- for other commands ----------------------------------------------------------------------------


def in_lab(stacks: Sequence[str]) -> tuple[list[str], bool]:
    """A line for each stack that makes backups, and whether one of these warns.

    Each stack is asked by a process of its own, since a lab's machines are reached from its network
    namespace alone.
    """
    report, warned = [], False
    for name in stacks:
        try:
            if read_cluster(name).backup is None:
                continue
        except Problem:
            continue
        line, wrong = _newest(name)
        report.append(f"{name}: {line}")
        warned = warned or wrong
    return report, warned


def _newest(stack: str) -> tuple[str, bool]:
    """A line about the newest backup of a stack, and whether it is a warning."""
    command = [sys.executable, "-m", "ops", "backup", "list", "--json", "--stack", stack]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASKED, check=False)
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return f"not known, since the machine gave no answer within {ASKED} s", True
    except ValueError:
        why = " ".join(done.stderr.split()).removeprefix("Error: ")
        return f"not known, since {why or 'it cannot be asked'}", True
    if answer["warning"]:
        return answer["warning"], True
    newest = answer["backups"][-1]
    return f"{newest['name']}, {len(answer['backups'])} on {answer['machine']}", False


# -- what is refused -------------------------------------------------------------------------------


def _machine(reached: Reached) -> str:
    """The machine with the backups. Raises a Problem where none are made."""
    node = plan.member(reached.spec)
    if node is None:
        raise Problem(
            f"the stack '{reached.stack.name}' makes no backups",
            f"write backup: {{}} into Pulumi.{reached.stack.name}.yaml and bring it up with "
            f"./hardway up{option_of(reached.stack.name)}",
        )
    return node


def _keys(reached: Reached) -> BackupKeys:
    """The keys of the stack's backups. Raises a Problem where the state has none yet."""
    kept = kept_backup_keys(reached.state)
    if kept is None:
        raise Problem(
            f"the state of the stack '{reached.stack.name}' has no keys of backups yet",
            f"./hardway up{option_of(reached.stack.name)} makes them",
        )
    return BackupKeys.from_state(json.loads(kept))


async def _stock(reached: Reached, node: str) -> Stock:
    async with Machines(reached.access) as machines:
        with _answering(reached):
            return await backups.ask(machines, node)


@contextmanager
def _answering(reached: Reached) -> Iterator[None]:
    """Turn a machine that does not answer into a Problem."""
    try:
        yield
    except Unreachable as error:
        option = option_of(reached.stack.name)
        raise Problem(
            str(error),
            f"./hardway status{option} shows what runs; copies may be at backup.to",
        ) from error
