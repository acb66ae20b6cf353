"""The commands ``up``, ``down`` and ``status``, which prepare the lab and run Pulumi."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lab import (
    endpoint,
    forwarder,
    libvirt,
    mirror,
    qemu,
    storage_pool,
    toolchain,
    virtualbox,
    way_out,
)
from lab.cache import Cache
from lab.consoles import Consoles
from lab.offer import (
    Phases,
    prepare_elsewhere,
    prepare_existing,
    prepare_lab,
    prepare_virtualbox,
)
from lab.paths import PROJECT, LabPaths, lab_paths
from lab.problem import Problem
from lab.process import beside, output
from lab.stack import Stack, offer_path, stack_in_lab, stacks_with_state
from lab.watch import FirstBootWatch
from ops import critical_path, underway
from ops.display import HEALTHY, condition_line, option_of, path_table, progress, stdout
from ops.events import kept_events
from ops.exit_codes import ExitCode
from ops.failures import failures
from ops.kept_secrets import SaveNotes
from ops.numbers import demand_numbers, outputs_of_stack
from ops.recovery import going_on, recover
from ops.shortage import Shortage
from ops.stacks import StackOption, read_cluster, ready_stack
from plan.addons.catalogue import pages
from plan.conditions import conditions
from preview.kinds import AUTHORITIES, READY, STASH
from spec.cluster import Cluster, SpecError
from spec.hypervisor import VirtualBox, domain_name
from spec.offer import read_offer


def register(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command(rich_help_panel="A cluster")(up)
    app.command(rich_help_panel="A cluster")(down)
    app.command(rich_help_panel="A cluster")(status)


def up(
    stack: StackOption = "dev",
    refresh: Annotated[
        bool, typer.Option("--refresh", help="First ask the machines, and mend what drifted.")
    ] = False,
) -> None:
    """Bring a stack up: prepare this machine, then run `pulumi up`.

    Machines that exist already are checked first, as by `./hardway hosts check`. Safe to run again
    at any time; what is there is kept and only what differs is changed. What it needs is found,
    fetched or built once and kept in the cache of your home directory. At a terminal the window's
    title and the row of the stack say how many steps are done of all, what is waited for and how
    long it took last time; anywhere else there is a line for each step.

    Examples: `./hardway up` for the default stack, `./hardway up --stack lab2` for another,
    `./hardway up --refresh` to mend what drifted as well
    """
    cluster = read_cluster(stack)
    if not all(map(cluster.is_made, cluster.machines)):
        from ops.hosts import demand_fit  # imports the SSH client, which nothing else here needs

        demand_fit(stack, cluster)
    if cluster.machines_on(VirtualBox):
        virtualbox.demand_usable(cluster)
    if not cluster.in_lab:
        _up(stack, cluster, refresh=refresh, shortage=None)
        return
    shortage = Shortage(
        {name: cluster.machines[name].cpus for name in cluster.in_lab},
        lambda: qemu.machines(cluster.name, cluster.in_lab, lab_paths().libvirt),
        progress().say,
    )
    with shortage.watched():
        _up(stack, cluster, refresh=refresh, shortage=shortage)


def prepared_stack(
    stack: str, cluster: Cluster, phases: Phases
) -> tuple[Stack, libvirt.LibvirtConnection | None]:
    """A stack whose lab has all that an update needs, and the lab's libvirt if it has one."""
    paths, cache = lab_paths(), Cache()
    host = None
    with beside(lambda: _tools(cache, paths, phases)) as prepared:
        if cluster.in_lab:
            host = prepare_lab(stack, cluster, paths, cache, progress(), phases)
        elif cluster.libvirts_without_image:
            prepare_elsewhere(stack, cluster, paths, cache, progress(), phases)
        elif cluster.hypervisor is not None and cluster.hypervisor.wants_image:
            prepare_virtualbox(stack, cluster, paths, cache, progress(), phases)
        elif not any(map(cluster.is_made, cluster.machines)):
            prepare_existing(stack, cluster, paths, cache, progress(), phases)
        tools = prepared()
    for choice in tools.choices:
        progress().say(f"{choice.tool} {choice.version}: {choice.origin} ({choice.reason})")
    ready = stack_in_lab(stack, paths, tools)
    endpoint.demand_known(cluster, ready.enter)
    return ready, host


