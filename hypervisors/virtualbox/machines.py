"""Declares machines and their network on VirtualBox, as dynamic resources over VBoxManage."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi import dynamic

from certs.tracked import Checked
from hypervisors.port import ClusterKey, Seed, Subnet
from hypervisors.virtualbox import machine as machines
from hypervisors.virtualbox import networks
from hypervisors.virtualbox.vboxmanage import VirtualBoxError
from spec.cluster import Machine
from spec.hypervisor import VirtualBox

ADDRESSES = "addresses"
UUID, NAME, IMAGE, RUNNING = "uuid", "name", "image", "running"
SETTINGS = ("memory", "cpus", "mac", "network", "disk")
USER_DATA, META_DATA, NETWORK_CONFIG = "userData", "metaData", "networkConfig"

AT_FIRST_BOOT = [IMAGE, USER_DATA, META_DATA, NETWORK_CONFIG]
"""Inputs that count for new machines only."""


class VirtualBoxNetworkProvider(Checked):
    """Makes a host-only adapter with the network's first address; the ID is the adapter's name."""

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        return dynamic.CreateResult(networks.made(IPv4Network(props[ADDRESSES])), dict(props))

    def diff(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        differs = olds.get(ADDRESSES) != news[ADDRESSES]
        # An adapter without an address is configured again.
        anew = [ADDRESSES] if differs and olds.get(ADDRESSES) else []
        return dynamic.DiffResult(changes=differs, replaces=anew, delete_before_replace=True)

    def update(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.UpdateResult:
        networks.configure(id_, IPv4Network(news[ADDRESSES]))
        return dynamic.UpdateResult(dict(news))

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        wanted = props[ADDRESSES]
        try:
            if not networks.exists(id_):
                return dynamic.ReadResult("", props)
            right = bool(wanted) and networks.has_address(id_, IPv4Network(wanted))
        except VirtualBoxError as error:
            return _unread(id_, props, error)
        # Without its address, as after a reboot of the host, the next update sets it again.
        seen = {**props, ADDRESSES: wanted if right else ""}
        return dynamic.ReadResult(id_, seen, seen)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        networks.removed(_id, _say)


class VirtualBoxMachineProvider(Checked):
    """Makes a machine with its disk and its seed; the ID is the UUID of the disk.

    The machine's own UUID follows from its name, so that a creation that was cut off is known.
    """

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        made = machines.made(
            machines.WantedMachine(
                **_settings(props),
                name=props[NAME],
                image=Path(props[IMAGE]),
                user_data=props[USER_DATA],
                meta_data=props[META_DATA],
                network_config=props[NETWORK_CONFIG],
            )
        )
        return dynamic.CreateResult(made, dict(props))

    def diff(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        differing = [key for key in (*SETTINGS, RUNNING) if olds.get(key) != news.get(key)]
        anew = [UUID] if olds.get(UUID) != news[UUID] else []
        return dynamic.DiffResult(
            changes=bool(differing or anew), replaces=anew, delete_before_replace=True
        )

    def update(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.UpdateResult:
        settings = machines.Settings(**_settings(news))
        machines.changed(news[UUID], settings, _say)
        return dynamic.UpdateResult(dict(news))

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        try:
            seen = machines.member(props[UUID], id_)
        except VirtualBoxError as error:
            return _unread(id_, props, error)
        if seen is None:
            return dynamic.ReadResult("", props)
        settings = {key: getattr(seen, key) for key in SETTINGS}
        # A larger disk than is wanted stays.
        settings["disk"] = min(seen.disk, int(props["disk"]))
        now = {**props, **settings, RUNNING: seen.state == "running"}
        # The inputs get it as well: the engine shows how they differ from the program's.
        return dynamic.ReadResult(id_, now, now)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        machines.removed(_props[NAME], Path(_props[IMAGE]))


def _unread(id_: str, props: dict[str, Any], error: VirtualBoxError) -> dynamic.ReadResult:
    # An exception here would end the whole refresh, as in components/guard.py.
    _say(f"warning: {error}, so nobody knows whether it is as it was")
    return dynamic.ReadResult(id_, props)


def _say(line: str) -> None:
    print(line, flush=True)


def _settings(props: Mapping[str, Any]) -> dict[str, Any]:
    """The machine's settings; the engine returns whole numbers as floats."""
    return {
        key: int(props[key]) if key in ("memory", "cpus", "disk") else props[key]
        for key in SETTINGS
    }


