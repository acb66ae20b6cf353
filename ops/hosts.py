"""The commands ``hosts check`` and ``hosts scan``: machines that exist before the cluster does."""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import asyncssh
import typer
from rich.markup import escape
from rich.table import Table

from certs.table import Authority
from lab.cache import Cache
from lab.delivery import deliver, parcels
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from ops.display import agreed, option_of, progress, stdout
from ops.exit_codes import ExitCode
from ops.reach import NotUp, kept_authorities, lab_offer, opened
from ops.stack_file import add_entries
from ops.stacks import AGAIN, StackOption, read_cluster
from probe.access import Access, MachineAccess, login_values
from probe.host_facts import ObservedHost, observed_hosts
from probe.hosts import LOGIN, HostFinding, described, findings
from probe.machines import CONNECT, Unreachable
from spec.cluster import Cluster, SpecError, parse
from spec.configuration import CLUSTER, configuration
from spec.offer import with_offer
from spec.refusal import listed

hosts = typer.Typer(no_args_is_help=True)

HOST_KEYS = "host_keys"

STAND_IN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""A host key of no machine, so that a file can be read that does not have all keys yet."""

KINDS = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("rsa-sha2-512", "rsa-sha2-256"),
)
"""The algorithms of host keys, those to be preferred first."""


def register(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.add_typer(hosts, name="hosts", rich_help_panel="A cluster")


@hosts.callback()
def _group() -> None:
    """Look at machines that exist already, before anything is brought to them."""


# -- check -----------------------------------------------------------------------------------------


@hosts.command()
def check(
    stack: StackOption = "dev",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check the stack's existing machines before an `up`, all at once and changing nothing.

    Each machine is asked in one login: rights, system, sizes, network, firewall, ports, and what
    runs there already. Before the first `up` that is a login with your own SSH keys, of the agent
    or of `~/.ssh`; the machine must have the host key that the stack's file says.

    Exit code 0: all is well. 1: `up` would refuse a machine. 2: there are warnings alone. 3: a
    machine does not answer, or the stack's file has a mistake.

    Examples: `./hardway hosts check`, for programs `./hardway hosts check --json`
    """
    spec = read_cluster(stack)
    observed = _observed(stack, spec)
    judged = findings(observed)
    if as_json:
        print(json.dumps(as_data(observed, judged), indent=1))
    else:
        stdout.print(table(observed, judged))
        if any(finding.refuses for finding in judged):
            stdout.print(f"Mend that, and run ./hardway hosts check{option_of(stack)} again.")
    raise typer.Exit(int(exit_code(judged)))


def demand_fit(stack: str, spec: Cluster) -> None:
    """Check the existing machines of a stack, if it has any, and print what is wrong with them.

    Raises a Problem where one of them would be refused.
    """
    if all(spec.is_made(name) for name in spec.machines):
        return
    with progress().task("check the machines that exist"):
        observed = _observed(stack, spec)
    judged = findings(observed)
    if judged:
        stdout.print(table(observed, judged))
    if refused := list(dict.fromkeys(finding.machine for finding in judged if finding.refuses)):
        raise Problem(
            f"{listed(refused, 'and')} cannot become part of the cluster as the table above says, "
            "and nothing was changed",
            f"mend that (./hardway hosts check{option_of(stack)} asks again), and run the same "
            "command again",
        )


def deliver_artifacts(stack: str, spec: Cluster, paths: LabPaths, cache: Cache) -> None:
    """Bring the artifacts of the plan to the existing machines of a stack, where they lack them.

    Machines that have a mirror get nothing: it is the spec's, or the lab's, which machines beside
    those of a lab reach. Raises a Problem.
    """
    whole = with_offer(spec, lab_offer(stack, paths))
    if whole.artifacts.mirror:
        return
    try:
        wanted = {name: parcels(whole, name, cache) for name in _existing(stack, spec)}
    except SpecError as error:
        raise Problem(f"Pulumi.{stack}.yaml: {error}", AGAIN) from error
    deliver(_access(stack, spec, _kept(stack)[0]), wanted, progress())


def _observed(stack: str, spec: Cluster) -> Mapping[str, ObservedHost | Unreachable]:
    ssh_key, authorities = _kept(stack)
    return asyncio.run(observed_hosts(spec, _access(stack, spec, ssh_key), authorities))


def _access(stack: str, spec: Cluster, ssh_key: str) -> Access:
    """The access to a stack's existing machines. Raises a Problem where there are none."""
    machines = {name: server(spec, name) for name in _existing(stack, spec)}
    return Access(machines=machines, ssh_key=ssh_key)


def _existing(stack: str, spec: Cluster) -> tuple[str, ...]:
    """The names of the machines that exist already. Raises a Problem where there are none."""
    names = tuple(name for name in spec.machines if not spec.is_made(name))
    if not names:
        raise Problem(
            f"the stack '{stack}' has no machines that exist already, since its hypervisor makes "
            "them",
            "write hypervisor: {kind: existing} into its file, where they are there already",
        )
    return names


