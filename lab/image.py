"""The base image: what every machine's disk is a copy-on-write overlay of.

Two ways to have one. *Built*: a Debian root by mmdebstrap, made quick to boot under emulation, with
the node's content-addressed artifact store inside; it is booted directly with its kernel and a tiny
initrd. *Official*: a distribution's cloud image, verified and used as it is; it boots by its own
loader.

Both are kept in the cache under the digest of what went into them. The Debian root is kept apart
from the image, so that another artifact costs seconds.
"""

import errno
import json
import lzma
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Protocol

from lab.cache import Cache, Receipt, digest_of, sha256_of
from lab.download import fetch
from lab.gobuild import architecture
from lab.libvirt import Libvirt, virsh
from lab.paths import PROJECT
from lab.problem import Problem, full_disk_told
from lab.process import run
from lab.progress import Progress, Task
from spec.artifacts import artifact_row, image_reference

SUITE = "trixie"
PACKAGES = (
    # systemd-networkd reads what cloud-init writes; netplan would only stand between them.
    *("systemd", "systemd-sysv", "systemd-resolved", "dbus", "udev", "cloud-init"),
    *("openssh-server", "ca-certificates", "curl", "openssl", "procps", "sudo", "kmod"),
    "e2fsprogs",  # grows the file system to the disk's size
    *("iproute2", "iptables", "nftables", "conntrack", "ethtool", "socat", "apparmor"),
    *("haproxy", "keepalived"),  # for several control planes
)
EXCLUDED = ("doc", "info", "locale", "man")
"""Folders of /usr/share that no machine reads."""

FORMAT = 3
"""To be raised with every change of this module that changes an image."""

ROOT_FORMAT = 2
"""To be raised with every change of this module that changes the Debian root."""

SIZE = "4G"
"""The least disk a machine can have; overlays are larger and grow at the first boot."""

ALONE = (
    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"),
    *("--kill-child", "--mount-proc"),
)
"""Before a program: mounts and processes of its own, which end with this one, killed or not."""

OWN = Path(__file__).with_name("machine")
STORE = Path("var/lib/hardway/store")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

ENABLED = {
    "multi-user.target": ("systemd-networkd.service",),
    "sockets.target": ("systemd-networkd.socket",),
    "network-online.target": ("systemd-networkd-wait-online.service",),
    "timers.target": ("catch-up-clock.timer",),
}

MASKED_UNITS = (
    # Jobs for a machine that lives for years.
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service"),
    # It compiles a hundred profiles of programs that are not here, a quarter of an emulated boot;
    # containerd loads its own profile by itself.
    "apparmor.service",
    # Nobody sits at a machine, and cloud-init gives the host keys.
    *("getty.target", "systemd-ask-password-console.path", "systemd-ask-password-wall.path"),
    *("cloud-init-hotplugd.socket", "sshd-keygen.service"),
    # Hardware and file systems that it does not have, or that their users mount themselves.
    *("systemd-pstore.service", "systemd-tpm2-setup.service", "systemd-tpm2-setup-early.service"),
    *("systemd-pcrmachine.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service"),
    *("systemd-pcrextend.socket", "systemd-pcrlock.socket", "systemd-hibernate-clear.service"),
    *("systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "sys-kernel-config.mount"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount"),
    *("dev-hugepages.mount", "run-lock.mount", "tmp.mount"),
    *("modprobe@configfs.service", "modprobe@drm.service", "modprobe@efi_pstore.service"),
    *("modprobe@fuse.service",),
    # Enabled by their packages; a machine that has use for them has units of its own (plan).
    *("haproxy.service", "keepalived.service", "docker.service", "docker.socket"),
    # Done when the image was built.
    *("ldconfig.service", "systemd-hwdb-update.service", "systemd-journal-catalog-update.service"),
    *("systemd-firstboot.service", "systemd-sysusers.service", "systemd-update-done.service"),
    # A node must not swap; its own plan would mask it.
    "swap.target",
    # Interfaces that nobody calls.
    *("systemd-creds.socket", "systemd-sysext.socket", "systemd-initctl.socket"),
    *("systemd-hostnamed.socket",),
)
MASKED_GENERATORS = (
    *("systemd-getty-generator", "systemd-gpt-auto-generator", "systemd-rc-local-generator"),
    *("systemd-hibernate-resume-generator", "systemd-ssh-generator", "systemd-sysv-generator"),
    *("systemd-system-update-generator", "systemd-tpm2-generator"),
)


