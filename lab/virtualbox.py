"""Checks whether machines can be made on this host's VirtualBox, and gives it a base image."""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from hypervisors.virtualbox import networks, vboxmanage
from hypervisors.virtualbox.machine import uuid_of
from hypervisors.virtualbox.vboxmanage import VirtualBoxError
from lab.cache import Cache
from lab.image import DiskImage
from lab.problem import Problem, full_disk_told
from lab.process import run
from spec.cluster import Cluster
from spec.hypervisor import VirtualBox, domain_name

OLDEST = (7, 1)
"""The first version whose ``createvm`` knows the options that this program gives."""

LEAVES_KVM = (7, 2, 10)
"""The first version that uses the processor by means of KVM, where Linux has a KVM since 6.12."""

ROOM = 3
"""GiB of disk for each machine that a first ``up`` makes."""

DEVICES = (Path("/dev/vboxdrv"), Path("/dev/vboxnetctl"))
KVM = Path("/sys/module/kvm")
PROCESSES = Path("/proc")
KERNEL, PROCESSOR = PROCESSES / "sys/kernel/osrelease", PROCESSES / "cpuinfo"


@dataclass(frozen=True)
class HostCheck:
    """What a check has seen; a remedy belongs to a problem."""

    subject: str
    text: str
    remedy: str = ""


def demand_usable(spec: Cluster) -> None:
    """Raise a Problem where VirtualBox cannot make the cluster's machines."""
    for seen in checks(spec):
        if seen.remedy:
            raise Problem(seen.text, seen.remedy)


def checks(spec: Cluster) -> Iterator[HostCheck]:
    """Run each check, in the order in which ``up`` would meet the obstacles."""
    if vboxmanage.program() is None:
        yield HostCheck("VirtualBox", f"no {vboxmanage.PROGRAM} in PATH", vboxmanage.INSTALL)
        return
    try:
        version = installed()
        yield _version(version)
        if version < OLDEST:
            return
        yield _module()
        yield processor(version)
        yield _network(spec)
        yield _room(spec)
    except VirtualBoxError as error:
        yield HostCheck(
            "VirtualBox", str(error), "see that VBoxManage list vms works, as this user"
        )


def installed() -> tuple[int, ...]:
    """The version of VirtualBox. Raises VirtualBoxError."""
    answer = vboxmanage.call("--version")
    match = re.search(r"^(\d+)\.(\d+)\.(\d+)", answer, re.MULTILINE)
    if match is None:
        raise VirtualBoxError(f"VBoxManage --version says '{answer.strip()}' and no version")
    return tuple(map(int, match.groups()))


def _version(version: tuple[int, ...]) -> HostCheck:
    text = ".".join(map(str, version))
    if version < OLDEST:
        return HostCheck("VirtualBox", f"{text} is too old", vboxmanage.INSTALL)
    return HostCheck("VirtualBox", f"{text}, {vboxmanage.program()}")


def _module() -> HostCheck:
    missing = [str(device) for device in DEVICES if not device.exists()]
    if not missing:
        return HostCheck("kernel modules", "vboxdrv and vboxnetadp are loaded")
    return HostCheck(
        "kernel modules",
        f"there is no {' and no '.join(missing)}, so no machine starts in its network",
        "load vboxdrv, vboxnetflt and vboxnetadp with modprobe; build them first with "
        "/sbin/vboxconfig (VirtualBox's own package) or virtualbox-dkms (Debian's)",
    )


