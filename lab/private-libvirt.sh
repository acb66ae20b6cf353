#!/bin/sh
# Becomes a daemon of a lab's private libvirt. To be started in a mount namespace of its own, in the
# lab's network namespace:
#
#   private-libvirt.sh LAB RUN STATE PROGRAM [ARGUMENT...]
#
# The program sees the lab's directories where the host's own libvirt would be, an empty /run (so it
# meets no system bus and registers with no service of the host), and the /sys of its network
# namespace (so it sets options of its own bridges and of no host bridge of the same name). The lab
# finds its processes again by the name of the file system that is mounted on /run.
#
# -n: the table of mounts that mount(8) keeps under /run is the host's.
set -eu

lab=$1
run=$2
state=$3
shift 3

mount -n -t tmpfs -o mode=0755 "$lab" "$state/run"
mkdir -p "$state/run/libvirt" "$state$run"
mount -n --bind "$run" "$state$run"
mount -n --bind "$run/libvirt" "$state/run/libvirt"
mount -n --move "$state/run" /run

mount -n --bind "$state/etc" /etc/libvirt
# Debian's package has this folder: libvirt notes networks in it and makes it for dnsmasq only.
mkdir -p "$state/lib/dnsmasq"
mount -n --bind "$state/lib" /var/lib/libvirt
mount -n --bind "$state/cache" /var/cache/libvirt
mount -n --bind "$state/log" /var/log/libvirt
mount -n -t sysfs sysfs /sys

exec env -i LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