def _up(stack: str, cluster: Cluster, *, refresh: bool, shortage: Shortage | None) -> None:
    phases = Phases()
    ready, host = prepared_stack(stack, cluster, phases)
    paths = ready.paths
    if not all(map(cluster.is_made, cluster.machines)):
        from ops.hosts import deliver_artifacts  # imports the SSH client, as above

        with phases.phase("delivery"):
            deliver_artifacts(stack, cluster, paths, Cache())
    with phases.phase("pulumi up"):
        ready.create()
        recover(ready, host, progress().say)
        demand_numbers(ready, cluster)
        if host is not None:
            libvirt.set_going(host, domains(cluster), progress())
        events = paths.logs / f"events-{stack}.json"
        # Of an update that was killed before it could do so itself.
        _note_new_keys(paths, stack, events)
        arguments = [
            "up",
            "--yes",
            "--skip-preview",
            "--parallel",
            str(len(cluster.machines) * 4 + 8),
        ]
        arguments += ["--refresh"] if refresh else []
        with ExitStack() as during:
            if host is not None:
                watch = FirstBootWatch.running(paths, host, domains(cluster), progress())
                during.enter_context(watch)
            if host is not None and host.private:
                during.enter_context(qemu.first(paths.libvirt, leading_domains(cluster)))
            shown = during.enter_context(underway.shown(ready, cluster, events))
            kept = kept_events(events, progress().say, shown.see)
            arguments += [*shown.options, "--event-log", str(during.enter_context(kept))]
            status = going_on(
                lambda: shown.stack.pulumi(*arguments, each_line=shown.each_line).returncode,
                Consoles(paths.state / "console", domains(cluster)),
                progress().say,
            )
    _note_new_keys(paths, stack, events)
    if status != 0:
        _say_what_to_save(paths, stack)
        lacked = (shortage.during,) if shortage else ()
        raise _failed(status, failures(_kept(events), cluster.machines, *lacked))
    _summary(ready, cluster, phases, events)


def _note_new_keys(paths: LabPaths, stack: str, events: Path) -> None:
    """Note where the update with these events has made keys that only the state has."""
    kinds_of_keys = (STASH, AUTHORITIES)
    if any(span.kind in kinds_of_keys for span in critical_path.spans(_kept(events)).values()):
        SaveNotes(paths, stack).made(events.stat().st_mtime)


def _say_what_to_save(paths: LabPaths, stack: str) -> None:
    """Print how keys are saved that only the state has, where nobody has done so."""
    if SaveNotes(paths, stack).lack:
        stdout.print(
            "Keys were made that only the state has; to save them: ./hardway backup secrets "
            f"FILE{option_of(stack)}",
            highlight=False,
        )


def leading_domains(cluster: Cluster) -> list[str]:
    """The domains of the control planes, which have the highest priority during an update."""
    return [domain_name(cluster.name, name) for name in cluster.control_planes]


def _tools(cache: Cache, paths: LabPaths, phases: Phases) -> toolchain.Toolchain:
    with phases.phase("toolchain"):
        return toolchain.prepare(cache, paths, progress())


def _failed(status: int, sentences: Sequence[str]) -> Problem:
    """The Problem of a failed update.

    Its message begins with the reasons of the failures, since Pulumi's output above it is long.
    """
    return Problem(
        "\n".join([*sentences, f"pulumi up ended with exit status {status}"]),
        f"read {'their logs' if sentences else 'its message'} above; the next ./hardway up goes on "
        "from there",
    )


def _kept(events: Path) -> list[dict[str, Any]]:
    """The events of an update; empty where the event log could not be written."""
    return critical_path.read_events(events) if events.is_file() else []


def domains(cluster: Cluster) -> dict[str, str]:
    """Domain to address of each machine that the lab makes."""
    return {
        domain_name(cluster.name, name): str(cluster.machines[name].address)
        for name in cluster.in_lab
    }


