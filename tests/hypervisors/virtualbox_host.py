"""A host with VirtualBox: the real VBoxManage of Debian, in a root and in namespaces of its own.

What needs the kernel's module has a stand-in there. ``VBoxNetAdpCtl add`` makes a bridge, which
VirtualBox takes for an adapter of its own because of its name. Machines run in VirtualBox's
driverless mode, which interprets the processor and cannot attach a machine to a host-only network:
the first adapter of a machine is without a network while it runs.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.cache import Cache, Receipt, digest_of
from lab.debian_root import ALONE, EXCLUDED, KEYRING
from lab.packages import missing
from lab.problem import Problem
from lab.process import run
from lab.progress import PlainProgress
from lab.stamped import intact, record
from tests.engine.stack import eventually

FORMAT = 1
"""Increase this with every change of the root."""

PACKAGES = ("virtualbox", "virtualbox-qt", "xvfb", "iproute2")
SUITE, COMPONENTS = "sid", "main,contrib"

STAND_IN = """\
Package: no-vboxdrv
Version: 1
Architecture: all
Maintainer: tests <root@localhost>
Provides: virtualbox-modules
Description: stands for the kernel's module
"""

HOOK = """\
set -eu
printf '#!/bin/sh\\nexit 101\\n' >"$1/usr/sbin/policy-rc.d"
chmod +x "$1/usr/sbin/policy-rc.d"
cp "$(dirname "$0")/no-vboxdrv.deb" "$1/"
chroot "$1" apt-get install -y --no-install-recommends /no-vboxdrv.deb PACKAGES
"""

HEADLESS = """\
#!/bin/bash
while [ $# -gt 0 ]; do
    if [ "$1" = --startvm ]; then machine=$2; fi
    shift
done
exec /usr/lib/virtualbox/VirtualBoxVM --startvm "$machine" --execute-all-in-iem --driverless \\
    --no-startvm-errormsgbox
"""

ADAPTERS = """\
#!/bin/bash
case $* in
add)
    number=0
    while ip link show "vboxnet$number" >/dev/null 2>&1; do number=$((number + 1)); done
    ip link add "vboxnet$number" type bridge && printf 'vboxnet%s' "$number"
    ;;
*" remove") ip link delete "$1" ;;
*) exec /usr/lib/virtualbox/VBoxNetAdpCtl.real "$@" ;;
esac
"""

INIT = """\
set -eu
root=$1 shared=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$root/dev"
mkdir "$root/dev/shm"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
mount -t proc proc "$root/proc"
mkdir -p "$root$shared"
mount --bind "$shared" "$root$shared"
mkdir -p -m 700 "$root/run/xdg"
ip link set lo up
ip link add uplink type bridge
ip address add 198.51.100.7/24 dev uplink
ip link set uplink up
exec chroot "$root" Xvfb :7 -screen 0 640x480x24 -nolisten tcp
"""

MANAGE = """\
#!/bin/bash
# The driverless mode cannot attach a machine to a host-only network.
enter() {
    nsenter --target INIT --mount --pid --net --uts --ipc --root --wdns=/ -- \\
        /usr/bin/env -i HOME=/root LOGNAME=root PATH=/usr/sbin:/usr/bin:/sbin:/bin DISPLAY=:7 \\
        XDG_RUNTIME_DIR=/run/xdg "VBOX_USER_HOME=$VBOX_USER_HOME" \\
        "VBOX_IPC_SOCKETID=$(basename "$VBOX_USER_HOME")" /usr/lib/virtualbox/VBoxManage "$@"
}
case $1 in
startvm) enter modifyvm "$2" --nic1=null 2>/dev/null ;;
showvminfo)
    answer=$(enter "$@") || exit
    adapter=$(enter getextradata "$2" test/adapter | sed -n 's/^Value: //p')
    sed "s/^nic1=\\"null\\"/hostonlyadapter1=\\"$adapter\\"\\nnic1=\\"hostonly\\"/" <<<"$answer"
    exit
    ;;
modifyvm)
    for option in "$@"; do
        case $option in --host-only-adapter1=*)
            enter setextradata "$2" test/adapter "${option#*=}" >/dev/null || exit
            ;;
        esac
    done
    ;;
