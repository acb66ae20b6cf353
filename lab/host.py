"""The Debian packages that the host needs, by purpose."""

from collections.abc import Mapping

from lab.architecture import architecture

EMULATOR = {"amd64": "qemu-system-x86", "arm64": "qemu-system-arm"}


PACKAGES_FOR_IMAGES: Mapping[str, str] = {
    "qemu-utils": "makes disk images",
    "mmdebstrap": "builds the base image",
    "debian-archive-keyring": "verifies the base image's packages",
    "e2fsprogs": "makes the base image's file system",
    "openssh-client": "logs in to machines",
}

PACKAGES_FOR_BOOTABLE_IMAGES: Mapping[str, str] = {
    **PACKAGES_FOR_IMAGES,
    "grub-common": "makes the base image's boot loader",
    "grub-pc-bin": "is that boot loader",
    "fdisk": "makes the base image's partition",
}

PACKAGES_FOR_VIRTUALBOX: Mapping[str, str] = {
    **PACKAGES_FOR_BOOTABLE_IMAGES,
    "iproute2": "shows the host's routes",
}

PACKAGES_FOR_LIBVIRT: Mapping[str, str] = {
    "libvirt-clients": "talks to libvirt (virsh)",
    "genisoimage": "writes the seed disks (the libvirt plugin calls mkisofs)",
    "xsltproc": "adjusts domain definitions (the libvirt plugin calls it)",
}

PACKAGES_FOR_LIBVIRT_ELSEWHERE: Mapping[str, str] = {
    **PACKAGES_FOR_BOOTABLE_IMAGES,
    **PACKAGES_FOR_LIBVIRT,
}


def packages_for_machines() -> Mapping[str, str]:
    """Package name to its purpose, for all packages that a lab needs to make machines."""
    return {
        **PACKAGES_FOR_IMAGES,
        **PACKAGES_FOR_LIBVIRT,
        EMULATOR[architecture()]: "runs the machines",
        "libvirt-daemon-system": "manages the machines",
        "dnsmasq-base": "is started by libvirt for each network",
        "iproute2": "makes the lab's network namespace",
        "iptables": "is what libvirt writes its NAT rules with",
    }


PACKAGES_FOR_THE_WAY_OUT: Mapping[str, str] = {
    "slirp4netns": "is the way out of the lab's network namespace",
}

PACKAGES_FOR_TESTS: Mapping[str, str] = {
    "shellcheck": "checks the shell scripts",
    "openssh-server": "is the SSH server of the engine tests",
    "systemd-container": "runs the containers that the scripts are tested in",
    "openssl": "judges the certificates",
    "nftables": "shows what a lab leaves in the host's firewall",
    **PACKAGES_FOR_THE_WAY_OUT,
    "gcc": "builds for Go's race detector and cgo",
    "libc6-dev": "builds with cgo",
}

PACKAGES_FOR_THE_BROWSER: Mapping[str, str] = {
    "chromium": "is the browser that opens a preview's page",
    "chromium-driver": "drives that browser",
}
"""Names of Debian's packages. Ubuntu's browser is a snap, which cannot open a test's own files."""
