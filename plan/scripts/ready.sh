# shellcheck shell=bash
# shellcheck disable=SC2154 # prelude.sh is read before this text
# Waits until the machine's first boot is configured and turns cloud-init off after that. Has the root file
# system fill a disk that has grown, and the machine notice its power button.

# The file that cloud-init writes when it has finished. To ask cloud-init itself would start Python again
# and again, which would slow down the boot.
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
        output=$(timeout 480 cloud-init status --wait 2>&1) || status=$?
        # The first boot of a machine that existed before is its owner's: its end is enough.
        if [ -z "$disk" ] && [ "$status" -eq 1 ]; then
            echo "cloud-init of this machine had errors, see cloud-init status --long"
        elif [ "$status" -ne 0 ] && [ "$status" -ne 2 ]; then
            output="cloud-init failed: ${output##*$'\n'}"
            problem "$output"$'\n'"$(cloud-init status --long 2>&1 | tail --lines 15)"
        fi
    fi
    # Otherwise it would run at every boot, for seconds. Its results are written to the disk first: a
    # machine that lost its power here came back without its host key, and nothing made the key anew.
    lasting
    # What starts at the boot of a machine that existed before is not for the cluster to decide.
    [ -z "$disk" ] || touch /etc/cloud/cloud-init.disabled
fi

# root: set device to that of the root file system, such as vda1 or vda, and kind to its type
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

# has DISK GIB: whether the disk has this size
has() {
    local sectors
    sectors=$(</sys/class/block/"$1"/size)
    [ $((sectors / 2097152)) -ge "$2" ] || {
        echo "/dev/$1 has $((sectors / 2097152)) GiB and not $2: its hypervisor has not made it larger"
        return 1
    }
}

# filled GIB: wait until the disk has this size, and have the root file system fill it, while it is in use
filled() {
    local device kind disk part=/sys/class/block output left
    root
    # Not in a container, nor on a volume over several disks, which this program does not manage.
    [ -n "$device" ] && [ ! -e "$part/$device/dm" ] && [ ! -e "$part/$device/md" ] || return 0
    part+=/$device disk=$device
    if [ -e "$part/partition" ]; then
        disk=$(readlink "$part")
        disk=${disk%/*} disk=${disk##*/}
    fi
    await disk "the disk has $1 GiB" systemd-udevd.service has "$disk" "$1"
    if [ "$disk" != "$device" ]; then
        left=$(($(<"/sys/class/block/$disk/size") - $(<"$part/start") - $(<"$part/size")))
        # In sectors of 512 bytes. Some stay free, since a copy of the partition table is at the end.
        if [ "$left" -gt 4096 ]; then
            [ -x /usr/bin/growpart ] || packages cloud-guest-utils
            output=$(growpart "/dev/$disk" "$(<"$part/partition")" 2>&1) || [[ $output == NOCHANGE* ]] ||
                problem "the partition /dev/$device cannot be made larger: ${output//$'\n'/ }"
        fi
    fi
    case $kind in
    ext[234]) output=$(resize2fs "/dev/$device" 2>&1) ;;
    xfs) output=$(xfs_growfs / 2>&1) ;;
    btrfs) output=$(btrfs filesystem resize max / 2>&1) ;;
    *) ;;
    esac || problem "the file system of /dev/$device cannot be made larger: ${output//$'\n'/ }"
}

# asked_servers: set servers to the machine's name servers, each after a space
asked_servers() {
    local list word server
    for list in /etc/resolv.conf /run/systemd/resolve/resolv.conf; do
        servers=''
        while read -r word server _; do
            [ "$word" != nameserver ] || servers+=" $server"
        done < <(cat "$list" 2>/dev/null)
        # Behind the address of systemd-resolved are the name servers of the other file.
        [ "$servers" = ' 127.0.0.53' ] || break
    done
}

