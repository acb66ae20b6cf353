"""Pods' networks: two namespaces on one bridge in a third, and real servers in them.

The addresses are for benchmarks of networks (RFC 2544), and this computer's own namespace knows
nothing of them.
"""

import os
import subprocess
from base64 import b64decode, b64encode
from contextlib import ExitStack
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

from certs.authority import issued
from certs.table import SERVER, Authority, Row
from probe.pods import script
from tests.engine.stack import eventually
from tests.plan.running import Keys
from tests.plan.stored import inside, stored

ONE, TWO = (str(IPv4Address(f"198.{net}.0.0") + 1 + os.getpid() % 65533) for net in (18, 19))
"""Unlike those of another run: pods are found by their addresses among all of this computer's."""
NAME, ADDRESS = "kubernetes.default.svc.cluster.local", "192.0.2.1"
MANY = tuple(f"192.0.2.{number}" for number in range(100, 128))
"""So many that the server must write the name of all but the first as a reference to it."""
TLS_PORT, FOREIGN_PORT = 6443, 6444

COREFILE = """\
.:53 {{
    ready :8181
    template IN A alias.test {{
        answer "{{{{ .Name }}}} 5 IN CNAME {name}"
        answer "{name} 5 IN A {address}"
    }}
    template IN A broken.test {{
        rcode SERVFAIL
    }}
    template ANY ANY nobody.test {{
        rcode NXDOMAIN
    }}
    hosts {{
        {many}
        {address} {name}
        192.0.2.7 two.test
        192.0.2.8 two.test
    }}
}}
"""


class PodNetwork:
    """Two pods that reach each other until ``cut``."""

    def __init__(self, folder: Path, keys: Keys, stack: ExitStack) -> None:
        self._stack, self._folder = stack, folder
        self.bridge, self.asking, self.asked = (f"hwp{os.getpid()}{end}" for end in "b12")
        for name in (self.bridge, self.asking, self.asked):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "delete", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", self.bridge, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.bridge, "link", "set", "bridge", "up")
        for name, port, address in ((self.asking, "p1", ONE), (self.asked, "p2", TWO)):
            self._attach(name, port, address)
        self._coredns()
        self._tls(keys, TLS_PORT)
        self._tls(Keys(keys._spec), FOREIGN_PORT)

    def _attach(self, name: str, port: str, address: str) -> None:
        peer = ("type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("-n", self.bridge, "link", "add", port, *peer)
        _ip("-n", self.bridge, "link", "set", port, "master", "bridge", "up")
        _ip("-n", name, "address", "add", f"{address}/15", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")

    def resolve(self, query: bytes) -> bytes:
        """The answer of the first pod's CoreDNS, asked as a pod's machine asks it."""
        command = ["bash", "-euo", "pipefail", "-c", script("resolve"), "probe", "127.0.0.1", "53"]
        done = subprocess.run(
            ["ip", "netns", "exec", self.asking, *command, b64encode(query).decode()],
            capture_output=True,
            check=True,
        )
        return b64decode(done.stdout)

    def start(self, command: list[str], port: int) -> None:
        """A server in the first pod's network, until the end of all tests."""
        self._start(self.asking, command, port)

    def cut(self, cut: bool) -> None:
        """Take the second pod off the bridge, or put it back."""
        state = "down" if cut else "up"
        _ip("-n", self.bridge, "link", "set", "p2", state)

    def _coredns(self) -> None:
        program = inside(stored("coredns"), "coredns", self._folder)
        corefile = self._folder / "Corefile"
        corefile.write_text(
            COREFILE.format(
                name=NAME,
                address=ADDRESS,
                many="\n".join(f"{address} many.test" for address in MANY),
            )
        )
        for name, port in ((self.asking, 8181), (self.asked, 8181)):
            self._start(name, [str(program), "-conf", str(corefile)], port)

    def _tls(self, keys: Keys, port: int) -> None:
        """A TLS server in the second pod's network, with a certificate of these authorities."""
        row = Row(
            name="server",
            node="m2",
            issuer=Authority.KUBERNETES,
            common_name="server",
            uses=SERVER,
            addresses=(IPv4Address(TWO),),
        )
        pair = issued(row, keys.signers[Authority.KUBERNETES], datetime.now(UTC))
        file = self._folder / f"{port}.pem"
        file.write_text(pair.certificate + pair.key)
        self._start(
            self.asked,
            ["openssl", "s_server", "-accept", str(port), "-cert", str(file), "-www", "-quiet"],
            port,
        )

    def _start(self, name: str, command: list[str], port: int) -> None:
        log = self._stack.enter_context((self._folder / f"{name}-{port}.log").open("wb"))
        enter = ["ip", "netns", "exec", name]
        process = subprocess.Popen(
            [*enter, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        ask = f"exec 3<>/dev/tcp/127.0.0.1/{port}"

        def listens() -> bool:
            assert process.poll() is None, Path(log.name).read_text()
            done = subprocess.run([*enter, "bash", "-c", ask], capture_output=True)
            return done.returncode == 0

        eventually("it listens", listens, reason=Path(log.name).read_text)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