class Stored(Protocol):
    """An artifact of the cache's store (``lab.artifacts.StoredArtifact``)."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def path(self) -> Path: ...


@dataclass(frozen=True)
class NodeArtifact:
    """A file of the node's store."""

    name: str
    version: str
    digest: str
    path: Path
    """Where its bytes are on this host."""
    executable: bool

    @property
    def image(self) -> bool:
        """Whether it is a container image's archive."""
        return artifact_row(self.name).image is not None


@dataclass(frozen=True)
class BaseImage:
    """A disk image in the cache, and what to boot it with."""

    digest: str
    """The sha256 of the disk's bytes."""
    disk: Path
    format: str
    kernel: Path | None
    """For direct boot with ``root=/dev/vda rw``; none where the image brings its own loader."""
    initrd: Path | None


@dataclass(frozen=True)
class Placed:
    """An image in a libvirt storage pool."""

    volume: str
    kernel: Path | None
    initrd: Path | None


def node_store(stored: Iterable[Stored]) -> tuple[NodeArtifact, ...]:
    """The artifacts as they lie in a node's store; a program is what the cache has executable."""
    return tuple(
        NodeArtifact(
            item.name,
            item.version,
            item.digest,
            item.path,
            bool(item.path.stat().st_mode & 0o111),
        )
        for item in stored
    )


# -- built ---------------------------------------------------------------------------------------


def base_image(
    cache: Cache,
    artifacts: Iterable[NodeArtifact],
    progress: Progress,
    *,
    logs: Path,
    packages: Iterable[str] = (),
) -> BaseImage:
    """The built image with these artifacts inside, from the cache if it is there and intact.

    ``packages`` are Debian's that machines need beside those that every image has.

    Safe when several runs ask at once and when one is killed. Raises a Problem where this is not
    root, the disk is full, an artifact has other bytes than its digest, or a program fails.
    """
    wanted = sorted(artifacts, key=lambda item: (item.name, item.version, item.digest))
    more = _beside(packages)
    key = digest_of(
        [
            *("image", FORMAT, _root_key(more), SIZE, ENABLED, MASKED_UNITS, MASKED_GENERATORS),
            [
                (str(path.relative_to(OWN)), sha256_of(path))
                for path in sorted(OWN.rglob("*"))
                if path.is_file()
            ],
            [(item.name, item.version, item.digest, item.executable) for item in wanted],
        ]
    )
    with cache.lock(f"image-{key}", lambda: progress.say("another run builds the image; waiting")):
        receipt = _intact(cache, key, "the base image", progress)
        if receipt is None:
            root = debian_root(cache, progress, logs, more)
            cache.room(5000, "the base image")
            with progress.task("building the base image") as task, full_disk_told(cache.root):
                receipt = _build(cache, key, root, wanted, task, logs / "image.log")
    files = {name: cache.blob(digest) for name, digest in receipt.files.items()}
    disk = receipt.files["disk"]
    return BaseImage(disk, files["disk"], "qcow2", files["kernel"], files["initrd"])


def _intact(cache: Cache, key: str, title: str, progress: Progress) -> Receipt | None:
    """What the cache has for a key, if it is what was recorded.

    Every byte is read only where a file was touched since the record: the images are gigabytes.
    """
    receipt = cache.receipt(key)
    if receipt is None or receipt.facts.get("stamp") == _stamp(cache, receipt):
        return receipt
    receipt = cache.usable(key, title, progress.say)
    return receipt and _record(cache, receipt)


def _stamp(cache: Cache, receipt: Receipt) -> str:
    marks = []
    for name, digest in sorted(receipt.files.items()):
        try:
            found = cache.blob(digest).stat()
        except OSError:
            return "missing"
        marks.append(f"{name} {found.st_size} {found.st_mtime_ns} {found.st_ino}")
    return "; ".join(marks)


def _record(cache: Cache, receipt: Receipt) -> Receipt:
    stamped = Receipt(**{**vars(receipt), "facts": {"stamp": _stamp(cache, receipt)}})
    cache.record(stamped)
    return stamped


def _beside(packages: Iterable[str]) -> tuple[str, ...]:
    """Those that not every image has."""
    return tuple(sorted(set(packages) - set(PACKAGES)))


def _root_key(more: tuple[str, ...] = ()) -> str:
    return digest_of(
        ["debian-root", ROOT_FORMAT, SUITE, (*PACKAGES, *more), EXCLUDED, architecture()]
    )


