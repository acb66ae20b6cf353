"""Machines on libvirt, through pulumi-libvirt 0.5.4 (its last version): the only importer of it."""

from ipaddress import IPv4Network
from pathlib import Path

import pulumi
import pulumi_libvirt as libvirt

from hypervisors.growth import GIB, volume
from hypervisors.port import Seed
from spec import resource_names
from spec.cluster import Machine
from spec.hypervisor import Libvirt

DOMAIN = (Path(__file__).parent / "domain.xslt").read_text()
"""Part of every machine that was ever made with it, and fixed there (``replacement.py``): one more
letter in it, and the next update makes all machines of all clusters anew."""

NETWORK = (Path(__file__).parent / "network.xslt").read_text()
"""What the provider does not say of a network; part of new networks only."""


class LibvirtHypervisor:
    """Networks and machines of one libvirt connection."""

    def __init__(self, spec: Libvirt, parent: pulumi.Resource) -> None:
        self._spec = spec
        # An explicit provider: the default one of old versions ignored its configuration
        # (pulumi-libvirt#168). It comes after nothing, so that plugins start side by side.
        self._provider = libvirt.Provider(
            "libvirt", uri=spec.uri, opts=pulumi.ResourceOptions(parent=parent)
        )

    def network(
        self, name: str, addresses: IPv4Network, parent: pulumi.Resource
    ) -> pulumi.Output[str]:
        """Make a NAT network without DHCP and name server: machines' addresses are static."""
        network = libvirt.Network(
            resource_names.NETWORK,
            name=name,
            mode="nat",
            addresses=[str(addresses)],
            autostart=True,
            dhcp=libvirt.NetworkDhcpArgs(enabled=False),
            dns=libvirt.NetworkDnsArgs(enabled=False),
            xml=libvirt.NetworkXmlArgs(xslt=NETWORK),
            opts=pulumi.ResourceOptions(
                parent=parent,
                provider=self._provider,
                delete_before_replace=True,
                # Of a network that is there it would make another network, and all machines anew.
                ignore_changes=["xml"],
            ),
        )
        return network.id.apply(str)

    def disk(
        self, name: str, spec: Machine, *, domain: str, parent: pulumi.Resource
    ) -> libvirt.Volume:
        """Make the overlay disk of a machine.

        Disks are found by name, so a new disk comes after the old one has gone: made beside the old
        disk, as ``pulumi up --replace`` does it otherwise, it would be the old disk.
        """
        where = self._spec
        return libvirt.Volume(
            resource_names.part(name, resource_names.DISK),
            name=volume(domain),
            pool=where.pool,
            base_volume_name=where.image,
            base_volume_pool=where.pool,
            format="qcow2",
            size=spec.disk * GIB,
            # Settled when it is made, since replacing the disk would lose what is on it: a new base
            # image is for new machines, and another size is brought about in place (growth.py).
            opts=pulumi.ResourceOptions(
                parent=parent,
                provider=self._provider,
                delete_before_replace=True,
                ignore_changes=["baseVolumeName", "baseVolumePool", "size"],
            ),
        )

    def machine(
        self,
        name: str,
        spec: Machine,
        *,
        domain: str,
        network: pulumi.Input[str],
        mac: str,
        seed: Seed,
        parent: pulumi.Resource,
    ) -> pulumi.CustomResource:
        """Make the overlay disk, the seed disk and the domain."""
        where = self._spec
        root = self.disk(name, spec, domain=domain, parent=parent)
        first_boot = libvirt.CloudInitDisk(
            resource_names.part(name, resource_names.SEED),
            name=f"{domain}-seed.iso",
            pool=where.pool,
            user_data=seed.user_data,
            meta_data=seed.meta_data,
            network_config=seed.network_config,
            opts=pulumi.ResourceOptions(
                parent=parent,
                provider=self._provider,
                delete_before_replace=True,
                additional_secret_outputs=["userData"],
            ),
        )
        return libvirt.Domain(
            name,
            name=domain,
            type=where.domain_type,
            vcpu=spec.cpus,
            memory=spec.memory,
            kernel=where.kernel,
            initrd=where.initrd,
            cmdlines=_kernel_arguments(where) if where.kernel else None,
            disks=[
                libvirt.DomainDiskArgs(volume_id=root.id),
                # Not the cloudinit argument: it attaches a SATA CD-ROM, which Debian's cloud kernel
                # does not see. The resource's id is "volume id;uuid".
                libvirt.DomainDiskArgs(volume_id=first_boot.id.apply(lambda i: i.split(";")[0])),
            ],
            network_interfaces=[libvirt.DomainNetworkInterfaceArgs(network_id=network, mac=mac)],
            consoles=[libvirt.DomainConsoleArgs(type="pty", target_port="0", target_type="serial")],
            xml=libvirt.DomainXmlArgs(
                xslt=DOMAIN.replace("@CACHE@", where.disk_cache).replace(
                    "@DIRECTORY@", where.console_logs or ""
                )
            ),
            autostart=True,
            running=True,
            opts=pulumi.ResourceOptions(
                parent=parent,
                provider=self._provider,
                delete_before_replace=True,
                # As with the image: what boots a machine is settled when it is made.
                ignore_changes=["kernel", "initrd", "cmdlines"],
                custom_timeouts=pulumi.CustomTimeouts(create="5m", update="5m", delete="5m"),
            ),
        )


def _kernel_arguments(where: Libvirt) -> list[dict[str, str]]:
    """Words without a value are an element of their own: the provider reads them back so."""
    pairs = {"root": "/dev/vda", "console": "ttyS0"}
    words = ["rw", "quiet"]
    for argument in where.kernel_arguments:
        name, equals, value = argument.partition("=")
        if equals:
            pairs[name] = value
        else:
            words.append(name)
    return [pairs, {"_": " ".join(words)}]
