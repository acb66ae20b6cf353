"""A machine that answers."""

from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
import yaml

from certs.tracked import TrackedSshKey
from components.remote import BOOT_DIALS, Login, remote_command
from hypervisors.port import Hypervisor, Seed
from plan.render import script
from spec.cluster import Machine as MachineSpec
from spec.cluster import mac_address


@dataclass(frozen=True, kw_only=True)
class MachineArgs:
    """A machine's spec and what it shares with the others of its cluster."""

    cluster: str
    spec: MachineSpec
    network: pulumi.Input[str]
    addresses: IPv4Network
    hypervisor: Hypervisor
    user_key: TrackedSshKey


class Machine(pulumi.ComponentResource):
    """A machine at its fixed address, configured by cloud-init, that shows its own host key."""

    host_key: pulumi.Output[str]
    ready: pulumi.Resource
    login: Login

    def __init__(
        self, name: str, args: MachineArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("hardway:index:Machine", name, None, opts)
        domain = f"{args.cluster}-{name}"
        mac = mac_address(args.cluster, args.spec.address)
        key = TrackedSshKey(f"{name}-host-key", pulumi.ResourceOptions(parent=self))
        self.host_key = key.public
        machine = args.hypervisor.machine(
            name,
            args.spec,
            domain=domain,
            network=args.network,
            mac=mac,
            seed=Seed(
                user_data=pulumi.Output.secret(
                    pulumi.Output.all(key.private, key.public, args.user_key.public).apply(
                        lambda keys: user_data(name, *keys)
                    )
                ),
                meta_data=yaml.safe_dump({"instance-id": domain, "local-hostname": name}),
                network_config=network_config(args.spec, args.addresses, mac),
            ),
            parent=self,
        )
        self.login = Login(
            address=args.spec.address,
            private_key=args.user_key.private,
            host_key=self.host_key,
        )
        self.ready = remote_command(
            f"{name}-ready",
            script("ready"),
            login=self.login,
            machine=machine,
            parent=self,
            dials=BOOT_DIALS,
        )
        self.register_outputs({"host_key": self.host_key})


def user_data(name: str, host_private: str, host_public: str, user_public: str) -> str:
    """The ``#cloud-config`` document: the host's key and who may log in, nothing else."""
    document = {
        "hostname": name,
        "manage_etc_hosts": True,
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_genkeytypes": [],
        "ssh_keys": {"ed25519_private": host_private, "ed25519_public": host_public},
        "users": [{"name": "root", "ssh_authorized_keys": [user_public]}],
    }
    return "#cloud-config\n" + yaml.safe_dump(document, sort_keys=True)


def network_config(spec: MachineSpec, addresses: IPv4Network, mac: str) -> str:
    """A static address, matched by MAC: independent of any DHCP lease (netplan version 2)."""
    gateway = str(addresses[1])
    primary = {
        "match": {"macaddress": mac},
        "dhcp4": False,
        "addresses": [f"{spec.address}/{addresses.prefixlen}"],
        "routes": [{"to": "0.0.0.0/0", "via": gateway}],
    }
    return yaml.safe_dump({"version": 2, "ethernets": {"primary": primary}})
