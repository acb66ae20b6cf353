"""Prepares the lab: everything that must exist on a bare machine before ``pulumi up``."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from time import monotonic
from typing import Any

from lab import (
    artifacts,
    bootable,
    image,
    libvirt,
    mirror,
    packages,
    resolvers,
    storage_pool,
    timestamp_counter,
    virtualbox,
    way_out,
)
from lab.cache import Cache, write_atomically
from lab.debian_root import debian_root
from lab.host import (
    PACKAGES_FOR_LIBVIRT_ELSEWHERE,
    PACKAGES_FOR_THE_WAY_OUT,
    PACKAGES_FOR_VIRTUALBOX,
    packages_for_machines,
)
from lab.official_image import official_image
from lab.paths import LabPaths
from lab.problem import Problem
from lab.process import beside
from lab.progress import Progress
from lab.stack import offer_path
from plan import needs
from plan.artifact import missing_digests
from spec.checks.networks import SPECIAL, ranges
from spec.cluster import ArtifactSource, Cluster
from spec.hypervisor import Hypervisor, Libvirt, VirtualBox
from spec.network import gateway_of
from spec.offer import Offer

EMULATED: dict[str, Any] = {
    # A safer mode is slow enough to starve etcd on emulated machines, and nobody keeps data on
    # such machines.
    "disk_cache": "unsafe",
    "kernel_arguments": (
        # QEMU translates code anew for each address at which the code runs. With randomized
        # addresses a fork and an exec cost 58 ms, and 12 ms without (QEMU 7.2).
        "norandmaps",
        # Skip protections against attacks on real processors and on the content of freed memory.
        *("mitigations=off", "init_on_alloc=0"),
        # Clocks and timers are devices, and each access to a device leaves the translated code.
        # With two processors a third of the kernel's time was reading the HPET and setting timers.
        # (Ticks stay off while a machine is idle: they would cost each machine 6 % of a processor.)
        *("tsc=reliable", "clocksource=tsc", "highres=off"),
    ),
}
"""Settings for machines on every host that emulates their processors."""


def emulated() -> dict[str, Any]:
    """Settings for machines on this host, which emulates their processors."""
    ticks = timestamp_counter.frequency()
    # The machines use the host's counter. A kernel that measures the counter on a busy host may
    # get a tenth of its frequency.
    known = (f"tsc_early_khz={ticks}",) if ticks else ()
    return {**EMULATED, "kernel_arguments": (*EMULATED["kernel_arguments"], *known)}


@dataclass
class Phases:
    """How long each part of a command took, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a part; the times of parts with the same name add up."""
        started = monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + monotonic() - started


def _base(
    cluster: Cluster,
    stored: Iterable[artifacts.StoredArtifact],
    cache: Cache,
    paths: LabPaths,
    progress: Progress,
    *,
    boots_itself: bool,
) -> image.DiskImage:
    """The image of the cluster's machines: the one that its spec names, or one with artifacts.

    Without a boot loader of its own, an image has a kernel and its initial file system beside it.
    """
    if given := cluster.base_image:
        return official_image(
            cache, given.source, progress, sha256=given.sha256, sha512=given.sha512
        )
    build = bootable.bootable_image if boots_itself else image.base_image
    return build(
        cache,
        image.node_store(stored),
        progress,
        logs=paths.logs,
        packages=needs.of_image(cluster),
    )


def _outside(
    stack: str,
    cluster: Cluster,
    host: libvirt.LibvirtConnection,
    paths: LabPaths,
    progress: Progress,
) -> tuple[IPv4Address, ...]:
    """Give the cluster's network its way out of the lab; return the name servers behind it.

    Raises a Problem where the stack wants what this computer cannot give.
    """
    networks = cluster.networks
    if not host.private:
        if networks.outside is False:
            raise Problem(
                "networks.outside is false, and the system's libvirt gives all machines a way out",
                "leave it out, or end the system's libvirt: the lab then starts one of its own",
            )
        return _apart(cluster, resolvers.reachable())
    subnets = tuple(cluster.networks_in_lab.values())
    if not way_out.is_wanted(paths, networks.outside):
        way_out.keep_inside(paths, stack, subnets, inside=True)
        progress.say("way out: none, so machines reach this computer and nothing beyond it")
        return ()
    for name, network in ranges(networks):
        if network.overlaps(way_out.RANGE):
            raise Problem(
                f"{name} overlaps with {way_out.RANGE}, the network of the lab's way out",
                "choose another range, or write networks.outside: false",
            )
    packages.install(PACKAGES_FOR_THE_WAY_OUT, paths, progress)
    way_out.start(paths)
    way_out.keep_inside(paths, stack, subnets, inside=False)
    asked = ", ".join(map(str, resolvers.listed()))
    progress.say(
        f"way out: {way_out.PROGRAM}; names: "
        f"{asked or 'none now, since /etc/resolv.conf lists no name server of IPv4'}"
    )
    return (way_out.NAME_SERVER,)


def _apart(cluster: Cluster, servers: Iterable[IPv4Address]) -> tuple[IPv4Address, ...]:
    """Those of the name servers that are in none of the cluster's networks."""
    networks = cluster.networks
    hidden = (networks.pods, networks.services, *networks.machines, *SPECIAL)
    return tuple(server for server in servers if not any(server in network for network in hidden))