def server(spec: Cluster, name: str) -> MachineAccess:
    """The SSH server of a machine that exists already, with its host key of the stack's file."""
    settings = spec.login_of(name)
    values = {"address": spec.machines[name].address, "host_key": settings.host_key}
    return MachineAccess.read({**values, **login_values(settings)})


def _kept(stack: str) -> tuple[str, list[str]]:
    """The stack's SSH key, and the digests of its authorities' certificates.

    Both are empty before the first update of the stack.
    """
    try:
        reached = opened(stack)
    except NotUp:
        return "", []
    authorities = kept_authorities(reached.state)
    if authorities is None:
        return reached.access.ssh_key, []
    signers = [signer for authority in Authority for signer in authorities.every(authority)]
    digests = [hashlib.sha256(signer.certificate.encode()).hexdigest() for signer in signers]
    return reached.access.ssh_key, digests


def exit_code(judged: Sequence[HostFinding]) -> ExitCode:
    """The exit code; a machine that could not be asked has precedence."""
    if any(finding.check == LOGIN for finding in judged):
        return ExitCode.UNASKED
    if any(finding.refuses for finding in judged):
        return ExitCode.WRONG
    return ExitCode.WARNED if judged else ExitCode.WELL


def as_data(
    observed: Mapping[str, ObservedHost | Unreachable], judged: Sequence[HostFinding]
) -> dict[str, Any]:
    """The result as JSON data."""
    return {
        "verdict": exit_code(judged).name.lower(),
        "machines": {
            name: {
                "asked": isinstance(host, ObservedHost),
                "is": described(host) if isinstance(host, ObservedHost) else None,
                "findings": [
                    {key: value for key, value in asdict(finding).items() if key != "machine"}
                    for finding in judged
                    if finding.machine == name
                ],
            }
            for name, host in observed.items()
        },
    }


def table(
    observed: Mapping[str, ObservedHost | Unreachable], judged: Sequence[HostFinding]
) -> Table:
    """A row for each finding, and one for each machine without any."""
    rows = Table("machine", "check", "", "seen", "what to do")
    for name, host in observed.items():
        mine = [finding for finding in judged if finding.machine == name]
        for finding in mine:
            mark = "[bold red]refused[/]" if finding.refuses else "[yellow]warning[/]"
            texts = (finding.machine, finding.check, finding.sentence, finding.remedy)
            machine, check_name, sentence, remedy = map(escape, texts)
            rows.add_row(machine, check_name, mark, sentence, remedy)
        if not mine and isinstance(host, ObservedHost):
            rows.add_row(escape(name), "all", "[green]good[/]", escape(described(host)), "")
    return rows


# -- scan ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ScannedKey:
    """The host key that a machine shows."""

    machine: str
    address: str
    key: str
    fingerprint: str
    is_known: bool
    """Whether the stack's file has exactly this key."""


@hosts.command()
def scan(
    stack: StackOption = "dev",
    yes: Annotated[bool, typer.Option("--yes", help="Write the keys without asking.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Show them for programs, and end.")
    ] = False,
) -> None:
    """Read the host keys of the stack's existing machines, and write them once you say yes.

    Compare the fingerprints with those of the machines themselves, on their consoles or at your
    provider: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`. They are written into the stack's
    file as `hypervisor.host_keys`, beside those that are there; nothing else of the file changes. A
    machine that shows another key than the file's is refused.

    Examples: `./hardway hosts scan`, without a question `./hardway hosts scan --yes`
    """
    file = PROJECT / f"Pulumi.{stack}.yaml"
    spec, known = _described(stack)
    names = _existing(stack, spec)
    scanned = asyncio.run(_scanned(spec, names, known))
    keys = [answer for answer in scanned.values() if isinstance(answer, ScannedKey)]
    silent = [answer for answer in scanned.values() if isinstance(answer, Unreachable)]
    if as_json:
        print(json.dumps([asdict(key) for key in keys], indent=1))
    else:
        for line in key_lines(keys):
            stdout.print(line, soft_wrap=True)
    _demand_unchanged(keys, known, file.name)
    new = [key for key in keys if not key.is_known]
    question = "Are these the machines' own fingerprints? Write the keys?"
    unasked = f"Compare the fingerprints, then: ./hardway hosts scan --yes{option_of(stack)}"
    if new and not as_json and (yes or agreed(question, unasked)):
        for path, entries in _entries(spec, new).items():
            add_entries(file, path, entries)
        stdout.print(f"{file.name} has {len(new)} more of them now.")
    if silent:
        raise Problem("; ".join(map(str, silent)), "start them, and run the same again")


def _described(stack: str) -> tuple[Cluster, dict[str, str]]:
    """The spec in a stack's file, which may lack host keys, and those that it has by address.

    Raises a Problem with all other mistakes in the file.
    """
    file = PROJECT / f"Pulumi.{stack}.yaml"
    if not file.is_file():
        return read_cluster(stack), {}
    try:
        value = configuration(file).get(CLUSTER)
        return parse(_filled(value), name=stack), dict(_known(value))
    except SpecError as error:
        raise Problem(f"{file.name}: {error}", AGAIN) from error


