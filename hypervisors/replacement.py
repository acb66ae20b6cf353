"""What cannot be changed of a resource once it is made: the engine makes another one for it."""

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
"""Type to the inputs that cannot be changed afterwards (the plugin's schema says so, for ``xml`` at
the field below)."""
