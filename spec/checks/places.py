"""Checks the hypervisors, base images, SSH ports and host keys of machines."""

import base64
import binascii
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from spec.checks.networks import ranges
from spec.description import Description
from spec.hypervisor import Existing, Hypervisor, Libvirt, VirtualBox
from spec.network import NODE_PORTS, RESERVED_PORTS
from spec.refusal import Refusal, called, dotted, shown

KEY_KINDS = (
    "ssh-ed25519",
    *("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    "ssh-rsa",
)


def base_image_is_pinned(spec: Description) -> Iterator[Refusal]:
    """The base image has a digest."""
    image = spec.base_image
    if image and not (image.sha256 or image.sha512):
        yield Refusal(
            "base_image",
            "has no digest",
            "anything could be booted",
            "write the sha256 or sha512 that its maker publishes",
        )


def base_image_is_used(spec: Description) -> Iterator[Refusal]:
    """A base image is given only where the lab's hypervisor makes machines from it."""
    if spec.base_image is None:
        return
    if spec.in_lab or not spec.machines:
        return
    if any(where and where.wants_image for where in map(spec.hypervisor_of, spec.machines)):
        return
    if spec.hypervisor is not None:
        yield Refusal(
            "base_image",
            f"stands beside a hypervisor of the kind {spec.hypervisor.kind}",
            "it would never be read",
            "write the image into hypervisor" if spec.hypervisor.makes_machines else "leave it out",
        )
    else:
        yield Refusal(
            "base_image",
            "stands beside machines that all have a hypervisor of their own",
            "it would never be read",
            "leave it out",
        )


def _field(spec: Description, name: str) -> str:
    """The field with the hypervisor of a machine."""
    return (
        dotted(("machines", name, "hypervisor")) if spec.machines[name].hypervisor else "hypervisor"
    )


def machines_reach_each_other(spec: Description) -> Iterator[Refusal]:
    """Networks of machines that are made are routed where there are machines elsewhere.

    Then each subnet is in one place. libvirt lets nothing into a NAT network from outside, also
    not from another network of the same host.
    """
    if spec.networks.bridge:
        return  # it is the same network in all places
    segments: dict[tuple[str, IPv4Network], str] = {}
    for name, machine in spec.machines.items():
        if subnet := spec.networks.subnet_of(machine.address):
            segments.setdefault((spec.place_of(name), subnet), name)
    made = [name for name in spec.machines if spec.is_made(name)]
    if spec.networks.routed and spec.machines and not made:
        yield Refusal(
            "networks.routed",
            "stands beside machines that all exist already",
            "it would have no effect",
            "leave it out",
        )
    elif made and not spec.networks.routed and len(segments) > 1:
        first, second, *_ = segments.values()
        yield Refusal(
            "networks.routed",
            f"is not true, and {called(first)} and {called(second)} are not in the same network",
            "they would not reach each other: nothing comes into a network behind NAT",
            "write true, a subnet for each place into networks.machines, and have your routers "
            "lead each subnet to its host",
        )
    elif made and spec.networks.routed:
        if boxes := spec.machines_on(VirtualBox):
            yield Refusal(
                "networks.routed",
                f"is true, and {called(boxes[0])} is on VirtualBox",
                "it would reach no machine of another place or subnet: a host-only network leads "
                "nowhere",
                "leave it out, and put all machines on VirtualBox and into one subnet",
            )
            return
        homes: dict[IPv4Network, str] = {}
        for (_, subnet), name in segments.items():
            if (first := homes.setdefault(subnet, name)) != name:
                yield Refusal(
                    dotted(("machines", name, "address")),
                    f"{spec.machines[name].address} is of the subnet {subnet}, as {called(first)} "
                    "in another place is",
                    "packets would reach one of the two places alone",
                    "write an address of another subnet of networks.machines",
                )


def libvirt_has_the_same_settings(spec: Description) -> Iterator[Refusal]:
    """All machines of one libvirt have the same model of it."""
    known: dict[str, tuple[str, Libvirt]] = {}
    for name in spec.machines:
        if isinstance(where := spec.hypervisor_of(name), Libvirt):
            first, model = known.setdefault(where.site, (name, where))
            if model != where:
                yield Refusal(
                    _field(spec, name),
                    f"is the libvirt of {called(first)} with other settings",
                    "two connections would manage one network",
                    f"write the same as for {called(first)}",
                )


def libvirt_boots_as_it_says(spec: Description) -> Iterator[Refusal]:
    """See ``_boots``."""
    yield from _boots("hypervisor", spec.hypervisor)


def machine_libvirt_boots_as_it_says(spec: Description, name: str) -> Iterator[Refusal]:
    """See ``_boots``."""
    field = dotted(("machines", name, "hypervisor"))
    yield from _boots(field, spec.machines[name].hypervisor)


def _boots(field: str, where: Hypervisor | None) -> Iterator[Refusal]:
    """Kernel and initrd are given together or not at all, and arguments only with a kernel."""
    if not isinstance(where, Libvirt):
        return
    if where.wants_image and (where.kernel or where.initrd or where.image_format != "qcow2"):
        yield Refusal(
            field,
            "has a kernel or a format and no image",
            "the image that up brings there is a qcow2 with a boot loader",
            f"write {field}.image as well, or leave kernel, initrd and image_format out",
        )
        return
    if where.kernel_arguments and not where.kernel:
        yield Refusal(
            f"{field}.kernel_arguments",
            "are given without kernel",
            "the image boots by its own loader and would not hear of them",
            f"write {field}.kernel and {field}.initrd as well, or leave them out",
        )
    if bool(where.kernel) == bool(where.initrd):
        return
    given, missing = ("kernel", "initrd") if where.kernel else ("initrd", "kernel")
    yield Refusal(
        f"{field}.{given}",
        f"is given without {missing}",
        "machines would not find their disk" if where.kernel else "it would have no effect",
        f"write {field}.{missing} as well, or leave both out",
    )


def libvirt_image_is_no_machines_disk(spec: Description) -> Iterator[Refusal]:
    """The base image is not named like a machine's disk: libvirt finds both by name in one pool."""
    for name in spec.machines:
        where = spec.hypervisor_of(name)
        if isinstance(where, Libvirt) and where.image == f"{spec.name}-{name}.qcow2":
            yield Refusal(
                f"{_field(spec, name)}.image",
                f"{shown(where.image)} is the name that the disk of {called(name)} has",
                "the machine would write on the image that all others stand on",
                "write the name of another volume, or give the image another one",
            )


def virtualbox_has_the_processor(spec: Description) -> Iterator[Refusal]:
    """VirtualBox makes machines with the host's processor, and hosts are x86."""
    if spec.machines_on(VirtualBox) and spec.architecture != "amd64":
        yield Refusal(
            "architecture",
            f"{spec.architecture} stands beside a hypervisor of the kind virtualbox",
            "no machine would start, since its processor is an amd64",
            "write amd64, or leave it out",
        )


def virtualbox_ranges_are_apart(spec: Description) -> Iterator[Refusal]:
    """No range overlaps with the network of the machines' second adapter."""
    if not spec.machines_on(VirtualBox):
        return
    for field, network in ranges(spec.networks):
        if network.overlaps(VirtualBox.NAT):
            yield Refusal(
                field,
                f"{network} overlaps with {VirtualBox.NAT}, which is behind each machine's second "
                "adapter in VirtualBox",
                "packets would leave by the wrong adapter",
                "write another private range, such as 192.168.1.0/24",
            )


def virtualbox_sizes_are_possible(spec: Description, name: str) -> Iterator[Refusal]:
    """VirtualBox starts machines of this size."""
    machine = spec.machines[name]
    if not isinstance(spec.hypervisor_of(name), VirtualBox):
        return
    for field, most, unit in (
        ("cpus", VirtualBox.MOST_CPUS, "processors"),
        ("memory", VirtualBox.MOST_MEMORY, "MiB"),
    ):
        if getattr(machine, field) > most:
            yield Refusal(
                dotted(("machines", name, field)),
                f"is {getattr(machine, field)} on VirtualBox",
                f"it makes no machine with more than {most} {unit}",
                f"write {most} or less",
            )


def ssh_port_is_free(spec: Description) -> Iterator[Refusal]:
    """See ``_apart_from_components``."""
    yield from _apart_from_components("hypervisor", spec.hypervisor)


def machine_ssh_port_is_free(spec: Description, name: str) -> Iterator[Refusal]:
    """See ``_apart_from_components``."""
    field = dotted(("machines", name, "hypervisor"))
    yield from _apart_from_components(field, spec.machines[name].hypervisor)


def _apart_from_components(field: str, where: Hypervisor | None) -> Iterator[Refusal]:
    """The SSH port of existing machines is not one that a component or a NodePort uses."""
    if not isinstance(where, Existing):
        return
    owner = RESERVED_PORTS.get(where.port)
    if owner or where.port in NODE_PORTS:
        yield Refusal(
            f"{field}.port",
            f"{where.port} belongs to {owner or 'the NodePorts'}",
            "either that or sshd could not start",
            "write another port for sshd, such as 22, and set it on the machines",
        )


def existing_machine_has_a_host_key(spec: Description, name: str) -> Iterator[Refusal]:
    """The spec has a host key for each existing machine."""
    machine = spec.machines[name]
    where = machine.hypervisor or spec.hypervisor
    if isinstance(where, Existing) and machine.address not in where.host_keys:
        yield Refusal(
            f"{_field(spec, name)}.host_keys",
            f"has no key of {called(name)} at {machine.address}",
            "another machine could answer in its place",
            f"write {machine.address}: and its /etc/ssh/ssh_host_ed25519_key.pub",
        )


def host_keys_are_public_keys(spec: Description) -> Iterator[Refusal]:
    """Each host key has the form of a public key."""
    bastions = ((f"{field}.bastion.host_key", key) for field, key in _bastion_keys(spec))
    for path, key in (*((path, key) for path, _, key in _host_keys(spec)), *bastions):
        if not is_public_key(key):
            yield Refusal(
                path,
                "is no public host key",
                "nobody could be recognised by it",
                "write one line as in /etc/ssh/ssh_host_ed25519_key.pub, such as ssh-ed25519 AAAA…",
            )


def host_keys_belong_to_machines(spec: Description) -> Iterator[Refusal]:
    """Each host key belongs to a machine of the spec."""
    everybody = {machine.address for machine in spec.machines.values()}
    for path, address, _ in _host_keys(spec):
        if address not in everybody:
            yield Refusal(
                path,
                "belongs to no machine",
                "it would have no effect",
                "write the address of one, or leave it out",
            )


def _host_keys(spec: Description) -> Iterator[tuple[str, IPv4Address, str]]:
    """The field, address and key of each machine's host key, from all hypervisors that parsed."""
    for field, where in _existing(spec):
        for address, key in (where.parsed("host_keys") or {}).items():
            yield f"{field}.host_keys.{address}", address, key


def _bastion_keys(spec: Description) -> Iterator[tuple[str, str]]:
    """The field of each hypervisor with a jump host, and the jump host's key."""
    for field, where in _existing(spec):
        bastion = where.parsed("bastion")
        if bastion is not None and (key := bastion.parsed("host_key")) is not None:
            yield field, key


def _existing(spec: Description) -> Iterator[tuple[str, Existing]]:
    """The fields with existing machines that parsed."""
    fields = [("hypervisor", spec.parsed("hypervisor"))] + [
        (dotted(("machines", name, "hypervisor")), machine.parsed("hypervisor"))
        for name, machine in spec.machines.items()
    ]
    yield from ((field, where) for field, where in fields if isinstance(where, Existing))


def is_public_key(text: str) -> bool:
    """Whether this is a line of a public key file: kind, base64, optional comment (RFC 4253)."""
    kind, _, rest = text.strip().partition(" ")
    fields = rest.split()
    if kind not in KEY_KINDS or not fields or "\n" in text.strip():
        return False
    try:
        data = base64.b64decode(fields[0], validate=True)
    except binascii.Error:
        return False
    return data[:4] == len(kind).to_bytes(4, "big") and data[4 : 4 + len(kind)] == kind.encode()