def _filled(value: Any) -> Any:
    """A description in which each existing machine without a host key has one."""
    if not isinstance(value, Mapping) or not isinstance(value.get("machines"), Mapping):
        return value
    machines, general = dict(value["machines"]), value.get("hypervisor")
    common: set[str] = set()
    for name, machine in machines.items():
        if not isinstance(machine, Mapping) or not isinstance(machine.get("address"), str):
            continue
        own = machine.get("hypervisor")
        if own is None:
            common.add(machine["address"])
        else:
            machines[name] = {**machine, "hypervisor": _with_keys(own, {machine["address"]})}
    filled = {**value, "machines": machines}
    return filled if general is None else {**filled, "hypervisor": _with_keys(general, common)}


def _with_keys(where: Any, addresses: set[str]) -> Any:
    if not isinstance(where, Mapping) or where.get("kind") != "existing":
        return where
    keys = where.get(HOST_KEYS) or {}
    if not isinstance(keys, Mapping):
        return where
    return {**where, HOST_KEYS: {**dict.fromkeys(sorted(addresses), STAND_IN), **keys}}


def _known(value: Any) -> Iterator[tuple[str, str]]:
    """The host keys that a valid description has, by address."""
    machines = value["machines"].values()
    for where in (value.get("hypervisor"), *(machine.get("hypervisor") for machine in machines)):
        yield from ((where or {}).get(HOST_KEYS) or {}).items()


async def _scanned(
    spec: Cluster, names: Sequence[str], known: Mapping[str, str]
) -> dict[str, ScannedKey | Unreachable]:
    """The key of each machine, or why it does not show one; all are asked at the same time."""

    async def of_machine(name: str) -> ScannedKey | Unreachable:
        try:
            address = str(spec.machines[name].address)
            key = await shown_key(server(spec, name), known.get(address, "").partition(" ")[0])
        except (OSError, asyncssh.Error, TimeoutError) as error:
            where = f"{name} ({spec.machines[name].address})"
            return Unreachable(f"{where} shows no host key ({error or type(error).__name__})")
        text = " ".join(key.export_public_key("openssh").decode().split()[:2])
        return ScannedKey(
            machine=name,
            address=address,
            key=text,
            fingerprint=key.get_fingerprint(),
            is_known=known.get(address, "").split()[:2] == text.split(),
        )

    return dict(zip(names, await asyncio.gather(*map(of_machine, names)), strict=True))


async def shown_key(machine: MachineAccess, kind: str = "") -> asyncssh.SSHKey:
    """The host key that an SSH server shows, of this kind where one is given.

    A jump host must be among the person's own known hosts. Raises OSError, asyncssh.Error or
    TimeoutError.
    """
    algorithms = [name for name in KINDS if name == kind or (kind, name[:3]) == ("ssh-rsa", "rsa")]
    async with asyncio.timeout(CONNECT):
        through = machine.bastion
        key = await asyncssh.get_server_host_key(
            machine.address,
            machine.port,
            tunnel=f"{through.user}@{through.address}:{through.port}" if through else (),
            server_host_key_algs=algorithms or KINDS,
            config=None,
        )
    if key is None:
        raise asyncssh.KeyExchangeFailed("it has none")
    return key


def key_lines(keys: Sequence[ScannedKey]) -> Iterator[str]:
    """A line for each machine with its whole fingerprint, and one for each key of two machines."""
    width = max((len(f"{key.machine} {key.address}") for key in keys), default=0)
    first: dict[str, str] = {}
    for key in keys:
        state = "[green]known[/]" if key.is_known else "[yellow]new[/]  "
        name = escape(f"{key.machine} {key.address}".ljust(width))
        yield f"{state}  {name}  {key.fingerprint} ({key.key.split()[0]})"
        if first.setdefault(key.key, key.machine) != key.machine:
            yield (
                f"[yellow]note[/]   {escape(key.machine)} has the same key as "
                f"{escape(first[key.key])}, so either can pose as the other: a copy of a machine "
                "needs keys of its own (ssh-keygen -A, once the old ones are removed)"
            )


def _demand_unchanged(keys: Sequence[ScannedKey], known: Mapping[str, str], file: str) -> None:
    """Raise a Problem where a machine does not show the key that the file has of it."""
    for key in keys:
        if not key.is_known and key.address in known:
            raise Problem(
                f"{key.machine} ({key.address}) shows another host key than {file} has: it was "
                "made anew, or another machine answers in its place",
                f"compare it with the machine's own, then take {key.address} out of {HOST_KEYS} "
                "and run the same again",
            )


def _entries(spec: Cluster, keys: Sequence[ScannedKey]) -> dict[tuple[str, ...], dict[str, str]]:
    """The path of each mapping of host keys in the description, with its new entries."""
    entries: dict[tuple[str, ...], dict[str, str]] = {}
    for key in keys:
        own = ("machines", key.machine) if spec.machines[key.machine].hypervisor else ()
        entries.setdefault((*own, "hypervisor", HOST_KEYS), {})[key.address] = key.key
    return entries
