"""The kernel and the tiny RAM disk that boot a built image; both come from the Debian root."""

import lzma
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from lab.debian_root import OWN
from lab.problem import Problem


def _only(folder: Path, pattern: str) -> Path:
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        raise Problem(
            f"the Debian root has {len(files)} files {pattern} where one is expected",
            "report it with the versions of the packages: the recipe does not fit this Debian",
        )
    return files[0]


def kernel(root: Path, scratch: Path) -> Path:
    """Copy the root's kernel to ``scratch`` and return the path of the copy."""
    copied = scratch / "kernel"
    shutil.copyfile(_only(root / "boot", "vmlinuz-*"), copied)
    return copied


def initrd(root: Path, scratch: Path) -> Path:
    """Make a RAM disk with ``init``, the disk's driver, klibc's shell and four of its programs."""
    return _made(root, scratch, OWN / "init", ["virtio_blk"])


def initrd_for(root: Path, scratch: Path, init: Path, modules: Iterable[str]) -> Path:
    """Make a RAM disk with another ``init``, and these modules with all that they need.

    The file ``modules`` names them, in the order in which they can be loaded.
    """
    names = _with_needed(root, modules)
    listed = "".join(f"{name}\n" for name in names).encode()
    return _made(root, scratch, init, names, {"modules": listed})


def _with_needed(root: Path, modules: Iterable[str]) -> list[str]:
    """The modules and those that they need, which come before them (modules.dep(5))."""
    needs = {}
    for line in _only(root / "usr/lib/modules", "*/modules.dep").read_text().splitlines():
        path, _, needed = line.partition(":")
        needs[_name(path)] = [_name(path) for path in reversed(needed.split())]
    names: dict[str, None] = {}
    for module in modules:
        names |= dict.fromkeys([*needs[module], module])
    return list(names)


def _name(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


def _driver(root: Path, name: str) -> bytes:
    folder, pattern = root / "usr/lib/modules", f"*/kernel/**/{name.replace('_', '[-_]')}.ko*"
    module = _only(folder, pattern)
    driver = module.read_bytes()
    return lzma.decompress(driver) if module.suffix == ".xz" else driver


def _made(
    root: Path,
    scratch: Path,
    init: Path,
    modules: Iterable[str],
    more: Mapping[str, bytes] = MappingProxyType({}),
) -> Path:
    klibc = root / "usr/lib/klibc/bin"
    library = _only(root / "usr/lib", "klibc-*.so")
    files = {
        "init": init.read_bytes(),
        **{f"{name}.ko": _driver(root, name) for name in modules},
        f"usr/lib/{library.name}": library.read_bytes(),
        **more,
    }
    for name in ("sh", "insmod", "mount", "run-init", "sleep"):
        files[f"bin/{name}"] = (klibc / name).read_bytes()
    made = scratch / "initrd"
    made.write_bytes(_cpio(("bin", "dev", "root", "usr", "usr/lib"), files))
    return made


def _cpio(folders: Iterable[str], files: dict[str, bytes]) -> bytes:
    """A cpio archive in the format "newc" (Linux, Documentation/driver-api/early-userspace)."""
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