def debian_root(cache: Cache, progress: Progress, logs: Path, packages: Iterable[str] = ()) -> Path:
    """The archive of a Debian root, by mmdebstrap from its own choice of mirror.

    ``packages`` are those beside the ones that every image has. Raises a Problem as ``base_image``
    does.
    """
    more = _beside(packages)
    if os.geteuid() != 0:
        raise Problem("building the base image needs root", "run the same command with sudo")
    key, name = _root_key(more), "root.tar"
    with cache.lock(f"root-{key}", lambda: progress.say("another run fetches Debian; waiting")):
        receipt = _intact(cache, key, "the Debian root", progress)
        if receipt is None:
            cache.room(2500, "the Debian root")
            with cache.work() as scratch, full_disk_told(cache.root):
                with progress.task(f"making a Debian {SUITE} root (mmdebstrap)") as task:
                    _mmdebstrap(more, scratch, scratch / name, task, logs / "debian-root.log")
                digest = cache.add(scratch / name)
            source = f"Debian {SUITE}, {len(PACKAGES) + len(more) + 1} packages and what they need"
            receipt = _record(cache, Receipt(key, {name: digest}, "built", source))
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
        # INITRD=No: the kernel's package would make an initrd that nobody boots.
        environment={
            "TMPDIR": str(scratch),
            "DEBIAN_FRONTEND": "noninteractive",
            "INITRD": "No",
        },
        timeout=3600,
        failure="mmdebstrap could not make the Debian root",
    )


def _build(
    cache: Cache, key: str, archive: Path, artifacts: list[NodeArtifact], task: Task, log: Path
) -> Receipt:
    with cache.work() as scratch:
        root, raw, disk = scratch / "root", scratch / "raw", scratch / "disk"
        root.mkdir()
        task.note("unpacking the Debian root")
        _unpack(archive, root, log)
        kernel = _kernel(root, scratch)
        initrd = _initrd(root, scratch)
        task.note(f"putting {len(artifacts)} artifacts in")
        _fill_store(root / STORE, artifacts)
        _load_images(root, scratch, artifacts, log)
        task.note("making the disk")
        for words in (
            ["mkfs.ext4", "-q", "-F", "-L", "hardway", "-E", "lazy_itable_init=0", "-d", root]
            + [raw, SIZE],
            ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, disk],
        ):
            run(words, log=log, timeout=1200, failure="the disk could not be made")
        raw.unlink()
        files = {
            name: cache.add(path)
            for name, path in (("disk", disk), ("kernel", kernel), ("initrd", initrd))
        }
    source = f"Debian {SUITE} with {len(artifacts)} artifacts"
    return _record(cache, Receipt(key, files, "built", source))


def machine_root(
    cache: Cache, root: Path, progress: Progress, *, logs: Path, packages: Iterable[str] = ()
) -> None:
    """Fill an empty directory with what a built image's file system holds, but no artifacts.

    Raises a Problem as ``base_image`` does.
    """
    archive = debian_root(cache, progress, logs, packages)
    _unpack(archive, root, logs / "debian-root.log")


def _unpack(archive: Path, root: Path, log: Path) -> None:
    run(
        ["tar", "--extract", "--file", archive, "--directory", root, "--numeric-owner"]
        + ["--same-permissions", "--xattrs", "--xattrs-include=*"],
        log=log,
        timeout=600,
        failure="the Debian root could not be unpacked",
    )
    _settle(root)


def _settle(root: Path) -> None:
    """Make the Debian root a machine's: identity removed, our files in, what nobody needs off."""
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    for path in (root / "etc/update-motd.d").iterdir():
        path.unlink()  # each login would run it
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


