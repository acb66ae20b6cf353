"""The inputs of libvirt resources whose change makes the engine replace the resource."""

REPLACED_FOR: dict[str, frozenset[str]] = {
    "libvirt:index/network:Network": frozenset(
        {"name", "mode", "addresses", "bridge", "domain", "dhcp", "routes", "xml"}
    ),
    "libvirt:index/volume:Volume": frozenset(
        {"name", "pool", "format", "size", "source", "baseVolumeId", "xml"}
        | {"baseVolumeName", "baseVolumePool"}
    ),
    "libvirt:index/cloudInitDisk:CloudInitDisk": frozenset(
        {"name", "pool", "userData", "metaData", "networkConfig"}
    ),
    "libvirt:index/domain:Domain": frozenset(
        {"name", "description", "type", "vcpu", "memory", "firmware", "nvram", "cpu", "disks"}
        | {"filesystems", "graphics", "consoles", "cmdlines", "xml"}
    ),
}
"""The inputs by type that cannot be updated. The plugin's schema marks them; in the case of ``xml``
it marks the field inside."""
