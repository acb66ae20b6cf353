# shellcheck shell=bash
# shellcheck disable=SC2154 # prelude.sh is read before this text
# The machine answers by SSH; wait until its first boot is configured, and let it be the last time.
# Its disk may have grown since: the root file system fills it. It notices its power button.

# What cloud-init leaves when all of it is done. To ask cloud-init itself is to start Python, again and
# again, beside the boot that is waited for.
result=/run/cloud-init/result.json

over() {
    [ -s "$result" ] ||
        systemctl is-failed cloud-{init-main,init-local,init-network,init,config,final}.service
}

if [ -e /run/cloud-init/enabled ] && [ ! -e /etc/cloud/cloud-init.disabled ]; then
    await first-boot "the first boot is configured" cloud-final.service over
    if ! grep --quiet --no-messages '"errors": \[\]' "$result"; then
        # Exit status 2 means done with a recoverable warning; anything else is worth its details.
        status=0
        said=$(timeout 480 cloud-init status --wait 2>&1) || status=$?
        if [ "$status" -ne 0 ] && [ "$status" -ne 2 ]; then
            said="cloud-init failed: ${said##*$'\n'}"
            problem "$said"$'\n'"$(cloud-init status --long 2>&1 | tail --lines 15)"
        fi
    fi
    # It would run at every boot again and take seconds from each. What it did is on the disk first: a
    # machine that lost its power here came back without its host key, and nobody to make it anew.
    lasting
    touch /etc/cloud/cloud-init.disabled
fi

# root: the device of the root file system, such as vda1 or vda, and what file system it is
root() {
    local number at rest
    device='' kind=''
    while read -r _ _ number _ at rest; do
        [ "$at" = / ] || continue
        kind=${rest#* - }
        kind=${kind%% *}
        device=$(readlink "/sys/dev/block/$number") || device=
        device=${device##*/}
    done </proc/self/mountinfo
}

# has DISK GIB: the disk is as large
has() {
    local sectors
    sectors=$(</sys/class/block/"$1"/size)
    [ $((sectors / 2097152)) -ge "$2" ] || {
        echo "/dev/$1 has $((sectors / 2097152)) GiB and not $2: its hypervisor has not made it larger"
        return 1
    }
}

# filled GIB: the disk is as large, and the root file system fills it, while it is used
filled() {
    local device kind disk part=/sys/class/block said left
    root
    # Not a container's, nor a volume over several disks, which somebody else looks after.
    [ -n "$device" ] && [ ! -e "$part/$device/dm" ] && [ ! -e "$part/$device/md" ] || return 0
    part+=/$device disk=$device
    if [ -e "$part/partition" ]; then
        disk=$(readlink "$part")
        disk=${disk%/*} disk=${disk##*/}
    fi
    await disk "the disk has $1 GiB" systemd-udevd.service has "$disk" "$1"
    if [ "$disk" != "$device" ]; then
        left=$(($(<"/sys/class/block/$disk/size") - $(<"$part/start") - $(<"$part/size")))
        # In sectors of 512 bytes: a copy of the partition table is at the end.
        if [ "$left" -gt 4096 ]; then
            [ -x /usr/bin/growpart ] || packages cloud-guest-utils
            said=$(growpart "/dev/$disk" "$(<"$part/partition")" 2>&1) || [[ $said == NOCHANGE* ]] ||
                problem "the partition /dev/$device cannot be made larger: ${said//$'\n'/ }"
        fi
    fi
    case $kind in
    ext[234]) said=$(resize2fs "/dev/$device" 2>&1) ;;
    xfs) said=$(xfs_growfs / 2>&1) ;;
    btrfs) said=$(btrfs filesystem resize max / 2>&1) ;;
    *) ;;
    esac || problem "the file system of /dev/$device cannot be made larger: ${said//$'\n'/ }"
}

# name_servers: sets servers to those that this machine asks, each after a space
name_servers() {
    local list word server
    for list in /etc/resolv.conf /run/systemd/resolve/resolv.conf; do
        servers=''
        while read -r word server _; do
            [ "$word" != nameserver ] || servers+=" $server"
        done < <(cat "$list" 2>/dev/null)
        # systemd-resolved's own address leads to those of the other file.
        [ "$servers" = ' 127.0.0.53' ] || break
    done
}

# known NAME: the machine finds an address of the name under which it will ask for the API. Nothing that
# asks comes up without one, long after this.
known() {
    local servers
    wait_for api-name "it finds an address of $1"
    until timeout 60 getent ahosts "$1" >/dev/null; do
        if ! still; then
            name_servers
            problem "$HOSTNAME finds no address of $1, the host at which it is to ask for the API" \
                "(its name servers:${servers:- none}); make a DNS record that it can look up or a line" \
                "in its /etc/hosts, or write the balancer's address as endpoint.host, and run the same again"
        fi
        announce
        sleep 2
    done
}

# Of a step that is no longer among them, leave.sh takes away what it brought; its data go now.
printf '%s\n' "${steps:?}" >"$state/.plan"
mv "$state/.plan" "$state/plan"
for kept in "$state"/steps/*; do
    [[ " $steps " == *" ${kept##*/} "* ]] || rm -f "$kept"
done

# A control plane leaves before the others change: they would no longer tell it that they have the
# virtual address, which it would then take, and the last of them elects no leader among controllers.
# A node leaves last, when its pods have moved.
[[ " $steps " == *' control-plane '* ]] || only control-plane

# A kernel may have them built in, or do without them.
# shellcheck disable=SC2086 # several names
[ -z "${power_button?}" ] || modprobe --all $power_button 2>/dev/null || true
[ -z "${disk?}" ] || filled "$disk"
[ -z "${api_name?}" ] || known "$api_name"