# has_name_servers: have the machine ask the name servers of the plan; where the plan names none, those
# that it asked before
has_name_servers() {
    local before=$state/name-servers-before path=/etc/resolv.conf
    # shellcheck disable=SC2154 # a setting
    if [ -n "$name_servers" ]; then
        if [ ! -d "$before" ]; then
            rm -rf "$before.new"
            install -d -m 0700 "$before.new"
            if [ -e "$path" ] || [ -L "$path" ]; then
                cp --archive "$path" "$before.new/"
            fi
            mv --no-target-directory "$before.new" "$before"
        fi
        # shellcheck disable=SC2086 # several addresses
        file 0644 root:root "$path" "$(printf 'nameserver %s\n' $name_servers)"$'\n'
    elif [ -d "$before" ]; then
        if [ ! -e "$path" ] && [ ! -L "$path" ] && [ -n "$(ls -A "$before")" ]; then
            copied "$before/${path##*/}" "$path"
        fi
        rm -rf "$before"
    fi
}

# has_packet_size [ADDRESS BYTES]: have the interface with this address send packets of at most so many
# bytes; without these, of as many as before
has_packet_size() {
    local before=$state/packet-size-before interface bytes output
    if [ "$#" -gt 0 ]; then
        read -r _ interface _ < <(ip -oneline -4 address show to "$1") ||
            problem "no interface of this machine has the address $1, so its packets keep their size"
        bytes=$2
        if [ ! -f "$before" ]; then
            echo "$interface $(<"/sys/class/net/$interface/mtu")" >"$before.new"
            mv "$before.new" "$before"
        fi
    else
        [ -f "$before" ] || return 0
        read -r interface bytes <"$before"
    fi
    if [ -d "/sys/class/net/$interface" ]; then
        [ "$(<"/sys/class/net/$interface/mtu")" = "$bytes" ] ||
            output=$(ip link set dev "$interface" mtu "$bytes" 2>&1) ||
            problem "$interface cannot send packets of $bytes bytes, the networks.mtu: $output"
    fi
    [ "$#" -gt 0 ] || rm -f "$before"
}

# known NAME: wait until the machine can resolve the name of the API. Without an address, services would
# fail only much later.
known() {
    local servers
    wait_for api-name "it finds an address of $1"
    until timeout 60 getent ahosts "$1" >/dev/null; do
        if ! still; then
            asked_servers
            problem "$HOSTNAME finds no address of $1, the host at which it is to ask for the API" \
                "(its name servers:${servers:- none}); make a DNS record that it can look up or a line" \
                "in its /etc/hosts, or write the balancer's address as endpoint.host, and run the same again"
        fi
        announce
        sleep 2
    done
}

# leave.sh removes what a step brought that is no longer in the plan; the step's saved data go now.
printf '%s\n' "${steps:?}" >"$state/.plan"
mv "$state/.plan" "$state/plan"
for kept in "$state"/steps/*; do
    [[ " $steps " == *" ${kept##*/} "* ]] || rm -f "$kept"
done

# The role of a control plane leaves this machine before other machines change: they would no longer tell
# this one that they have the virtual address, so it would take the address as well, and a single
# remaining control plane would run its controllers without an election. The role of a node leaves last,
# when its pods have moved.
[[ " $steps " == *' control-plane '* ]] || only control-plane

# curl and apt go by these variables when this step downloads artifacts and packages; in other steps apt
# goes by its own file.
for variable in http_proxy https_proxy no_proxy; do
    # shellcheck disable=SC2163 # the name in it
    [ -z "${!variable?}" ] || export "$variable"
done

# Before anything is downloaded, and before a name is looked up.
has_name_servers

# Before flanneld takes the size of its own device from there.
# shellcheck disable=SC2086 # an address and a number
has_packet_size ${packet_size?}

# A kernel may have these modules built in, or lack them.
# shellcheck disable=SC2086 # several names
[ -z "${power_button?}" ] || modprobe --all $power_button 2>/dev/null || true
[ -z "${disk?}" ] || filled "$disk"
[ -z "${api_name?}" ] || known "$api_name"