def _fill_store(store: Path, artifacts: list[NodeArtifact]) -> None:
    folder, verified = store / "sha256", store / "verified"
    folder.mkdir(parents=True)
    verified.mkdir()
    for item in artifacts:
        if sha256_of(item.path) != item.digest:
            raise Problem(
                f"the artifact {item.name} {item.version} is damaged ({item.path})",
                "run ./hardway artifacts verify, which replaces it",
            )
        target, mode = folder / item.digest, 0o555 if item.executable else 0o444
        if target.exists():
            continue
        found = item.path.stat()
        as_it_is = (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (mode, 0, 0)
        if not (as_it_is and _linked(item.path, target)):
            shutil.copyfile(item.path, target)
            target.chmod(mode)
        # What plan/scripts/prelude.sh notes of a file that it verified: size and time. A whole
        # second, since not every mkfs.ext4 takes fractions over.
        second = int(found.st_mtime)
        os.utime(target, (second, second))
        (verified / item.digest).write_text(f"{found.st_size} {second}.000000000\n")
    rows = [{"name": a.name, "version": a.version, "digest": a.digest} for a in artifacts]
    (store / "index.json").write_text(json.dumps(rows, indent=1) + "\n")


def _load_images(root: Path, scratch: Path, artifacts: list[NodeArtifact], log: Path) -> None:
    """Unpack the container images: an emulated machine takes half a minute for what costs a second.

    Where the machines run Docker this has no effect; they load the archives themselves.
    """
    programs = {item.name: item.path for item in artifacts if item.executable}
    images = [item for item in artifacts if item.image]
    if not ({"containerd", "ctr"} <= programs.keys() and images):
        return
    place = scratch / "containerd"
    place.mkdir()
    (place / "images").write_text(
        "".join(
            f"{image_reference(one.name, one.version)} {one.digest} {one.path}\n" for one in images
        )
    )
    run(
        [*ALONE, "sh", str(OWN / "load-images.sh"), str(root)]
        + [str(place), str(programs["containerd"]), str(programs["ctr"])]
        + [f"linux/{architecture()}"],
        log=log,
        timeout=300,
        failure="the container images could not be unpacked",
    )


# -- kernel and initrd ---------------------------------------------------------------------------


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise Problem(
            f"the Debian root has {len(found)} files {pattern} where one is expected",
            "report it with the versions of the packages: the recipe does not fit this Debian",
        )
    return found[0]


def _kernel(root: Path, scratch: Path) -> Path:
    kernel = scratch / "kernel"
    shutil.copyfile(_only(root / "boot", "vmlinuz-*"), kernel)
    return kernel


def _initrd(root: Path, scratch: Path) -> Path:
    """A RAM disk with the disk's driver, klibc's shell and five of its programs, and ``init``."""
    module = _only(root / "usr/lib/modules", "*/kernel/drivers/block/virtio_blk.ko*")
    driver = module.read_bytes()
    if module.suffix == ".xz":
        driver = lzma.decompress(driver)
    klibc = root / "usr/lib/klibc/bin"
    library = _only(root / "usr/lib", "klibc-*.so")
    files = {
        "init": (OWN / "init").read_bytes(),
        "virtio_blk.ko": driver,
        f"usr/lib/{library.name}": library.read_bytes(),
    }
    for name in ("sh", "insmod", "mount", "run-init", "sleep"):
        files[f"bin/{name}"] = (klibc / name).read_bytes()
    initrd = scratch / "initrd"
    initrd.write_bytes(_cpio(("bin", "dev", "root", "usr", "usr/lib"), files))
    return initrd


def _cpio(folders: Iterable[str], files: dict[str, bytes]) -> bytes:
    """An archive in the format "newc" (Linux, Documentation/driver-api/early-userspace)."""
    archive = bytearray()

    def put(name: str, mode: int, content: bytes = b"") -> None:
        number = len(archive) + 1
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        archive.extend(b"070701" + b"".join(b"%08X" % field for field in fields))
        for part in (name.encode() + b"\0", content):
            archive.extend(part)
            archive.extend(bytes(-len(archive) % 4))

    for name in folders:
        put(name, 0o040755)
    for name, content in files.items():
        put(name, 0o100755, content)
    put("TRAILER!!!", 0)
    return bytes(archive)


# -- official ------------------------------------------------------------------------------------


def official_image(
    cache: Cache,
    source: str,
    progress: Progress,
    *,
    sha256: str | None = None,
    sha512: str | None = None,
) -> BaseImage:
    """A distribution's cloud image, from a URL or a file, once its digest is right.

    A path that is not absolute begins at the checkout, as the stack's file does that names it.

    Raises a Problem where the bytes are others than the digest says.
    """
    if not (sha256 or sha512):
        raise Problem(f"the image {source} has no digest", "give its sha256 or sha512 as well")
    key = digest_of(["official-image", sha256, sha512])
    with cache.lock(f"image-{key}", lambda: progress.say("another run fetches the image; waiting")):
        receipt = _intact(cache, key, "the official image", progress)
        if receipt is None:
            cache.room(2000, "the official image")
            # Beside the cache's blobs and under the digest: a download that was cut goes on.
            target = cache.root / "downloads" / key
            with progress.task(f"taking the image {source}") as task, full_disk_told(cache.root):
                _take(source, target, sha256, sha512, task)
                digest = cache.add(target)
            receipt = _record(cache, Receipt(key, {"disk": digest}, "official", source))
    disk = cache.blob(receipt.files["disk"])
    return BaseImage(receipt.files["disk"], disk, _format(disk), None, None)


def _take(source: str, target: Path, sha256: str | None, sha512: str | None, task: Task) -> None:
    if "://" in source:
        fetch(source, target, sha256=sha256, sha512=sha512, task=task)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    place = PROJECT / source
    try:
        shutil.copyfile(place, target)
    except FileNotFoundError as error:
        raise Problem(f"there is no image {place}", "give the path of the file") from error
    except IsADirectoryError as error:
        raise Problem(f"{place} is a directory", "give the path of an image file in it") from error
    with target.open("rb") as stream:
        found = {"sha256": file_digest(stream, "sha256").hexdigest()}
        stream.seek(0)
        found["sha512"] = file_digest(stream, "sha512").hexdigest()
    for name, digest in (("sha256", sha256), ("sha512", sha512)):
        if digest and digest.lower() != found[name]:
            target.unlink()
            raise Problem(
                f"the image {source} has the {name} {found[name]}, not {digest}",
                "fetch it again, or give the digest that its maker publishes",
            )


def _format(disk: Path) -> str:
    with disk.open("rb") as stream:
        return "qcow2" if stream.read(4) == QCOW2 else "raw"


# -- in a storage pool ---------------------------------------------------------------------------

QCOW2 = b"QFI\xfb"
"""The first bytes of a qcow2 file (QEMU, docs/interop/qcow2.txt)."""


def place(libvirt: Libvirt, image: BaseImage) -> Placed:
    """Put an image into the lab's storage pool, named by its digest; nothing is done twice.

    A private libvirt gets hard links to the cache's blobs where that is one file system. The
    system's gets copies, since it changes the owner of the files that it uses.
    """
    name = f"base-{image.digest[:16]}"
    pairs = [(image.disk, f"{name}.{image.format}")]
    if image.kernel and image.initrd:
        pairs += [(image.kernel, f"{name}.kernel"), (image.initrd, f"{name}.initrd")]
    targets = [libvirt.disks / target for _, target in pairs]
    try:
        fresh = [_put(source, libvirt.disks / target, libvirt.private) for source, target in pairs]
    except PermissionError as error:
        raise Problem(
            f"{libvirt.disks} cannot be written to", "run the same command with sudo"
        ) from error
    if any(fresh):
        virsh(libvirt, "pool-refresh", libvirt.pool)
    volume, *direct = targets
    kernel, initrd = direct or (None, None)
    return Placed(volume.name, kernel, initrd)


def _put(source: Path, target: Path, link: bool) -> bool:
    """Make ``target`` hold the bytes of ``source``; whether anything had to be done."""
    wanted = source.stat()
    try:
        found = target.stat()
        if (found.st_size, found.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns):
            return False
    except FileNotFoundError:
        pass
    # In a folder of its own beside the pool, so that no half-written volume is ever listed.
    with tempfile.TemporaryDirectory(prefix=".placing-", dir=target.parent.parent) as scratch:
        made = Path(scratch) / target.name
        if not (link and _linked(source, made)):
            with full_disk_told(target.parent):
                shutil.copyfile(source, made)
            made.chmod(0o444)
            os.utime(made, ns=(wanted.st_atime_ns, wanted.st_mtime_ns))
        made.rename(target)
    return True


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        return False
    return True


def remove_unused(libvirt: Libvirt, keep: Placed) -> list[str]:
    """Remove the images from the pool that are not ``keep`` and that no machine stands on."""
    files = [path for path in libvirt.disks.iterdir() if path.is_file()]
    used = {Path(keep.volume).stem} | {Path(_backing_file(path)).stem for path in files}
    removed = []
    for path in files:
        if path.name.startswith("base-") and path.stem not in used:
            path.unlink()
            removed.append(path.name)
    if removed:
        virsh(libvirt, "pool-refresh", libvirt.pool)
    return sorted(removed)


def _backing_file(disk: Path) -> str:
    """The name of the file that a qcow2 file is an overlay of, from its header; else ``""``."""
    with disk.open("rb") as stream:
        header = stream.read(20)
        if header[:4] != QCOW2 or len(header) < 20:
            return ""
        offset, length = struct.unpack(">QI", header[8:20])
        stream.seek(offset)
        return stream.read(length).decode(errors="replace") if offset else ""
