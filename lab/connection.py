"""The connection to a libvirt, its properties, and functions that run virsh on it."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hypervisors.libvirt import virsh as virsh_program
from lab.problem import Problem


@dataclass(frozen=True)
class LibvirtConnection:
    """A libvirt and its properties."""

    uri: str
    """The connection URI for virsh and for Pulumi's provider."""
    private: bool
    """Whether it is the lab's own libvirt and not the system's."""
    namespace: Path | None
    """The network namespace from which machines are reached; None for the system's libvirt."""
    domain_type: str
    """``kvm`` or ``qemu``."""
    reason: str
    """The reason for the choice of this domain type."""
    pool: str
    """The name of the storage pool for the lab's disks."""
    disks: Path
    """The directory of that pool."""


def choose_domain_type(cpuinfo: str, kvm_refusal: str | None) -> tuple[str, str]:
    """The domain type ``kvm`` or ``qemu``, and the reason.

    ``cpuinfo`` is the text of /proc/cpuinfo. ``kvm_refusal`` is the error of opening /dev/kvm, or
    None where it opens. Both are needed: on some hosts whose /proc/cpuinfo shows neither vmx nor
    svm /dev/kvm opens, but ordinary kernels hang under it.
    """
    flags: set[str] = set()
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            flags.update(value.split())
    extension = next((flag for flag in ("vmx", "svm") if flag in flags), None)
    if extension is None:
        return "qemu", "emulation, since /proc/cpuinfo shows neither vmx nor svm"
    if kvm_refusal is not None:
        return "qemu", f"emulation, since /dev/kvm does not open ({kvm_refusal})"
    return "kvm", f"KVM, since the processor has {extension} and /dev/kvm opens"


def domain_type() -> tuple[str, str]:
    """The result of ``choose_domain_type`` for this host."""
    refusal = None
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        refusal = error.strerror
    return choose_domain_type(Path("/proc/cpuinfo").read_text(errors="replace"), refusal)


def enter(libvirt: LibvirtConnection) -> list[str]:
    """The command prefix that lets a command reach the machines; empty for the system's libvirt."""
    return [] if libvirt.namespace is None else ["nsenter", f"--net={libvirt.namespace}"]


def virsh(libvirt: LibvirtConnection, *arguments: str | Path, timeout: float = 60) -> str:
    """Run virsh and return its output. Raises a Problem with libvirt's error if it fails."""
    done = ask(libvirt.uri, *arguments, timeout=timeout)
    if done is None:
        raise Problem(
            f"libvirt at {libvirt.uri} gives no answer within {timeout:.0f} s",
            "start the lab again with ./hardway up, or look at ./hardway status",
        )
    if done.returncode != 0:
        message = " ".join(done.stderr.replace("error:", "").split())
        raise Problem(f"virsh {arguments[0]} failed ({message})", "see ./hardway status")
    return done.stdout


def ask(
    uri: str, *arguments: str | Path, timeout: float
) -> subprocess.CompletedProcess[str] | None:
    """Run virsh and return its result; None where it does not end within ``timeout`` seconds.

    Raises a Problem where virsh is not installed.
    """
    try:
        return virsh_program.ask(uri, *arguments, timeout=timeout)
    except FileNotFoundError as error:
        raise Problem("the program virsh is missing", "install libvirt-clients") from error
