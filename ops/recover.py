"""The command ``recover``, which gives a cluster whose state is lost a new one."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from certs.bundle import Authorities
from certs.renewal import key_name, pair_name
from certs.table import authority_numbers
from hypervisors.adapters import is_made, restarting_types
from lab import libvirt
from lab.offer import Phases
from lab.paths import PROJECT
from lab.problem import Problem
from lab.stack import Stack, offer_path
from ops import adopted, kept_secrets
from ops.display import agreed, note_line, option_of, progress, stdout
from ops.kept_secrets import KeptSecrets
from ops.lifecycle import domains, prepared_stack
from ops.machine_keys import expected, founders_of, judged, observed, table
from ops.private import private_folder, write_private
from ops.reach import kept_by_cluster, resources, state_of
from ops.stacks import StackOption, read_cluster
from preview import kinds
from preview.change import GONE, ResourceChange, Verb
from preview.engine import NotPreviewed, changes_of
from preview.recording import NotDeclared, Recording, recorded
from probe.backups import shown
from spec import resource_names
from spec.cluster import ArtifactSource, Cluster, SpecError
from spec.offer import Offer, read_offer, with_offer
from spec.refusal import listed

PROVIDER = re.compile(r"^secretsprovider: *[\"']?([^\s\"']+)", re.MULTILINE)
"""The provider of secrets that a stack's file names, such as ``awskms://...``."""


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster")(recover)


def recover(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What ./hardway backup secrets wrote.")
    ],
    passphrase_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help=kept_secrets.FIRST_LINE)
    ] = None,
    stack: StackOption = "dev",
    yes: Annotated[bool, typer.Option("--yes", help="Write the state without asking.")] = False,
) -> None:
    """Give a cluster whose state is lost a new one, from the keys in a file, once you say yes.

    The stack's file must describe the cluster as it is. Machines are found by their names and
    asked whether they have the keys of the file; those of the lab that are off are started, and
    nothing on them changes. The next `./hardway up`
    finds them as they are, and restarts what has other certificates only where it must. Machines
    that are not there are made by it. Cut off, run it again.

    Examples: `./hardway recover dev.secrets`
    """
    spec = read_cluster(stack)
    secrets = kept_secrets.decrypted(file, kept_secrets.passphrase_from(passphrase_file, new=False))
    demand_fitting(secrets, spec, file)
    ready, host = prepared_stack(stack, spec, Phases())
    if host is not None:
        libvirt.set_going(host, domains(spec), progress())
    _create(ready)
    demand_unused(_state(ready), secrets, stack)
    offer = _offer(ready)
    with progress().task("look for machines"):
        recording = _declared(secrets, stack, offer, file)
        whole = with_offer(spec, offer)
        there = adopted.identifiers(whole, recording)
    wanted = expected(whole, secrets.read_authorities)
    answers = observed(ready, whole, secrets, wanted, there)
    rows = judged(whole, secrets, wanted, there, answers, file)
    stdout.print(table(rows))
    if applied := secrets.differs_from(whole):
        stdout.print(*note_line(applied), soft_wrap=True)
    founders = founders_of(spec, rows)
    unasked = f"Write the state with ./hardway {' '.join(sys.argv[1:])} --yes"
    if not (yes or agreed("Write a new state for these machines?", unasked)):
        return
    _write(ready, adopted.resources(stack, recording, there, founders or None))
    option = option_of(stack)
    stdout.print(
        f"The stack '{escape(stack)}' has a state again, with the keys of {shown(secrets.made)}.\n"
        f"See what an update changes: ./hardway pulumi preview --refresh{option}\n"
        f"Then bring it up:           ./hardway up --refresh{option}",
        highlight=False,
    )
    if not founders and spec.etcd_members:
        stdout.print(
            "No machine has data of etcd, so the update begins an empty one. Then bring a backup "
            f"back: ./hardway restore FILE{option}",
            highlight=False,
        )


