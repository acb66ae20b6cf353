"""Makes, changes, reads and removes a machine on VirtualBox, without Pulumi."""

import hashlib
import json
import os
import re
import shutil
import signal
import time
import uuid as identifiers
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hypervisors.virtualbox.vboxmanage import (
    Gone,
    VirtualBoxError,
    call,
    close,
    details,
    facts,
    machine_folder,
    value,
)

NAMESPACE = identifiers.UUID("6f0b2c0e-5f0d-5b59-9a43-6d6f58d3b7ad")

CONTROLLER = "VirtIO"
DISK_PORT, SEED_PORT = 0, 1
"""The ports of the disk and of the seed: the first disk is sda in any case."""
DISK_PATH, DISK_ID = f"{CONTROLLER}-{DISK_PORT}-0", f"{CONTROLLER}-ImageUUID-{DISK_PORT}-0"

SEED, CONSOLE = "seed.iso", "console.log"
"""Files in the machine's folder: the documents of its first boot, and what its serial port says."""

SCRATCH = ".seed"
LIST = f"{SCRATCH}/seed.viso"
"""A folder there while the seed is made, and the list of what the seed is made of. VirtualBox may
know it still where a creation was cut off."""

MADE = "hardway/made"
"""The key of a machine's extra data which says that the machine is complete, and what it is."""

POWER_BUTTON, AGAIN, INTERVAL = 240.0, 20.0, 0.5
"""Seconds for a machine to power itself off (``hypervisors.libvirt.shutdown`` has the reasons),
between two presses of the button, since a machine ignores it while it boots, and between two looks
at its state."""

ENDS = 20.0
"""Seconds that a machine's process may take to end by itself, once the machine is powered off."""

RUNS = frozenset({"running", "paused", "starting", "restoring", "stopping", "saving", "stuck"})
"""States with a process of the machine."""


def uuid_of(name: str) -> str:
    """The UUID of the machine with this name, by which a creation that was cut off is known."""
    return str(identifiers.uuid5(NAMESPACE, name))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What can change while the machine is off."""

    memory: int
    """MiB."""
    cpus: int
    mac: str
    network: str
    """The name of the host-only adapter."""
    disk: int
    """GiB."""


@dataclass(frozen=True, kw_only=True)
class WantedMachine(Settings):
    """A machine as it shall be."""

    name: str
    image: Path
    """The base image of its disk."""
    user_data: str = field(repr=False)
    meta_data: str
    network_config: str

    @property
    def uuid(self) -> str:
        return uuid_of(self.name)

    @property
    def digest(self) -> str:
        """Changes with whatever the machine is made of; nothing secret can be read from it."""
        text = json.dumps(asdict(self), default=str, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Observed(Settings):
    """A machine as VirtualBox knows it."""

    state: str
    disk_id: str
    """The UUID of its disk; empty where it has none or the disk's file is gone."""
    disk_path: Path
    folder: Path


def outside_mac(mac: str) -> str:
    """The address of a machine's second adapter: as the first one's, but for one bit."""
    first, rest = mac.split(":", 1)
    return f"{int(first, 16) ^ 0x04:02x}:{rest}"


# -- making ----------------------------------------------------------------------------------------


def made(machine: WantedMachine) -> str:
    """Make a machine and start it; return the UUID of its disk, which no other machine has had.

    A complete machine that an update was cut off from writing down is taken over, and whatever else
    a creation has left is removed first. Raises VirtualBoxError.
    """
    with suppress(Gone):
        seen = observed(machine.uuid)
        if seen.disk_id and _mark(machine.uuid) == machine.digest:
            start(machine.uuid)
            return seen.disk_id
    removed(machine.name, machine.image)
    try:
        disk = _made(machine)
        start(machine.uuid)
    except VirtualBoxError:
        # The engine writes down nothing of a creation that fails.
        with suppress(VirtualBoxError):
            removed(machine.name, machine.image)
        raise
    return disk


