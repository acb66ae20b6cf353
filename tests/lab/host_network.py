"""A network namespace that stands for a host: it leads beyond itself, and knows names there."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.paths import PROJECT
from tests.engine.stack import eventually

BEYOND = "203.0.113.1"
"""What the host reaches (an address for documentation, RFC 5737)."""

STUB = "127.0.0.53"
"""The host's name server, which only the host itself can ask."""

ASK = """
import socket, sys
from probe import dns
with socket.socket(type=socket.SOCK_DGRAM) as asker:
    asker.settimeout(5)
    asker.sendto(dns.query(sys.argv[2], 7), (sys.argv[1], 53))
    print(*dns.read(asker.recv(512), 7).addresses)
"""


def ip(name: str, *arguments: str) -> None:
    subprocess.run(["ip", "-n", name, *arguments], check=True)


def within(name: str, *arguments: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{name}", *arguments]


def made(name: str, during: ExitStack) -> None:
    """Make a network namespace that is deleted at the end."""
    subprocess.run(["ip", "netns", "add", name], check=True)
    during.callback(subprocess.run, ["ip", "netns", "delete", name], check=True)
    ip(name, "link", "set", "lo", "up")


class Running:
    """A program that runs while the context does."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def __enter__(self) -> None:
        self._child = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()


class HostNetwork:
    """The network of a host: a default route, the address ``BEYOND``, and a name server."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.resolv_conf = folder / "resolv.conf"
        """What such a host has as ``/etc/resolv.conf``."""
        self.resolv_conf.write_text(f"nameserver {STUB}\n")

    def make(self, during: ExitStack, names: Mapping[str, str]) -> None:
        """Make it for a time; ``names`` are those that its name server knows."""
        made(self.name, during)
        ip(self.name, "link", "add", "up0", "type", "veth", "peer", "name", "up1")
        for device in ("up0", "up1"):
            ip(self.name, "link", "set", device, "up")
        ip(self.name, "address", "add", f"{BEYOND}/24", "dev", "up0")
        ip(self.name, "route", "add", "default", "via", "203.0.113.254")
        command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"]
        command += [f"--listen-address={STUB}", "--bind-interfaces", "--no-hosts", "--pid-file="]
        command += ["--user=root", *(f"--address=/{key}/{names[key]}" for key in names)]
        during.enter_context(Running(within(self.name, *command)))
        asked = within(self.name, sys.executable, "-c", ASK, STUB, next(iter(names)))
        eventually(
            "the host's stub answers",
            lambda: subprocess.run(asked, cwd=PROJECT, capture_output=True).returncode == 0,
        )

    @contextmanager
    def entered(self) -> Iterator[list[str]]:
        """The words before a command that run it as on this host, with mounts of the host's own."""
        script = f"mount -n --bind {self.resolv_conf} /etc/resolv.conf; echo; exec sleep infinity"
        command = within(self.name, "unshare", "--mount", "sh", "-euc", script)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"\n"
            try:
                yield ["nsenter", f"--target={child.pid}", "--mount", "--net"]
            finally:
                child.kill()
