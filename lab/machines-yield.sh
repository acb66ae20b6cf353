#!/bin/sh
# What a private libvirt calls at every step of a machine's life (its hook "qemu"): a machine that has
# started gives way to the programs of its host.
#
#   qemu MACHINE started begin -
#
# Emulated machines are never idle, and a preview or an editor beside three of them got what they
# left. The share is by group where the kernel schedules sessions (each machine is one), and by thread
# where it does not. Whatever of it cannot be had: the machine runs as it is.
[ "$2" = started ] || exit 0

nice=5
pid=$(cat "/run/libvirt/qemu/$1.pid") || exit 0
{ echo "$nice" >"/proc/$pid/autogroup"; } 2>/dev/null
for thread in "/proc/$pid/task/"*; do
    renice -n "$nice" -p "${thread##*/}" >/dev/null 2>&1
done
exit 0