def _made(machine: WantedMachine) -> str:
    image, uuid = _known(machine.image), machine.uuid
    call(
        *("createvm", f"--name={machine.name}", f"--uuid={uuid}", "--register"),
        *("--platform-architecture=x86", "--ostype=Debian_64"),
    )
    folder = _folder_of(uuid)
    disk_path = folder / f"{machine.name}.vdi"
    disk = _disk(image, disk_path, machine.disk)
    seed = _seed(machine, folder)
    call(
        *("storagectl", uuid, f"--name={CONTROLLER}", "--add=virtio-scsi", "--controller=VirtIO"),
        *("--portcount=2", "--bootable=on"),
    )
    for port, kind, medium in ((DISK_PORT, "hdd", disk_path), (SEED_PORT, "dvddrive", seed)):
        call(
            *("storageattach", uuid, f"--storagectl={CONTROLLER}", f"--port={port}"),
            *("--device=0", f"--type={kind}", f"--medium={medium}"),
        )
    call(
        *("modifyvm", uuid, "--firmware=bios", "--firmware-boot-menu=disabled", "--boot1=disk"),
        *("--boot2=none", "--boot3=none", "--boot4=none", "--rtc-use-utc=on"),
        *("--paravirt-provider=kvm", "--audio-enabled=off", "--usb-ohci=off"),
        # An image with a console on a port that is missing boots slowly or hangs.
        *("--uart1", "0x3F8", "4", "--uart-mode1", "file", folder / CONSOLE),
        *_settings(machine),
    )
    call("setextradata", uuid, MADE, machine.digest)
    return disk


def _settings(machine: Settings) -> Iterator[str]:
    """The options of modifyvm for what can change.

    The first adapter is the machines' network. The second one is the way out, which the first one
    lacks. The cloud kernel of Debian has no driver for the adapters that VirtualBox has by default.
    """
    yield from (f"--memory={machine.memory}", f"--cpus={machine.cpus}")
    yield from ("--nic1=hostonly", f"--host-only-adapter1={machine.network}")
    yield from ("--nic2=nat", "--nat-net2=default")
    for number, mac in ((1, machine.mac), (2, outside_mac(machine.mac))):
        yield from (f"--nic-type{number}=virtio", f"--cable-connected{number}=on")
        yield f"--mac-address{number}={mac.replace(':', '')}"


def _known(image: Path) -> Path:
    """The path of the base image, which VirtualBox then knows as immutable.

    VirtualBox deletes a normal base image together with its last machine.
    """
    path = image.absolute()
    if not path.is_file():
        raise VirtualBoxError(
            f"there is no base image {path}; write the path of a VDI or VMDK file as "
            "hypervisor.image"
        )
    try:
        _make_immutable(path)
    except VirtualBoxError as error:
        # VirtualBox remembers a file of this path with another UUID.
        if "does not match the value" not in str(error):
            raise
        call("closemedium", "disk", path)
        _make_immutable(path)
    return path


def _make_immutable(image: Path) -> None:
    call("modifymedium", "disk", image, "--type=immutable")


def _disk(image: Path, path: Path, size: int) -> str:
    """Make a differencing disk of ``size`` GiB on the base image; return its UUID."""
    base = _mebibytes(image)
    if base > size * 1024:
        raise VirtualBoxError(
            f"the base image {image} has {base} MiB and does not fit on a disk of {size} GiB; "
            f"write {-(-base // 1024)} or more for disk"
        )
    call("createmedium", "disk", f"--filename={path}", f"--diffparent={image}", "--format=VDI")
    # A disk on an immutable image would be emptied at each start.
    call("modifymedium", "disk", path, "--autoreset=off", f"--resize={size * 1024}")
    seen = details(call("showmediuminfo", "disk", path))
    if seen.get("Auto-Reset") != "off":
        raise VirtualBoxError(
            f"VirtualBox would empty the disk {path} at each start, although Auto-Reset was "
            "switched off; report it with the version of VirtualBox"
        )
    return value(seen, "UUID")


