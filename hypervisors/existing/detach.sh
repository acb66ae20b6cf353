# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings and the scripts of the steps stand before this text
# Hands this machine back: takes away all that the steps of a cluster brought, and puts back what was there
# before. It may be cut off at any line and run again, since each note goes after what it names.

# settings_back: the kernel settings in force, as far as the modules that have them are loaded
settings_back() {
    local key value output
    while read -r key _ value; do
        [ -e "/proc/sys/${key//.//}" ] || continue
        output=$(sysctl --quiet --write "$key=$value" 2>&1) ||
            echo "the kernel setting $key stays as it is: $output"
    done < <(cat "$before/settings" 2>/dev/null)
}

# packet_size_back: the size of the packets that the interface of networks.mtu sent before
packet_size_back() {
    local interface bytes output
    read -r interface bytes 2>/dev/null <"$state/packet-size-before" || return 0
    [ -d "/sys/class/net/$interface" ] || return 0
    output=$(ip link set dev "$interface" mtu "$bytes" 2>&1) ||
        echo "$interface does not send packets of $bytes bytes again: $output"
}

# modules_back: a module that something uses stays until the next boot
modules_back() {
    local name
    while read -r name; do
        modprobe --remove "$name" 2>/dev/null || true
    done < <(tac "$before/modules" 2>/dev/null)
}

swap_back() {
    local device priority output option
    while read -r device priority; do
        [[ $'\n'$(</proc/swaps) != *$'\n'"$device "* ]] || continue
        [ -e "$device" ] || continue
        option=()
        [ "$priority" -lt 0 ] || option=(--priority "$priority")
        output=$(swapon "${option[@]}" "$device" 2>&1) || echo "$device is no swap again: $output"
    done < <(cat "$before/swap" 2>/dev/null)
}

# packages_back: packages that another one needs stay; dpkg takes no other away with them
packages_back() {
    local output noted=() brought=() left=()
    mapfile -t noted < <(cat "$before/packages" 2>/dev/null)
    [ "${#noted[@]}" -gt 0 ] || return 0
    mapfile -t brought < <(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' \
        "${noted[@]}" 2>/dev/null | sed -n '/^not-installed /!s/.* //p')
    [ "${#brought[@]}" -gt 0 ] || return 0
    output=$(dpkg --purge "${brought[@]}" 2>&1) || [[ $output != *' lock '* ]] ||
        problem "another installation is at work (${output##*$'\n'}); wait for its end and run the same again"
    mapfile -t left < <(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' \
        "${brought[@]}" 2>/dev/null | sed -n 's/^installed //p')
    [ "${#left[@]}" -eq 0 ] || echo "these packages stay, since others need them: ${left[*]}"
}

users_back() {
    local name
    while read -r name; do
        ! getent passwd "$name" >/dev/null || userdel "$name"
    done < <(cat "$before/users" 2>/dev/null)
    while read -r name; do
        ! getent group "$name" >/dev/null || groupdel "$name"
    done < <(cat "$before/groups" 2>/dev/null)
}

detach() {
    local list step
    exec </dev/null
    alone
    # A role's services end before the runtime of its containers, and all of them before their keys go.
    for step in nodes add-ons node control-plane runtime etcd identity ready; do
        [ ! -f "$lists/$step" ] || only "$step"
    done
    for list in "$lists"/*; do
        [ ! -f "$list" ] || only "${list##*/}"
    done
    # shellcheck disable=SC2086 # several paths
    without_data $data
    settings_back
    packet_size_back
    modules_back
    swap_back
    packages_back
    users_back
    rm -rf "${programs:?}"
    emptied "${programs%/*}"
    trap - EXIT
    # The notes go last of all, and the key when nothing is left to be done.
    find "$state" -mindepth 1 -maxdepth 1 ! -name before -exec rm -rf {} +
    sync
    rm -rf "$state"
    unauthorize "$user" "$mark"
    sync
}

detach