def prepare_lab(
    stack: str,
    cluster: Cluster,
    paths: LabPaths,
    cache: Cache,
    progress: Progress,
    phases: Phases,
) -> libvirt.LibvirtConnection:
    """Prepare the lab up to the point where machines can be made, and write its offer.

    A second call only checks. Raises a Problem where the cluster's network overlaps with an
    existing one, before the lab makes anything in that network.
    """
    with phases.phase("packages"):
        packages.install(packages_for_machines(), paths, progress)
    stored, base = machine_image(cluster, paths, cache, progress, phases, boots_itself=False)
    volume = None
    if cluster.libvirts_without_image:
        _, volume = _elsewhere(cluster, paths, cache, progress, phases)
    with phases.phase("libvirt"):
        host = libvirt.start(paths, progress)
        if cluster.networks.routed:
            libvirt.demand_routers(host)
        for name, subnet in cluster.networks_in_lab.items():
            libvirt.check_network(subnet, name, host)
        placed = storage_pool.provide(host, base)
        consoles = paths.state / "console"
        consoles.mkdir(parents=True, exist_ok=True)
        gateway = str(gateway_of(next(iter(cluster.networks_in_lab.values()))))
        served = mirror.start(paths, gateway, mirror.PORT, libvirt.enter(host))
        name_servers = _outside(stack, cluster, host, paths, progress)
    where = Libvirt(
        uri=host.uri,
        domain_type="kvm" if host.domain_type == "kvm" else "qemu",
        pool=host.pool,
        image=placed.volume,
        kernel=str(placed.kernel) if placed.kernel else None,
        initrd=str(placed.initrd) if placed.initrd else None,
        console_logs=str(consoles),
        **({} if host.domain_type == "kvm" else emulated()),
    )
    _write_offer(paths, stack, stored, where, volume, served, name_servers)
    return host


def prepare_elsewhere(
    stack: str,
    cluster: Cluster,
    paths: LabPaths,
    cache: Cache,
    progress: Progress,
    phases: Phases,
) -> None:
    """Bring the base image to the libvirts for which the spec names none; write the lab's offer.

    A second call only checks. Raises a Problem.
    """
    with phases.phase("packages"):
        packages.install(PACKAGES_FOR_LIBVIRT_ELSEWHERE, paths, progress)
    stored, volume = _elsewhere(cluster, paths, cache, progress, phases)
    _write_offer(paths, stack, stored, volume=volume)


def _elsewhere(
    cluster: Cluster, paths: LabPaths, cache: Cache, progress: Progress, phases: Phases
) -> tuple[Sequence[artifacts.StoredArtifact], str]:
    """The artifacts of a cluster, and the volume with the base image at libvirts without one."""
    stored, base = machine_image(cluster, paths, cache, progress, phases, boots_itself=True)
    with phases.phase("libvirt"):
        volume = storage_pool.bring(base, cluster.libvirts_without_image, progress)
    return stored, volume


