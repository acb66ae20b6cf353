"""A libvirt that answers: what is known of it, and how it is spoken to."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hypervisors import virsh as virsh_program
from lab.problem import Problem


@dataclass(frozen=True)
class LibvirtConnection:
    """A libvirt that answers, and what can be said of it."""

    uri: str
    """For virsh and for Pulumi's provider."""
    private: bool
    namespace: Path | None
    """The network namespace from which machines are reached; none for the system's libvirt."""
    domain_type: str
    """``kvm`` or ``qemu``."""
    reason: str
    """Why this domain type."""
    pool: str
    """The name of the storage pool for the lab's disks."""
    disks: Path
    """The directory of that pool."""


def choose_domain_type(cpuinfo: str, kvm_refusal: str | None) -> tuple[str, str]:
    """``kvm`` or ``qemu``, and why.

    ``cpuinfo`` is the text of /proc/cpuinfo, ``kvm_refusal`` why /dev/kvm does not open, if it does
    not. Both are asked, since on some hosts /dev/kvm opens and ordinary kernels hang under it.
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
    """``choose_domain_type`` for this machine."""
    refusal = None
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        refusal = error.strerror
    return choose_domain_type(Path("/proc/cpuinfo").read_text(errors="replace"), refusal)


def enter(libvirt: LibvirtConnection) -> list[str]:
    """The words before a command that shall reach the machines; none for the system's libvirt."""
    return [] if libvirt.namespace is None else ["nsenter", f"--net={libvirt.namespace}"]


def virsh(libvirt: LibvirtConnection, *words: str | Path, timeout: float = 60) -> str:
    """What virsh prints. Raises a Problem with libvirt's own words if it fails."""
    done = ask(libvirt.uri, *words, timeout=timeout)
    if done is None:
        raise Problem(
            f"libvirt at {libvirt.uri} gives no answer within {timeout:.0f} s",
            "start the lab again with ./hardway up, or look at ./hardway status",
        )
    if done.returncode != 0:
        said = " ".join(done.stderr.replace("error:", "").split())
        raise Problem(f"virsh {words[0]} failed ({said})", "see ./hardway status")
    return done.stdout


def ask(uri: str, *words: str | Path, timeout: float) -> subprocess.CompletedProcess[str] | None:
    """What became of a virsh command; nothing where there is no answer in ``timeout`` seconds."""
    try:
        return virsh_program.ask(uri, *words, timeout=timeout)
    except FileNotFoundError as error:
        raise Problem("the program virsh is missing", "install libvirt-clients") from error
