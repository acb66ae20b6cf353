"""Servers of tests that run beside each other never meet on a port."""

import subprocess
import sys
from pathlib import Path

from lab.paths import PROJECT
from tests.ports import EACH, free_port

FIVE = "from tests.ports import free_port; print(*(free_port() for _ in range(5)))"


def test_processes_of_the_tests_and_the_kernel_have_ports_of_their_own() -> None:
    own = {free_port() for _ in range(5)}
    output = subprocess.check_output([sys.executable, "-c", FIVE], cwd=PROJECT, text=True)
    others = set(map(int, output.split()))
    assert len(own) == len(others) == 5
    assert not {port // EACH for port in own} & {port // EACH for port in others}
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(own | others) < ephemeral