# -- before anything is written --------------------------------------------------------------------


def _create(ready: Stack) -> None:
    """Create the stack in its backend, also where its file has the salt or provider of a team."""
    ready.create()
    if ready.exists():
        return
    # Without its name, the provider of the file would be taken out of it, and with it its key.
    provider = PROVIDER.search(ready.file.read_text())
    chosen = ("--secrets-provider", provider[1]) if provider else ()
    done = ready.pulumi("stack", "init", ready.name, *chosen, capture=True)
    if done.returncode != 0:
        raise Problem(
            f"pulumi stack init failed ({' '.join(done.stderr.split())})",
            "give the passphrase or key of the stack's file, as PULUMI_CONFIG_PASSPHRASE or as its "
            "secrets provider wants it, and run the same command again",
        )


def _state(ready: Stack) -> dict[str, Any]:
    """The state of the stack. Raises a Problem where it cannot be opened."""
    try:
        return state_of(ready)
    except Problem as problem:
        if "passphrase" not in problem.what:
            raise
        raise Problem(
            f"the state of the stack '{ready.name}' is there, and does not open with the "
            f"passphrase of this computer ({problem.what})",
            "give the right one as PULUMI_CONFIG_PASSPHRASE; where that is lost, keep the state "
            f"aside and remove it: {_removal(ready.name)}",
        ) from problem


def _removal(stack: str) -> str:
    return (
        f"./hardway pulumi stack export --file {stack}.state, then ./hardway pulumi stack rm "
        f"{stack} --force --preserve-config, which leaves all machines as they are"
    )


def demand_fitting(secrets: KeptSecrets, spec: Cluster, file: Path) -> None:
    """Raise a Problem where a file's keys are not those that the stack's file names."""
    written = f"Pulumi.{spec.name}.yaml"
    if secrets.stack != spec.name:
        raise Problem(
            f"{file} has the keys of the stack '{secrets.stack}', and not of '{spec.name}'",
            f"name the stack with --stack {secrets.stack}, or another file",
        )
    keys = secrets.read_authorities
    pairs: list[tuple[str, object, object]] = [
        (f"authorities.{authority}", keys.numbers(authority), numbers)
        for authority, numbers in authority_numbers(spec).items()
    ]
    numbers = spec.key_numbers
    pairs += [
        ("keys.encryption", keys.encryption.current, key_name(numbers.encryption)),
        (
            "keys.service_accounts",
            keys.service_accounts.current,
            pair_name(numbers.service_accounts),
        ),
        ("ssh_keys", secrets.has_ssh_keys(spec.ssh_key_numbers), True),
    ]
    differing = [name for name, kept, wanted in pairs if kept != wanted]
    if differing:
        raise Problem(
            f"{file} of {shown(secrets.made)} has other keys than {written} names in "
            f"{listed(differing, 'and')}",
            f"name a file that was written since these turned over, or write into {written} what "
            "the cluster has",
        )


def demand_unused(state: Mapping[str, Any], secrets: KeptSecrets, stack: str) -> None:
    """Raise a Problem where a stack has a state that is not this command's own."""
    # An update that was refused has made components and providers alone.
    made = {
        resource["type"]
        for _, resource in resources(state)
        if resource.get("custom") and not resource["type"].startswith(adopted.PROVIDERS)
    }
    kept = kept_by_cluster(state).get(resource_names.AUTHORITIES)
    # Other keys of the authorities may have been renewed since.
    is_own = kept and (
        Authorities.from_state(json.loads(kept)).encryption == secrets.read_authorities.encryption
    )
    if made and (kinds.COMMAND in made or not is_own):
        raise Problem(
            f"the stack '{stack}' has a state, and recover writes one only where there is none",
            f"see it with ./hardway pulumi stack{option_of(stack)}; where it is of no use, keep it "
            f"aside and remove it: {_removal(stack)}",
        )


