"""Makes machines on libvirt. No other module imports pulumi-libvirt (0.5.4, its last version)."""

from collections.abc import Sequence
from pathlib import Path

import pulumi
import pulumi_libvirt as libvirt

from hypervisors.libvirt import transport
from hypervisors.libvirt.growth import GIB, volume
from hypervisors.port import ClusterKey, Seed, Subnet
from spec import resource_names
from spec.cluster import Machine
from spec.hypervisor import Libvirt

DOMAIN = (Path(__file__).parent / "domain.xslt").read_text()
"""An input of every domain that cannot be changed later (``resources.py``). If a single letter of
it changes, the next update replaces all machines of all clusters."""

NETWORK = (Path(__file__).parent / "network.xslt").read_text()
"""Settings of a network that the provider has no arguments for; only new networks get them."""


class LibvirtHypervisor:
    """Makes networks and machines on one libvirt connection."""

    def __init__(self, spec: Libvirt, parent: pulumi.Resource, label: str = "") -> None:
        self._spec = spec
        # The provider is explicit, since the default provider of old versions ignored its
        # configuration (pulumi-libvirt#168). It depends on nothing, so that plugins start in
        # parallel.
        self._provider = libvirt.Provider(
            resource_names.of_place("libvirt", label),
            uri=transport.for_provider(spec.uri),
            opts=pulumi.ResourceOptions(parent=parent),
        )

    def network(self, subnet: Subnet, parent: pulumi.Resource) -> pulumi.Output[str]:
        """Make a network without DHCP and name server, since machines have static addresses."""
        network = libvirt.Network(
            subnet.resource,
            name=subnet.name,
            mode="route" if subnet.is_routed else "nat",
            addresses=[str(subnet.addresses)],
            autostart=True,
            dhcp=libvirt.NetworkDhcpArgs(enabled=False),
            dns=libvirt.NetworkDnsArgs(enabled=False),
            xml=libvirt.NetworkXmlArgs(xslt=NETWORK),
            opts=pulumi.ResourceOptions(
                parent=parent,
                provider=self._provider,
                delete_before_replace=True,
                # A change of the XML would replace an existing network, and with it all machines.
                ignore_changes=["xml"],
            ),
        )
        return network.id.apply(str)

    def disk(
        self, name: str, spec: Machine, *, domain: str, parent: pulumi.Resource
    ) -> libvirt.Volume:
        """Make the overlay disk of a machine.

        The provider finds disks by name, so the old disk must be deleted before its replacement is
        made. Otherwise, ``pulumi up --replace`` would create the new one first and so get the old
        disk.
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
            # Replacing the disk would lose its content, so these inputs stay as they were at
            # creation: only new machines get a new base image, and growth.py grows disks in place.
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
        bridge: str | None = None,
        mac: str,
        seed: Seed,
        key: ClusterKey,
        others: Sequence[ClusterKey] = (),
        parent: pulumi.Resource,
    ) -> pulumi.CustomResource:
        """Make the overlay disk, the seed disk and the domain; the seed has the keys already.

        Another list of keys is no change of a seed, since that would replace the machine: a living
        machine gets it by a step. The engine ignores nothing where it makes a seed anew, as it does
        where the seed is lost or the disk replaced, so a machine that boots anew has today's keys.
        """
        del key, others
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
                ignore_changes=["userData"],
                replace_with=[root],
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
                # The cloudinit argument would attach a SATA CD-ROM, which Debian's cloud kernel
                # does not support. The resource's ID is "volume id;uuid".
                libvirt.DomainDiskArgs(volume_id=first_boot.id.apply(lambda i: i.split(";")[0])),
            ],
            network_interfaces=[
                libvirt.DomainNetworkInterfaceArgs(
                    network_id=None if bridge else network, bridge=bridge, mac=mac
                )
            ],
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
                # As with the base image, only new machines get another kernel.
                ignore_changes=["kernel", "initrd", "cmdlines"],
                custom_timeouts=pulumi.CustomTimeouts(create="5m", update="5m", delete="5m"),
            ),
        )


def _kernel_arguments(where: Libvirt) -> list[dict[str, str]]:
    """The kernel arguments. Words without a value are a separate element, as the provider reads."""
    pairs = {"root": "/dev/vda", "console": "ttyS0"}
    options = ["rw", "quiet"]
    for argument in where.kernel_arguments:
        name, equals, value = argument.partition("=")
        if equals:
            pairs[name] = value
        else:
            options.append(name)
    return [pairs, {"_": " ".join(options)}]
