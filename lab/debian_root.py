"""Makes the Debian root of a built image with mmdebstrap and adapts it to machines.

The cache keeps the root apart from the image, so that a new image with another artifact takes only
seconds.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from lab.architecture import architecture
from lab.cache import Cache, Receipt, digest_of
from lab.problem import Problem, full_disk_told
from lab.process import run
from lab.progress import Progress, Task
from lab.stamped import intact, record

SUITE = "trixie"
PACKAGES = (
    # No netplan: systemd-networkd reads the configuration that cloud-init writes for it.
    *("systemd", "systemd-sysv", "systemd-resolved", "dbus", "udev", "cloud-init"),
    *("openssh-server", "ca-certificates", "curl", "openssl", "procps", "sudo", "kmod"),
    "e2fsprogs",  # grows the file system to the disk's size
    *("iproute2", "iptables", "nftables", "conntrack", "ethtool", "socat", "apparmor"),
    *("haproxy", "keepalived"),  # for several control planes
)
EXCLUDED = ("doc", "info", "locale", "man")
"""Folders of /usr/share that machines do not need."""

ROOT_FORMAT = 2
"""Increase this with every change of this module that changes the Debian root."""

ALONE = (
    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"),
    *("--kill-child", "--mount-proc"),
)
"""Command prefix that gives a program its own mount and PID namespaces.

The program and its processes end with this process, even where this process is killed.
"""

OWN = Path(__file__).with_name("machine")
"""The directory with the project's own files for an image."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

ENABLED = {
    "multi-user.target": ("systemd-networkd.service",),
    "sockets.target": ("systemd-networkd.socket",),
    "network-online.target": ("systemd-networkd-wait-online.service",),
    "timers.target": ("catch-up-clock.timer",),
}

MASKED_UNITS = (
    # Maintenance jobs that only a machine with a life of years needs.
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service"),
    # This unit compiles a hundred profiles of programs that are not installed, which takes a
    # quarter of an emulated boot. containerd loads its own profile by itself.
    "apparmor.service",
    # Nobody logs in at a machine's console, and cloud-init provides the SSH host keys.
    *("getty.target", "systemd-ask-password-console.path", "systemd-ask-password-wall.path"),
    *("cloud-init-hotplugd.socket", "sshd-keygen.service"),
    # Hardware and file systems that a machine lacks, or that the programs that use them mount.
    *("systemd-pstore.service", "systemd-tpm2-setup.service", "systemd-tpm2-setup-early.service"),
    *("systemd-pcrmachine.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service"),
    *("systemd-pcrextend.socket", "systemd-pcrlock.socket", "systemd-hibernate-clear.service"),
    *("systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "sys-kernel-config.mount"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount"),
    *("dev-hugepages.mount", "run-lock.mount", "tmp.mount"),
    *("modprobe@configfs.service", "modprobe@drm.service", "modprobe@efi_pstore.service"),
    *("modprobe@fuse.service",),
    # The packages enable these units. A machine that needs the programs gets units from its plan.
    *("haproxy.service", "keepalived.service", "docker.service", "docker.socket"),
    # The build of the image has done the work of these units.
    *("ldconfig.service", "systemd-hwdb-update.service", "systemd-journal-catalog-update.service"),
    *("systemd-firstboot.service", "systemd-sysusers.service", "systemd-update-done.service"),
    # A node must not swap; its plan would mask this target anyway.
    "swap.target",
    # Interfaces that no program on a machine calls.
    *("systemd-creds.socket", "systemd-sysext.socket", "systemd-initctl.socket"),
    *("systemd-hostnamed.socket",),
)
MASKED_GENERATORS = (
    *("systemd-getty-generator", "systemd-gpt-auto-generator", "systemd-rc-local-generator"),
    *("systemd-hibernate-resume-generator", "systemd-ssh-generator", "systemd-sysv-generator"),
    *("systemd-system-update-generator", "systemd-tpm2-generator"),
)


def beside(packages: Iterable[str]) -> tuple[str, ...]:
    """The packages that are not part of every image, sorted."""
    return tuple(sorted(set(packages) - set(PACKAGES)))


def root_key(more: tuple[str, ...] = ()) -> str:
    """The cache key of the Debian root with these additional packages."""
    return digest_of(
        ["debian-root", ROOT_FORMAT, SUITE, (*PACKAGES, *more), EXCLUDED, architecture()]
    )