esac
enter "$@"
"""


def archive(cache: Cache, logs: Path) -> Path:
    """The root of Debian with VirtualBox, as a tar archive; made once. Raises a Problem."""
    key = digest_of(["virtualbox-root", FORMAT, SUITE, COMPONENTS, PACKAGES, STAND_IN, HOOK])
    progress = PlainProgress()
    with cache.lock(f"virtualbox-{key}"):
        receipt = intact(cache, key, "the root with VirtualBox", progress)
        if receipt is None:
            cache.room(4000, "a root with VirtualBox")
            with cache.work() as scratch:
                _bootstrap(scratch, logs)
                digest = cache.add(scratch / "root.tar")
            source = f"Debian {SUITE}, {', '.join(PACKAGES)}"
            receipt = record(cache, Receipt(key, {"root.tar": digest}, "built", source))
    return cache.blob(receipt.files["root.tar"])


def _bootstrap(scratch: Path, logs: Path) -> None:
    package = scratch / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(STAND_IN)
    hook = scratch / "hook"
    hook.write_text(f"#!/bin/sh\n{HOOK.replace('PACKAGES', ' '.join(PACKAGES))}")
    hook.chmod(0o755)
    log, failure = logs / "virtualbox-root.log", "Debian with VirtualBox cannot be had"
    run(
        ["dpkg-deb", "--root-owner-group", "-b", package, scratch / "no-vboxdrv.deb"],
        log=log,
        timeout=60,
        failure=failure,
    )
    run(
        [*ALONE, "mmdebstrap", "--variant=minbase", "--mode=root", f"--components={COMPONENTS}"]
        # A mirror of Debian's unstable suite may lag behind for longer than its lists are valid.
        + ['--aptopt=Acquire::Check-Valid-Until "false"', "--dpkgopt=force-unsafe-io"]
        + [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in EXCLUDED]
        + ([f"--keyring={KEYRING}"] if KEYRING.is_file() else [])
        + [f"--customize-hook={hook}", SUITE, scratch / "root.tar"],
        log=log,
        environment={"TMPDIR": str(scratch), "DEBIAN_FRONTEND": "noninteractive"},
        timeout=1800,
        failure=failure,
    )


class VirtualBoxHost:
    """A host with VirtualBox; ``path`` goes before PATH, so that its programs are called."""

    def __init__(self, root: Path, shared: Path, init: int) -> None:
        self.root = root
        self.shared = shared
        """The only folder that this computer and the host have in common."""
        self.init = init
        self.path = shared / "bin"
        self.path.mkdir()
        self._program("VBoxManage", MANAGE)
        self._program("ip", '#!/bin/sh\nexec nsenter --target INIT --net -- /usr/sbin/ip "$@"\n')

    def _program(self, name: str, text: str) -> None:
        file = self.path / name
        file.write_text(text.replace("INIT", str(self.init)))
        file.chmod(0o755)

    def home(self, name: str) -> dict[str, str]:
        """The environment of a user of this host; users have no machine in common."""
        home = self.shared / name
        environment = {
            "PATH": f"{self.path}:{os.environ['PATH']}",
            "VBOX_USER_HOME": os.fspath(home),
        }
        if not home.exists():
            home.mkdir(mode=0o700)
            for arguments in (
                ("setproperty", "machinefolder", os.fspath(home / "machines")),
                # Without the module the processor is interpreted, and nobody reads a message.
                ("setextradata", "global", "VBoxInternal/HM/FallbackToIEM", "1"),
                ("setextradata", "global", "GUI/SuppressMessages", "all"),
            ):
                self.manage(environment, *arguments)
        return environment

    def manage(self, environment: dict[str, str], *arguments: str) -> str:
        """What a person's own VBoxManage prints."""
        return subprocess.run(
            [self.path / "VBoxManage", *arguments],
            env={**os.environ, **environment},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def allows(self, adapter: str, address: str) -> bool:
        """Whether VirtualBox gives an adapter this address, which networks.conf decides."""
        done = subprocess.run(
            [
                "nsenter",
                "--target",
                str(self.init),
                "--mount",
                "--pid",
                "--net",
                "--root",
                "--wdns=/",
            ]
            + ["/usr/lib/virtualbox/VBoxNetAdpCtl.real", adapter, address]
            + ["netmask", "255.255.255.0"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 or "permission denied" in done.stderr, done.stderr
        return done.returncode == 0

    def processes(self, name: str, environment: dict[str, str]) -> list[int]:
        """The processes with this name that a user of the host has."""
        wanted = f"VBOX_USER_HOME={environment['VBOX_USER_HOME']}".encode()
        pids = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                program = (folder / "cmdline").read_bytes().split(b"\0")[0]
                is_users = wanted in (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if is_users and program.rpartition(b"/")[2] == name.encode():
                pids.append(int(folder.name))
        return pids

    def kill_server(self, environment: dict[str, str]) -> None:
        """Kill the user's VBoxSVC, and wait for its end."""
        pids = self.processes("VBoxSVC", environment)
        assert pids, "no VBoxSVC runs"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        eventually("VBoxSVC is gone", lambda: not self.processes("VBoxSVC", environment))


@contextmanager
def host(archive: Path, folder: Path) -> Iterator[VirtualBoxHost]:
    """A host that ends with this context, with all its processes and mounts."""
    root, shared = folder / "root", folder / "shared"
    for made in (root, shared):
        made.mkdir()
    _unpack(archive, root)
    programs = root / "usr/lib/virtualbox"
    (programs / "VBoxNetAdpCtl").rename(programs / "VBoxNetAdpCtl.real")
    for name, text in (("VBoxHeadless", HEADLESS), ("VBoxNetAdpCtl", ADAPTERS)):
        (programs / name).unlink(missing_ok=True)
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--uts", "--ipc"]
        + ["--fork", "--kill-child", "bash", "-c", INIT, "init", root, shared],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        display = root / "tmp/.X11-unix/X7"
        eventually("the display is there", lambda: display.exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        (init,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield VirtualBoxHost(root, shared, int(init))
    finally:
        process.kill()
        process.wait()
        log.close()
        shutil.rmtree(root, ignore_errors=True)


def _unpack(archive: Path, root: Path) -> None:
    command: Sequence[str | Path] = ["tar", "--extract", "--numeric-owner", "--file", archive]
    subprocess.run([*command, "--directory", root], check=True)


@pytest.fixture(scope="session")
def virtualbox_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualBoxHost]:
    """A host with VirtualBox, or a skip with the reason why there is none."""
    if lacking := missing(["mmdebstrap", "qemu-utils"]):
        pytest.skip(f"no {' and no '.join(lacking)}")
    folder = tmp_path_factory.mktemp("virtualbox")
    try:
        root = archive(Cache(), folder)
    except Problem as problem:
        pytest.skip(str(problem))
    with host(root, folder) as made:
        yield made