def _summary(stack: Stack, cluster: Cluster, phases: Phases, events: Path) -> None:
    """Print the machines, the cluster's conditions, the time of each phase and the next steps."""
    table = Table("machine", "address", "roles")
    for name, node in outputs_of_stack(stack).get("nodes", {}).items():
        table.add_row(name, node["address"], ", ".join(node["roles"]))
    stdout.print(table)
    changed = critical_path.spans(_kept(events))
    if any(span.kind == READY for span in changed.values()):
        # The update has just waited until all conditions hold, so they need no check here.
        for condition in conditions(cluster):
            stdout.print(condition_line(condition.name, condition.waits_for, holds=True))
        stdout.print(HEALTHY)
    else:
        subprocess.run(
            [*stack.enter, sys.executable, "-m", "ops", "validate", "--stack", stack.name],
            cwd=PROJECT,
            check=False,
        )
    _print_critical_path(stack, changed)
    _say_what_to_save(stack.paths, stack.name)
    stdout.print(
        "seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in phases.seconds.items())
    )
    option = "" if stack.name == "dev" else f" --stack {stack.name}"
    stdout.print(f"Look around:     ./hardway kubectl{option} get nodes", highlight=False)
    stdout.print(
        f"Your kubeconfig: ./hardway kubeconfig{option} --merge puts the context "
        f"hardway-{stack.name} into it",
        highlight=False,
    )
    if forwarder.is_needed(stack.paths, stack):
        _print_way_in(stack, cluster)
    _print_pages(stack.name, cluster)


def _print_way_in(stack: Stack, cluster: Cluster) -> None:
    """Start the stack's forwarder, and say where a person's own programs reach the API.

    The cluster is there without it, so a forwarder that does not start is no failure.
    """
    try:
        way_in = forwarder.start_to(stack.paths, stack.name, cluster.api_url)
    except Problem as problem:
        progress().say(f"Only ./hardway kubectl reaches the API: {problem}")
        return
    stdout.print(
        f"From any shell:  kubectl --context hardway-{stack.name} get nodes (the API is at "
        f"{way_in.url})",
        highlight=False,
    )


def _print_pages(stack: str, cluster: Cluster) -> None:
    """Print the URLs of the add-ons' pages; the cluster is there without a way to one of them."""
    for name, page in pages(cluster):
        from ops.expose import page_url  # imports the API's client, which nothing else here needs

        try:
            where = page_url(stack, page)
        except Problem as problem:
            where = str(problem)
        stdout.print(f"{name}: {where}", highlight=False)


def _print_critical_path(stack: Stack, changed: Mapping[str, critical_path.Span]) -> None:
    """Print the critical path of the update, if the update changed anything."""
    exported = stack.pulumi("stack", "export", capture=True) if changed else None
    if exported is None or exported.returncode != 0:
        return
    after = critical_path.dependencies(json.loads(exported.stdout))
    path = critical_path.critical_path(changed, after)
    stdout.print(path_table(path, "what the update waited for"))


def down(
    stack: StackOption = "dev",
    lab: Annotated[
        bool,
        typer.Option(
            "--lab/--keep-lab", help="Also end the lab: libvirt, mirror, forwarders, namespace."
        ),
    ] = True,
) -> None:
    """Remove a stack (`pulumi destroy`), and end the lab once no stack is left in it.

    The cache stays, so the next `up` is quick.

    Examples: `./hardway down`, and `./hardway down --keep-lab` before another `up`
    """
    paths = lab_paths()
    remove_image = _image_removal(paths, stack)  # the stack's removal forgets the image
    if _has_state(paths):
        ready = ready_stack(stack, paths)
        if ready.exists():
            recover(ready, libvirt.find(paths), progress().say)
            arguments = ("destroy", "--yes", "--skip-preview")
            done = ready.pulumi(*arguments)
            if done.returncode != 0:
                # The libvirt provider fails on a resource that is gone already. A refresh before
                # each destroy would make it wait for machines, so only the second attempt has one:
                # it asks only for the resources that are left.
                progress().say("asking what of the rest is still there, and removing that")
                done = ready.pulumi(*arguments, "--refresh")
            if done.returncode != 0:
                raise Problem(
                    f"pulumi destroy ended with exit status {done.returncode}",
                    "read its message above; the next ./hardway down goes on from there",
                )
            ready.remove()
    SaveNotes(paths, stack).forget()
    remove_image()
    forwarder.stop(paths, forwarder.of_stack(paths, stack))
    way_out.let_out(paths, stack)
    if not lab:
        return
    if remaining := stacks_with_state(paths) or _machines_of_others(paths):
        progress().say(f"the lab stays for what else is in it: {', '.join(remaining)}")
        return
    stop_lab(paths)


def _image_removal(paths: LabPaths, stack: str) -> Callable[[], None]:
    """What removes the base images that the lab has brought to other hypervisors for a stack.

    Images that other machines use stay.
    """
    try:
        offer = read_offer(offer_path(paths, stack))
        libvirts = read_cluster(stack).libvirts_without_image if offer.image else ()
    except (OSError, SpecError, Problem):
        return lambda: None
    where = offer.hypervisor
    if isinstance(where, VirtualBox) and where.image:
        return partial(virtualbox.remove_unused, Path(where.image))
    return partial(storage_pool.remove_unused, offer.image or "", libvirts)


