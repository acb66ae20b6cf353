"""The upkeep of machines on VirtualBox, by VBoxManage."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from hypervisors.upkeep import IdentifierError, MachineSize
from hypervisors.virtualbox import machine, networks
from hypervisors.virtualbox.resources import MACHINE, NETWORK
from hypervisors.virtualbox.vboxmanage import Gone, VirtualBoxError, call, machines
from spec.hypervisor import VirtualBox


class VirtualBoxUpkeep:
    """Checks and shuts down the machines of the user's VirtualBox."""

    def __init__(self, where: VirtualBox) -> None:
        del where

    def refuse_taken(self, domains: Iterable[str]) -> None:
        """Raise VirtualBoxError where a machine has the name of one of these already.

        VirtualBox itself would make a second one of the same name.
        """
        known = machines()
        for domain in domains:
            if domain in known.values() or machine.uuid_of(domain) in known:
                raise VirtualBoxError(
                    f"VirtualBox has a machine {domain} already, which is none of this stack's; "
                    "where its state was lost, ./hardway recover gives it a new one, else give the "
                    f"cluster another name, or remove it (VBoxManage unregistervm "
                    f"{domain} --delete-all)"
                )

    def refuse_bridge(self, bridge: str, addresses: Iterable[IPv4Address]) -> None:
        """Refuse nothing: the spec's checks allow no bridge beside such machines."""

    def grow(self, sizes: Mapping[str, int]) -> None:
        """Grow nothing: a disk grows while its machine is off, as its resource changes."""

    def shut_down(self, sizes: Mapping[str, MachineSize], say: Callable[[str], None]) -> None:
        """Have the running machines power off whose size differs from the given one."""
        left = []
        for domain, size in sizes.items():
            with suppress(Gone):
                seen = machine.observed(machine.uuid_of(domain))
                if seen.state == "running" and MachineSize(seen.memory, seen.cpus) != size:
                    left.append(domain)
                    say(f"{domain} shuts down, to get {size.memory} MiB and {size.cpus} CPU")
        end, pressed = time.monotonic() + machine.POWER_BUTTON, None
        while left and (now := time.monotonic()) < end:
            if pressed is None or now - pressed >= machine.AGAIN:
                pressed = now
                for domain in left:
                    with suppress(VirtualBoxError):
                        call("controlvm", machine.uuid_of(domain), "acpipowerbutton")
            time.sleep(machine.INTERVAL)
            left = [domain for domain in left if _runs(domain)]
        for domain in left:
            say(f"{domain} has not shut down and will be powered off as it runs")

    def identifier(self, resource_type: str, inputs: Mapping[str, Any]) -> str | None:
        """The name of a host-only adapter, or the UUID of a machine's disk.

        Raises IdentifierError.
        """
        try:
            if resource_type == NETWORK:
                return networks.adapter_at(IPv4Network(inputs["addresses"]))
            if resource_type == MACHINE:
                with suppress(Gone):
                    # What is half made, the engine makes anew.
                    if machine.is_complete(inputs["uuid"]):
                        return machine.observed(inputs["uuid"]).disk_id or None
        except VirtualBoxError as error:
            raise IdentifierError(str(error)) from error
        return None


def _runs(domain: str) -> bool:
    with suppress(Gone):
        return machine.state_of(machine.uuid_of(domain)) in machine.RUNS
    return False
