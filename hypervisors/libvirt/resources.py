"""The types of libvirt's resources, and the inputs whose change makes the engine replace them."""

from hypervisors.upkeep import ResourceTypes

NETWORK = "libvirt:index/network:Network"
VOLUME = "libvirt:index/volume:Volume"
SEED = "libvirt:index/cloudInitDisk:CloudInitDisk"
DOMAIN = "libvirt:index/domain:Domain"

REPLACED_FOR: dict[str, frozenset[str]] = {
    NETWORK: frozenset({"name", "mode", "addresses", "bridge", "domain", "dhcp", "routes", "xml"}),
    VOLUME: frozenset(
        {"name", "pool", "format", "size", "source", "baseVolumeId", "xml"}
        | {"baseVolumeName", "baseVolumePool"}
    ),
    SEED: frozenset({"name", "pool", "userData", "metaData", "networkConfig"}),
    DOMAIN: frozenset(
        {"name", "description", "type", "vcpu", "memory", "firmware", "nvram", "cpu", "disks"}
        | {"filesystems", "graphics", "consoles", "cmdlines", "xml"}
    ),
}
"""The inputs by type that cannot be updated. The plugin's schema marks them; in the case of ``xml``
it marks the field inside."""

DEFAULTS = {
    DOMAIN: {
        "coreosIgnition": "",
        "fwCfgName": "opt/com.coreos/config",
        "qemuAgent": False,
        "consoles": {"sourceHost": "127.0.0.1", "sourceService": "0"},
        "disks": {"scsi": False},
    }
}
"""What the plugin's check adds (0.5.4). Where a state lacks it, the plugin would replace domains,
since it cannot read all of it back."""

RESOURCE_TYPES = ResourceTypes(
    machine=DOMAIN, disk=VOLUME, replaced_for=REPLACED_FOR, defaults=DEFAULTS
)