def _mebibytes(disk: Path) -> int:
    return int(value(details(call("showmediuminfo", "disk", disk)), "Capacity").split()[0])


def _seed(machine: WantedMachine, folder: Path) -> Path:
    """Write the documents of the first boot to an ISO file; it holds the machine's host key."""
    target, scratch = folder / SEED, folder / SCRATCH
    documents = {
        "user-data": machine.user_data,
        "meta-data": machine.meta_data,
        "network-config": machine.network_config,
    }
    scratch.mkdir(mode=0o700)
    try:
        names = []
        for name, text in documents.items():
            file = scratch / name
            file.touch(mode=0o600)
            file.write_text(text)
            names.append(f"/{name}={_quoted(file)}")
        # Such a list of options is an image of its own kind to VirtualBox, which copies it to an
        # ordinary one.
        options = [f"--iprt-iso-maker-file-marker-bourne-sh={identifiers.uuid4()}"]
        options += ["--volume-id=cidata", *names]
        source = folder / LIST
        source.write_text(" ".join(options) + "\n")
        call("clonemedium", "dvd", source, target, "--format=RAW")
        call("closemedium", "dvd", source)
    finally:
        shutil.rmtree(scratch)
    target.chmod(0o600)
    return target


def _quoted(path: Path) -> str:
    """A path as a shell's word."""
    return "'" + str(path).replace("'", "'\\''") + "'"


# -- reading ---------------------------------------------------------------------------------------


def observed(uuid: str) -> Observed:
    """The machine as VirtualBox knows it. Raises Gone and VirtualBoxError."""
    known = facts(call("showvminfo", uuid, "--machinereadable"))
    path = Path(known.get(DISK_PATH, "none"))
    has_disk = path.is_file()
    return Observed(
        memory=int(value(known, "memory")),
        cpus=int(value(known, "cpus")),
        mac=":".join(re.findall("..", known.get("macaddress1", "").lower())),
        network=known.get("hostonlyadapter1", ""),
        disk=_mebibytes(path) // 1024 if has_disk else 0,
        state=value(known, "VMState"),
        disk_id=known.get(DISK_ID, "") if has_disk else "",
        disk_path=path,
        folder=Path(value(known, "CfgFile")).parent,
    )


def state_of(uuid: str) -> str:
    """The state of a machine. Raises Gone and VirtualBoxError."""
    return value(facts(call("showvminfo", uuid, "--machinereadable")), "VMState")


def member(uuid: str, disk_id: str) -> Observed | None:
    """The machine with this disk; None where it, or its disk, is gone. Raises VirtualBoxError."""
    try:
        seen = observed(uuid)
    except Gone:
        return None
    return seen if seen.disk_id == disk_id else None


def is_complete(uuid: str) -> bool:
    """Whether the making of a machine had ended. Raises VirtualBoxError, also where it is gone."""
    return re.fullmatch("[0-9a-f]{64}", _mark(uuid)) is not None


def _mark(uuid: str) -> str:
    return call("getextradata", uuid, MADE).strip().removeprefix("Value: ")


# -- changing --------------------------------------------------------------------------------------


def changed(uuid: str, settings: Settings, say: Callable[[str], None]) -> None:
    """Give a machine these settings, and have it run. Raises VirtualBoxError.

    A machine that runs with other settings is shut down for that. A disk grows and never shrinks.
    """
    seen = observed(uuid)
    grows = seen.disk < settings.disk
    if grows or any(getattr(seen, key) != getattr(settings, key) for key in SET):
        if seen.state.endswith("saved"):
            start(uuid)  # what a machine has saved fits its old settings only
        if not shut_down(uuid, POWER_BUTTON):
            say(f"it has not shut down within {POWER_BUTTON:.0f} s and is powered off as it runs")
            power_off(uuid)
        call("modifyvm", uuid, *_settings(settings))
        if grows:
            call("modifymedium", "disk", seen.disk_path, f"--resize={settings.disk * 1024}")
    start(uuid)