def prepare_virtualbox(
    stack: str,
    cluster: Cluster,
    paths: LabPaths,
    cache: Cache,
    progress: Progress,
    phases: Phases,
) -> None:
    """Prepare the base image for machines on VirtualBox, and write the lab's offer.

    A second call only checks. Raises a Problem.
    """
    with phases.phase("packages"):
        packages.install(PACKAGES_FOR_VIRTUALBOX, paths, progress)
    stored, base = machine_image(cluster, paths, cache, progress, phases, boots_itself=True)
    with phases.phase("VirtualBox"):
        placed = virtualbox.provide(base, cache, paths.logs / "virtualbox.log")
        served = mirror.start(paths, str(gateway_of(virtualbox.subnet(cluster))), mirror.PORT)
    where = VirtualBox(kind="virtualbox", image=str(placed))
    # The second adapter leads to what this computer reaches. Where that is a stub on a loopback
    # address, VirtualBox asks it for the machine.
    servers = _apart(cluster, resolvers.reachable()) or (VirtualBox.NAT[3],)
    _write_offer(paths, stack, stored, where, served=served, name_servers=servers)


def prepare_existing(
    stack: str,
    cluster: Cluster,
    paths: LabPaths,
    cache: Cache,
    progress: Progress,
    phases: Phases,
) -> None:
    """Prepare the artifacts for machines that exist, and write the lab's offer.

    There is none where no digest is missing and the spec names a mirror, or the machines have
    another processor than this computer: they then get all of it without the lab. A second call
    only checks. Raises a Problem.
    """
    store = artifacts.Store(cache, progress, paths.logs)
    is_alike = store.architecture == cluster.architecture
    if not missing_digests(cluster) and (cluster.artifacts.mirror or not is_alike):
        offer_path(paths, stack).unlink(missing_ok=True)
        return
    if not is_alike:
        raise Problem(
            f"the machines are {cluster.architecture} and this computer is {store.architecture}, "
            "for which alone it has artifacts",
            "run this on a computer like the machines, or write artifacts.mirror and "
            "artifacts.digests",
        )
    with phases.phase("artifacts"):
        stored = store.fetch(cluster.versions, cluster.runtime, cluster.addons.enabled)
    _write_offer(paths, stack, stored)


def machine_image(
    cluster: Cluster,
    paths: LabPaths,
    cache: Cache,
    progress: Progress,
    phases: Phases,
    *,
    boots_itself: bool,
) -> tuple[Sequence[artifacts.StoredArtifact], image.DiskImage]:
    """The artifacts of a cluster and the base image of its machines, made where they are missing.

    Raises a Problem.
    """
    store = artifacts.Store(cache, progress, paths.logs)
    wanted = (cluster.versions, cluster.runtime, cluster.addons.enabled)
    more = [*needs.of_image(cluster), *(bootable.PACKAGES if boots_itself else ())]
    with ExitStack() as during:
        if not cluster.base_image and not store.has(*wanted):
            # A new image follows; its Debian root needs no artifacts and can be made meanwhile.
            during.enter_context(beside(lambda: debian_root(cache, progress, paths.logs, more)))
        with phases.phase("artifacts"):
            stored = store.fetch(*wanted)
        with phases.phase("image"):
            base = _base(cluster, stored, cache, paths, progress, boots_itself=boots_itself)
    return stored, base


def _write_offer(
    paths: LabPaths,
    stack: str,
    stored: Iterable[artifacts.StoredArtifact],
    where: Hypervisor | None = None,
    volume: str | None = None,
    served: mirror.Mirror | None = None,
    name_servers: tuple[IPv4Address, ...] = (),
) -> None:
    known = ArtifactSource(
        mirror=served.url if served else None,
        digests={f"{artifact.name}-{artifact.version}": artifact.digest for artifact in stored},
    )
    offer = Offer(hypervisor=where, image=volume, artifacts=known, name_servers=name_servers)
    file = offer_path(paths, stack)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, offer.written().encode())