class VirtualBoxNetwork(dynamic.Resource, module="hardway", name="VirtualBoxNetwork"):
    """A host-only network."""

    def __init__(self, name: str, addresses: IPv4Network, opts: pulumi.ResourceOptions) -> None:
        super().__init__(VirtualBoxNetworkProvider(), name, {ADDRESSES: str(addresses)}, opts)


class VirtualBoxMachine(dynamic.Resource, module="hardway", name="VirtualBoxMachine"):
    """A machine with its disk."""

    def __init__(self, name: str, props: pulumi.Inputs, opts: pulumi.ResourceOptions) -> None:
        super().__init__(VirtualBoxMachineProvider(), name, props, opts)


class VirtualBoxHypervisor:
    """Makes networks and machines on the user's VirtualBox."""

    def __init__(self, spec: VirtualBox, parent: pulumi.Resource, label: str = "") -> None:
        del parent, label  # there is no provider that its machines share
        self._spec = spec

    def network(self, subnet: Subnet, parent: pulumi.Resource) -> pulumi.Output[str]:
        """Make a host-only network; its adapter has a name of VirtualBox's choice."""
        opts = pulumi.ResourceOptions(parent=parent, delete_before_replace=True)
        return VirtualBoxNetwork(subnet.resource, subnet.addresses, opts).id.apply(str)

    def machine(
        self,
        name: str,
        spec: Machine,
        *,
        domain: str,
        network: pulumi.Input[str],
        bridge: str | None = None,
        mac: str,
        seed: Seed,
        key: ClusterKey,
        others: Sequence[ClusterKey] = (),
        parent: pulumi.Resource,
    ) -> pulumi.CustomResource:
        """Make a machine with two adapters; the seed has the keys already."""
        del key, others, bridge
        return VirtualBoxMachine(
            name,
            {
                UUID: machines.uuid_of(domain),
                NAME: domain,
                "memory": spec.memory,
                "cpus": spec.cpus,
                "disk": spec.disk,
                "mac": mac,
                "network": network,
                RUNNING: True,
                IMAGE: self._spec.image,
                USER_DATA: seed.user_data,
                META_DATA: seed.meta_data,
                NETWORK_CONFIG: with_way_out(seed.network_config, machines.outside_mac(mac)),
            },
            pulumi.ResourceOptions(
                parent=parent,
                delete_before_replace=True,
                ignore_changes=AT_FIRST_BOOT,
                additional_secret_outputs=[USER_DATA],
                custom_timeouts=pulumi.CustomTimeouts(create="15m", update="15m", delete="15m"),
            ),
        )


def with_way_out(network_config: str, mac: str) -> str:
    """A netplan document whose default route goes by the adapter with this MAC address.

    A host-only network has no way out. The address is the one that VirtualBox's NAT gives to every
    machine, so that nothing waits for a lease.
    """
    document = yaml.safe_load(network_config)
    for interface in document["ethernets"].values():
        routes = [way for way in interface.get("routes", ()) if way["to"] != "0.0.0.0/0"]
        interface["routes"] = routes
    document["ethernets"]["outside"] = {
        "match": {"macaddress": mac},
        "dhcp4": False,
        "addresses": [f"{VirtualBox.NAT[15]}/{VirtualBox.NAT.prefixlen}"],
        "routes": [{"to": "0.0.0.0/0", "via": str(VirtualBox.NAT[2])}],
    }
    return str(yaml.safe_dump(document))