def processor(version: tuple[int, ...]) -> HostCheck:
    """Whether VirtualBox gets the processor's virtualisation, or KVM keeps it."""
    flags = set(re.findall(r"\b(?:vmx|svm)\b", PROCESSOR.read_text()))
    if not flags:
        return HostCheck(
            "virtualisation",
            "this processor does not virtualise, and VirtualBox makes no 64-bit machine without",
            "switch virtualisation on in the host's firmware, or leave hypervisor out: a lab "
            "emulates processors",
        )
    if users := _kvm_users():
        return HostCheck(
            "virtualisation",
            f"machines of KVM use the processor ({', '.join(users)})",
            "end them: VirtualBox and KVM cannot run machines at the same time",
        )
    at_load = _at_load()
    if at_load == "Y" and version < LEAVES_KVM and _kernel() >= (6, 12):
        return HostCheck(
            "virtualisation",
            "KVM is loaded and keeps the processor for itself, as since Linux 6.12",
            "unload it (modprobe -r kvm_intel kvm_amd kvm), load it with enable_virt_at_load=0, "
            "or install VirtualBox 7.2.10 or later",
        )
    if at_load == "N" and version >= LEAVES_KVM:
        return HostCheck(
            "virtualisation",
            "KVM is loaded with enable_virt_at_load=0, and VirtualBox since 7.2.10 needs it on",
            "load kvm without that setting, or unload it (modprobe -r kvm_intel kvm_amd kvm)",
        )
    return HostCheck("virtualisation", f"{' and '.join(sorted(flags))}, free for VirtualBox")


def _at_load() -> str | None:
    """``Y`` where KVM has switched virtualisation on at its load; None without such a KVM."""
    with suppress(OSError):
        return (KVM / "parameters/enable_virt_at_load").read_text().strip()
    return None


def _kernel() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", KERNEL.read_text())[:2]))


def _kvm_users() -> list[str]:
    """Name and process of each program that has a machine of KVM."""
    users = []
    for folder in PROCESSES.glob("[0-9]*"):
        with suppress(OSError):
            if any(
                link.readlink().name == "anon_inode:kvm-vm" for link in (folder / "fd").iterdir()
            ):
                users.append(f"{(folder / 'comm').read_text().strip()} {folder.name}")
    return sorted(users)


def subnet(spec: Cluster) -> IPv4Network:
    """That of all machines on VirtualBox (``spec.checks.places.machines_reach_each_other``)."""
    return spec.subnet_of(spec.machines_on(VirtualBox)[0])


def _network(spec: Cluster) -> HostCheck:
    network = subnet(spec)
    try:
        networks.demand_allowed(network)
        networks.demand_free(network)
    except VirtualBoxError as error:
        what, _, remedy = str(error).partition("; ")
        return HostCheck("network", what, remedy)
    return HostCheck("network", f"{network} is allowed and free")


def _room(spec: Cluster) -> HostCheck:
    """Whether there is room for the machines that are not there yet."""
    known = vboxmanage.machines()
    names = [domain_name(spec.name, name) for name in spec.machines]
    needed = ROOM * len([name for name in names if uuid_of(name) not in known])
    folder = vboxmanage.machine_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free // 2**30
    text = f"{folder}: {free} GiB free"
    if free < needed:
        return HostCheck(
            "room",
            f"{text}, {needed} GiB are needed",
            "free some space, or name a folder on a larger disk (VBoxManage setproperty "
            "machinefolder)",
        )
    return HostCheck("room", text)


# -- the base image --------------------------------------------------------------------------------


def provide(image: DiskImage, cache: Cache, log: Path) -> Path:
    """Put an image beside the user's machines as a VDI file, if it is not there.

    Its name has the image's digest, so that all stacks use the same file: VirtualBox knows no two
    files with one UUID. Raises a Problem.
    """
    try:
        folder = vboxmanage.machine_folder()
    except VirtualBoxError as error:
        raise Problem(str(error), "see that VBoxManage list vms works, as this user") from error
    target = folder / f"hardway-{image.digest[:16]}.vdi"
    with cache.lock(f"virtualbox-{image.digest}"), full_disk_told(folder):
        if not target.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            half = target.with_suffix(".part")
            # VirtualBox reads some qcow2 files wrongly and without an error.
            run(
                ["qemu-img", "convert", "-q", "-f", image.format, "-O", "vdi", image.disk, half],
                log=log,
                timeout=1200,
                failure=f"the base image could not be written to {folder}",
            )
            half.rename(target)
    return target


def remove_unused(image: Path) -> None:
    """Remove a base image that ``provide`` has made, unless machines stand on it."""
    if not image.is_file() or not re.fullmatch(r"hardway-[0-9a-f]{16}\.vdi", image.name):
        return
    with suppress(VirtualBoxError):
        vboxmanage.call("showmediuminfo", "disk", image)  # VirtualBox knows it, if it did not
        if vboxmanage.close("disk", image):
            image.unlink()