SET = ("memory", "cpus", "mac", "network")
"""The settings that modifyvm changes."""


def start(uuid: str) -> None:
    """Have the machine run, whatever its state is. Raises VirtualBoxError."""
    state = state_of(uuid)
    if state == "paused":
        call("controlvm", uuid, "resume")
    elif state not in RUNS:
        try:
            call("startvm", uuid, "--type=headless")
        except VirtualBoxError as error:
            raise VirtualBoxError(
                f"VirtualBox cannot start a machine ({error.reason}); see in ./hardway doctor what "
                "is missing, mend that and run the update again",
                error.reason,
            ) from error


def shut_down(uuid: str, limit: float) -> bool:
    """Have the machine power itself off; return whether it is off within ``limit`` seconds."""
    end, pressed = time.monotonic() + limit, None
    while (state := state_of(uuid)) in RUNS:
        now = time.monotonic()
        if now > end:
            return False
        if state == "paused":
            call("controlvm", uuid, "resume")
        elif state == "running" and (pressed is None or now - pressed >= AGAIN):
            pressed = now
            with suppress(VirtualBoxError):  # it may have powered off meanwhile
                call("controlvm", uuid, "acpipowerbutton")
        time.sleep(INTERVAL)
    return True


def power_off(uuid: str) -> None:
    """Power the machine off as it runs. Raises Gone and VirtualBoxError."""
    if state_of(uuid) in RUNS:
        with suppress(VirtualBoxError):  # it may have ended meanwhile
            call("controlvm", uuid, "poweroff")
    _end_processes(uuid)


def _end_processes(uuid: str) -> None:
    """Wait for the end of the processes of a machine that VirtualBox takes for powered off.

    Where VBoxSVC was killed, its machines run on, and the next VBoxSVC knows nothing of them: these
    are ended. Raises VirtualBoxError.
    """
    start = time.monotonic()
    while pids := list(_processes(uuid)):
        waited = time.monotonic() - start
        if waited > 2 * ENDS:
            raise VirtualBoxError(
                f"processes of the machine do not end ({', '.join(map(str, pids))}); end them and "
                "run the update again"
            )
        for pid in pids if waited > ENDS else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(INTERVAL)


def _processes(uuid: str) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            program, *arguments = (folder / "cmdline").read_bytes().split(b"\0")
            names = (b"VBoxHeadless", b"VirtualBoxVM")
            if uuid.encode() in arguments and program.rpartition(b"/")[2] in names:
                yield int(folder.name)


# -- removing -------------------------------------------------------------------------------------


def removed(name: str, image: Path) -> None:
    """Remove a machine with its disk and all of its files; each of them may be gone already.

    Raises VirtualBoxError.
    """
    uuid, base, folder = uuid_of(name), image.absolute(), None
    try:
        folder = _folder_of(uuid)
        power_off(uuid)
        if base.is_file():
            _make_immutable(base)
        call("unregistervm", uuid, "--delete-all")
    except Gone:
        # A machine whose file is gone is unregistered all the same.
        with suppress(VirtualBoxError):
            call("unregistervm", uuid)
    _remove_files(folder or machine_folder() / name, name)
    close("disk", base)


def _remove_files(folder: Path, name: str) -> None:
    """Remove what VirtualBox leaves of a machine, and the folder where nothing else is in it."""
    if not folder.is_dir():
        return
    for kind, medium in (("dvd", SEED), ("dvd", LIST), ("disk", f"{name}.vdi")):
        close(kind, folder / medium)
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    for pattern in (f"{name}*.vbox*", f"{name}.vdi", "*.nvram", SEED, CONSOLE, "Logs/*"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)
    for empty in (folder / "Logs", folder / "Snapshots", folder):
        with suppress(OSError):
            empty.rmdir()


def _folder_of(uuid: str) -> Path:
    return Path(value(facts(call("showvminfo", uuid, "--machinereadable")), "CfgFile")).parent