def _has_state(paths: LabPaths) -> bool:
    """Whether a stack may exist.

    Where none can, ``down`` need not build Pulumi only to look for one.
    """
    return bool(stacks_with_state(paths)) or "PULUMI_BACKEND_URL" in os.environ


def _machines_of_others(paths: LabPaths) -> list[str]:
    """The domains in the lab's libvirt, if PULUMI_BACKEND_URL is set; else an empty list.

    They may belong to stacks in another backend, which ``stacks_with_state`` does not see.
    """
    connection = libvirt.find(paths) if "PULUMI_BACKEND_URL" in os.environ else None
    return libvirt.virsh(connection, "list", "--all", "--name").split() if connection else []


def stop_lab(paths: LabPaths) -> None:
    """End everything that ``up`` started and remove the lab's state."""
    forwarder.stop(paths, forwarder.names(paths))
    mirror.stop(paths)
    connection = libvirt.find(paths)
    libvirt.stop(paths, progress())
    if connection is not None and not connection.private:
        shutil.rmtree(connection.disks, ignore_errors=True)
    shutil.rmtree(paths.state, ignore_errors=True)
    progress().say("the lab is gone; the cache stays")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what runs: libvirt, machines, mirror, ways in and out, stacks, and what ends soon.

    Exit code 2: a certificate of a stack ends within 30 days, or its backups are not well.

    Examples: `./hardway status`, for programs `./hardway status --json`
    """
    # They import the code for keys, which nothing else in this module needs.
    from ops import backup, expiry

    paths = lab_paths()
    stacks = stacks_with_state(paths)
    ending, warned = expiry.in_lab(stacks, paths)
    kept, lacking = backup.in_lab(stacks)
    warned = warned or lacking
    facts = _facts(paths) | {
        "certificates": ending or "none ends soon",
        "backups": kept or "none are made",
    }
    if as_json:
        print(json.dumps(facts, indent=1))
        raise typer.Exit(int(ExitCode.WARNED if warned else ExitCode.WELL))
    table = Table("what", "state", show_header=False)
    for key, value in facts.items():
        table.add_row(key, "\n".join(value) if isinstance(value, list) else str(value))
    stdout.print(table)
    raise typer.Exit(int(ExitCode.WARNED if warned else ExitCode.WELL))


def _facts(paths: LabPaths) -> dict[str, str | list[str]]:
    connection = libvirt.find(paths)
    machines: list[str] = []
    description = "none runs"
    if connection is not None:
        kind = "private" if connection.private else "system"
        description = f"{kind}, {connection.uri}, {connection.domain_type}"
        for line in libvirt.virsh(connection, "list", "--all").splitlines():
            machines.append(" ".join(line.split()[1:]))
    served = mirror.find(paths)
    cache = Cache().root
    return {
        "lab": f"{paths.name}, state in {paths.state}",
        "libvirt": description,
        "machines": machines or "none",
        "mirror": served.url if served else "none runs",
        "ways in": _forwarders(paths) or "none runs",
        "way out": _way_out(paths, connection),
        "stacks": stacks_with_state(paths) or "none",
        "processes": [f"{p.pid} {p.command[:60]}" for p in libvirt.processes(paths)] or "none",
        "cache": f"{cache}, {_mebibytes(cache)} MiB",
    }


def _way_out(paths: LabPaths, connection: libvirt.LibvirtConnection | None) -> str:
    if connection is not None and not connection.private:
        return "the system's libvirt"
    pid = way_out.find(paths)
    return f"{way_out.PROGRAM}, process {pid}" if pid else "none"


def _forwarders(paths: LabPaths) -> list[str]:
    """For each forwarder that runs its name, where it listens and where it leads."""
    running = {name: forwarder.find(paths, name) for name in forwarder.names(paths)}
    return [
        f"{name}: {forwarder.LOOPBACK}:{way_in.port} to {way_in.host}:{way_in.target}"
        for name, way_in in running.items()
        if way_in
    ]


def _mebibytes(folder: Path) -> str:
    # du counts a file with several hard links once, and takes a second for 100,000 files.
    answer = output(["du", "--summarize", "--block-size=1M", folder], timeout=120)
    return answer.split()[0] if answer else "?"