def _offer(ready: Stack) -> Offer:
    """What the lab offers to the stack, or what a stack without a lab gets."""
    path = offer_path(ready.paths, ready.name)
    try:
        return read_offer(path) if path.is_file() else Offer(artifacts=ArtifactSource())
    except SpecError as error:
        raise Problem(str(error), "run the same command again") from error


def _declared(secrets: KeptSecrets, stack: str, offer: Offer, file: Path) -> Recording:
    try:
        recording = recorded(PROJECT, stack, adopted.held(secrets), offer)
    except NotDeclared as error:
        raise Problem(str(error), "mend that and run the same command again") from error
    if recording.refused:
        sentences = [sentence for refused in recording.refused.values() for sentence in refused]
        raise Problem("\n".join(sentences), "mend that and run the same command again")
    demand_whole(secrets, recording, file)
    return recording


def demand_whole(secrets: KeptSecrets, recording: Recording, file: Path) -> None:
    """Raise a Problem where the stack keeps secrets that the file lacks."""
    stashes = [row.name for row in recording.registrations if row.kind == kinds.STASH]
    if lacking := [name for name in stashes if name not in secrets.stashes]:
        raise Problem(
            f"{file} of {shown(secrets.made)} has no {listed(lacking, 'and no')}, which the stack "
            "has by now",
            "name a file that was written since, or leave out of the stack's file what needs them "
            "(an add-on with a login, for the seed of passwords)",
        )


# -- the state -------------------------------------------------------------------------------------


def _write(ready: Stack, made: Sequence[Mapping[str, Any]]) -> None:
    """Write these resources as the stack's state, unless an update would lose data by them.

    Raises a Problem, and leaves the stack without resources then.
    """
    with progress().task("write the state"):
        empty = state_of(ready)
        empty["deployment"]["resources"] = []
        _imported(ready, {**empty, "deployment": {**empty["deployment"], "resources": [*made]}})
    try:
        with progress().task("see what an update would change"):
            _demand_harmless(ready)
    except BaseException:
        _imported(ready, empty)
        raise


def _imported(ready: Stack, state: Mapping[str, Any]) -> None:
    with private_folder(ready.paths, "recover") as folder:
        file = folder / "state.json"
        write_private(file, json.dumps(state))
        done = ready.pulumi("stack", "import", "--file", str(file), capture=True)
    if done.returncode != 0:
        raise Problem(
            f"pulumi stack import failed ({' '.join(done.stderr.split())})",
            "mend that and run the same command again",
        )


def _demand_harmless(ready: Stack) -> None:
    """Raise a Problem where an update would make a machine or a part of it anew, or restart it.

    The state has the inputs of the program, so only what the hypervisor says can differ.
    """
    done = ready.pulumi("preview", "--json", "--refresh", capture=True)
    try:
        changes = changes_of(done.stdout or done.stderr, succeeded=done.returncode == 0)
    except NotPreviewed as error:
        raise Problem(
            str(error),
            "mend that and run the same command again; where secrets in the stack's file are of a "
            "lost passphrase, write them anew with ./hardway pulumi config set --secret",
        ) from error
    if done.returncode != 0:
        raise Problem(
            f"pulumi preview failed ({' '.join(done.stderr.split())})",
            "mend that and run the same command again",
        )
    if others := list(differing(changes)):
        raise Problem(
            f"an update would make {listed(others, 'and')} anew or restart it, so the stack's file "
            "does not describe what is there",
            "write into it what the machines have (memory, cpus, addresses); where a machine's "
            "disk is gone, remove what is left of that machine from its hypervisor",
        )


def differing(changes: Iterable[ResourceChange]) -> Iterator[str]:
    """The resources of hypervisors that an update would make anew, or whose machine it restarts."""
    for change in changes:
        kind, verb = change.declared.kind, change.verb
        restarted = verb is Verb.UPDATE and kind in restarting_types()
        if restarted or (verb in GONE and is_made(kind)):
            yield change.declared.name