def debian_root(cache: Cache, progress: Progress, logs: Path, packages: Iterable[str] = ()) -> Path:
    """The tar archive of a Debian root, from the cache or made by mmdebstrap.

    mmdebstrap chooses the Debian mirror. ``packages`` are additional packages. Raises a Problem
    where this process is not root, the disk is full or mmdebstrap fails.
    """
    more = beside(packages)
    if os.geteuid() != 0:
        raise Problem("building the base image needs root", "run the same command with sudo")
    key, name = root_key(more), "root.tar"
    with cache.lock(f"root-{key}", lambda: progress.say("another run fetches Debian; waiting")):
        receipt = intact(cache, key, "the Debian root", progress)
        if receipt is None:
            cache.room(2500, "the Debian root")
            with cache.work() as scratch, full_disk_told(cache.root):
                with progress.task(f"making a Debian {SUITE} root (mmdebstrap)") as task:
                    _mmdebstrap(more, scratch, scratch / name, task, logs / "debian-root.log")
                digest = cache.add(scratch / name)
            source = f"Debian {SUITE}, {len(PACKAGES) + len(more) + 1} packages and what they need"
            receipt = record(cache, Receipt(key, {name: digest}, "built", source))
    return cache.blob(receipt.files[name])


def _mmdebstrap(more: tuple[str, ...], scratch: Path, archive: Path, task: Task, log: Path) -> None:
    packages = [*PACKAGES, *more, f"linux-image-cloud-{architecture()}"]
    keyring = [f"--keyring={KEYRING}"] if KEYRING.is_file() else []
    run(
        [*ALONE, "mmdebstrap", "--variant=minbase", "--mode=root"]
        + ["--dpkgopt=force-unsafe-io"]
        + [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in EXCLUDED]
        + [*keyring, f"--include={','.join(packages)}", SUITE, str(archive)],
        log=log,
        task=task,
        # INITRD=No: otherwise the kernel's package makes an initrd that no machine uses.
        environment={
            "TMPDIR": str(scratch),
            "DEBIAN_FRONTEND": "noninteractive",
            "INITRD": "No",
        },
        timeout=3600,
        failure="mmdebstrap could not make the Debian root",
    )


def machine_root(
    cache: Cache, root: Path, progress: Progress, *, logs: Path, packages: Iterable[str] = ()
) -> None:
    """Fill an empty directory with the file system of a built image, without artifacts.

    Raises a Problem as ``debian_root`` does.
    """
    archive = debian_root(cache, progress, logs, packages)
    unpacked(archive, root, logs / "debian-root.log")


def unpacked(archive: Path, root: Path, log: Path) -> None:
    """Unpack the archive into an empty directory and adapt the root to machines."""
    run(
        ["tar", "--extract", "--file", archive, "--directory", root, "--numeric-owner"]
        + ["--same-permissions", "--xattrs", "--xattrs-include=*"],
        log=log,
        timeout=600,
        failure="the Debian root could not be unpacked",
    )
    _settle(root)


def _settle(root: Path) -> None:
    """Adapt a Debian root: remove its identity, add the project's files, mask unneeded units."""
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    for path in (root / "etc/update-motd.d").iterdir():
        path.unlink()  # each login would run this script
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").unlink(missing_ok=True)
    shutil.copytree(OWN / "root", root, dirs_exist_ok=True)
    for path in (root / "etc/systemd", root / "etc/cloud"):
        _give_to_root(path)
    units = root / "etc/systemd/system"
    for target, wanted in ENABLED.items():
        (units / f"{target}.wants").mkdir(exist_ok=True)
        for unit in wanted:
            _link(units / f"{target}.wants" / unit, f"/usr/lib/systemd/system/{unit}")
    for unit in MASKED_UNITS:
        _link(units / unit, "/dev/null")
    for generator in MASKED_GENERATORS:
        _link(root / "etc/systemd/system-generators" / generator, "/dev/null")
    # systemd compares these with /usr to find out whether a system was updated offline.
    for path in (root / "etc/.updated", root / "var/.updated"):
        path.touch()
        os.utime(path, ns=(0, (root / "usr").stat().st_mtime_ns))


def _give_to_root(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 0, 0, follow_symlinks=False)


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
