# shellcheck shell=bash
# shellcheck disable=SC2154 # prelude.sh is read before this text
# Removes what a step brought to the machine earlier and brings no longer. What another step brings as
# well stays, and so do files that somebody else put into a directory, logs, and the data of users.

# The directory with a list for each step of what it brought: a line has a kind and a name, such as
# "unit kubelet.service". The list names an item before the item is made and until it is removed, so the
# next run can finish what a run did not that was cut off.
lists=$state/applied

# keep_list STEP THING...: write the list of a step; without things, delete it
keep_list() {
    if [ "$#" -gt 1 ]; then
        [ -d "$lists" ] || install -d -m 0700 "$lists"
        printf '%s\n' "${@:2}" >"$lists/.$1"
        sync "$lists/.$1"
        mv --force "$lists/.$1" "$lists/$1"
    else
        rm -f "$lists/$1"
    fi
}

# only STEP THING...: remove what the step brought earlier and these things do not include
only() {
    local step=$1 thing line had=() gone=() IFS=$'\n'
    shift
    [ ! -f "$lists/$step" ] || mapfile -t had <"$lists/$step"
    [ "${had[*]}" != "$*" ] || return 0
    unset IFS
    local -A wanted=() of_others=() paths=() old=()
    for thing; do
        # A path that only has another kind now must not be removed.
        wanted[$thing]=yes paths[${thing#* }]=yes
    done
    for line in "$lists"/*; do
        [ ! -f "$line" ] || [ "$line" = "$lists/$step" ] || while read -r thing; do
            of_others[$thing]=yes
        done <"$line"
    done
    for thing in "${had[@]}"; do
        old[${thing#* }]=yes
        [ -n "${wanted[$thing]-}${of_others[$thing]-}" ] || [ -n "${paths[${thing#* }]-}" ] ||
            gone+=("$thing")
    done
    for thing; do
        [ -n "${old[${thing#* }]-}${of_others[$thing]-}" ] || remember "$thing"
    done
    keep_list "$step" "$@" "${gone[@]}"
    [ "${#gone[@]}" -eq 0 ] || taken_away "${gone[@]}"
    keep_list "$step" "$@"
    forget "${gone[@]}"
}

# taken_away THING...: remove services first, while their files are there
taken_away() {
    local kind thing reload=''
    for kind in unit masked secret file link directory; do
        for thing; do
            [[ $thing != "$kind "* ]] || "${kind}_gone" "${thing#* }"
        done
    done
    [ -z "$reload" ] || systemctl daemon-reload
    for thing; do
        [[ $thing != @(unit|masked)\ * ]] || as_before "${thing#* }"
    done
}

# unit_gone NAME: stop and disable a service, and remove its unit and what it left behind. Somebody may
# have removed or masked the unit while the service runs on, and then systemctl disables nothing. The note
# on the service goes last, since it says until then that there is something to do.
unit_gone() {
    local output
    reload=yes
    [ -e "$system/$1" ] || [ -e "$state/running/$1" ] ||
        [[ $(systemctl is-active "$1") != @(inactive|failed|unknown) ]] || return 0
    before_end "$1"
    output=$(systemctl stop "$1" 2>&1) || [[ $output == *' not loaded.' ]] ||
        problem "$1 cannot be stopped: $output"
    systemctl reset-failed "$1" 2>/dev/null || true
    after_end "$1"
    rm -f "$system"/*.wants/"$1"
    rm -rf "${system:?}/$1.d"
    settings_beside "$1"
    put_back "$system/$1" || rm -rf "${system:?}/$1"
    rm -f "$state/running/$1"
    [ "$1" != systemd-timesyncd.service ] || [ -f "$before/units/$1" ] || as_distributed "$1"
}

# masked_gone NAME: a service of the distribution may run again
masked_gone() {
    reload=yes
    put_back "$system/$1" || [ "$(readlink "$system/$1")" != /dev/null ] || rm "$system/$1"
}

# secret_gone PATH: overwrite the file before it is removed
secret_gone() {
    [ ! -f "$1" ] || shred "$1"
    put_back "$1" || rm -f "$1"
    emptied "${1%/*}"
}

# file_gone PATH
file_gone() {
    [ -d "$1" ] || put_back "$1" || rm -f "$1"
    emptied "${1%/*}"
}

# link_gone PATH
link_gone() {
    put_back "$1" || [ ! -L "$1" ] || rm "$1"
    emptied "${1%/*}"
}

# directory_gone PATH: unless somebody else has put something into it
directory_gone() {
    was_there "$1" || emptied "$1"
}

# emptied DIRECTORY: remove it and those above it that are empty then. A directory stays that a step
# needs, that was there before the cluster, or that is the distribution's: of a package, or of its first
# installation, which makes those of / and /usr/local
emptied() {
    local directory=$1
    while [[ $directory == /*/* && ${directory%/*} != /usr/local ]]; do
        [ -z "${wanted[directory $directory]-}${of_others[directory $directory]-}" ] || return 0
        [ -z "$(ls -A "$directory" 2>/dev/null)" ] || return 0
        if [ -d "$directory" ]; then
            ! was_there "$directory" || return 0
            ! dpkg-query --search "$directory" >/dev/null 2>&1 || return 0
            rmdir "$directory" 2>/dev/null || return 0
        fi
        directory=${directory%/*}
    done
}

# as_distributed UNIT: have a service run by the unit that its package brought, as after its installation
as_distributed() {
    systemctl daemon-reload
    systemctl --quiet preset "$1" 2>/dev/null || true
    systemctl --no-block start "$1" 2>/dev/null || true
}

# -- what services leave behind --------------------------------------------------------------------

# before_end UNIT: clean up what only the running service can clean up
before_end() {
    case $1 in
    containerd.service) containers_ended ctr ;;
    docker.service) containers_ended docker ;;
    esac
}

# after_end UNIT: clean up once the service has ended, while its files are still there
after_end() {
    case $1 in
    kube-proxy.service) without_proxy_rules ;;
    flanneld.service) without_flannel ;;
    kubelet.service)
        without_rules KUBE-
        without_data /var/lib/kubelet
        ;;
    containerd.service)
        without_processes system.slice/containerd.service kubepods.slice
        without_networks
        without_data /var/lib/containerd /run/containerd /opt/containerd
        ;;
    etcd.service)
        # The folder itself may be a disk of its own.
        without_data /var/lib/etcd/member /var/lib/etcd/restore
        rm -f "$state/etcd-answered" /run/hardway/etcd-*
        ;;
    hardway-backup.timer)
        systemctl stop hardway-backup.service 2>/dev/null || true
        systemctl reset-failed hardway-backup.service 2>/dev/null || true
        without_data /var/lib/hardway-backups
        ;;
    docker.service)
        without_processes system.slice/docker.service kubepods.slice
        without_networks
        without_data /var/lib/docker /run/docker "$state/images"
        ;;
    esac
}

# containers_ended ctr|docker: end the containers of pods. The kubelet, which would start them anew, has
# ended before.
containers_ended() {
    local container
    if [ "$1" = docker ]; then
        for container in $(curl --silent --unix-socket /run/docker.sock \
            'http://docker/containers/json?all=true' | grep --only-matching '"Id": *"[^"]*"' |
            cut --delimiter='"' --fields=4); do
            curl --silent --output /dev/null --request DELETE --unix-socket /run/docker.sock \
                "http://docker/containers/$container?force=true"
        done
        return
    fi
    for container in $(ctr --namespace k8s.io tasks list --quiet); do
        ctr --namespace k8s.io tasks delete --force "$container" >/dev/null 2>&1 || true
    done
}

# without_processes GROUP...: end the processes in these control groups, such as containers that outlive their
# runtime
without_processes() {
    local group
    for group; do
        # shellcheck disable=SC2015 # the group may vanish meanwhile
        [ -w "/sys/fs/cgroup/$group/cgroup.kill" ] &&
            echo 1 2>/dev/null >"/sys/fs/cgroup/$group/cgroup.kill" || true
    done
}

# without_proxy_rules: have kube-proxy remove its own rules
without_proxy_rules() {
    local output
    output=$(kube-proxy --cleanup 2>&1) || echo "kube-proxy's rules stay until the next boot: ${output##*$'\n'}"
}

# without_flannel: remove flannel's device and its rules, which contain its name
without_flannel() {
    local device
    for device in /sys/class/net/flannel.*; do
        [ ! -e "$device" ] || ip link delete "${device##*/}"
    done
    without_rules flannel
    without_tables 'flannel*'
    rm -rf /run/flannel /etc/cni/net.d/*flannel* /etc/cni/net.d/10-hardway.conflist
}

# without_rules WORD: remove iptables' rules and chains that contain the word
without_rules() {
    local family table rules
    for family in ip ip6; do
        for table in mangle nat filter; do
            rules=$("${family}tables-save" --table "$table" 2>/dev/null) || continue
            [[ ${rules^^} == *"${1^^}"* ]] || continue
            grep --invert-match --ignore-case --regexp="$1" <<<"$rules" |
                "${family}tables-restore" --wait --table "$table" 2>/dev/null || true
        done
    done
}

# without_tables PATTERN: remove nftables' tables whose name matches the pattern
without_tables() {
    local family name
    [ -x /usr/sbin/nft ] || return 0
    while read -r _ family name; do
        # shellcheck disable=SC2053 # a pattern
        [[ $name != $1 ]] || nft delete table "$family" "$name"
    done < <(nft list tables 2>/dev/null)
}

# without_networks: remove the pods' network namespaces, bridge and rules
without_networks() {
    local name
    for name in /run/netns/cni-*; do
        [ ! -e "$name" ] || ip netns delete "${name##*/}" || true
    done
    [ ! -e /sys/class/net/cni0 ] || ip link delete cni0
    without_tables 'cni*'
    # Its pod was killed, so it took away no rule of its own (plan/addons/network_policy.py).
    without_tables kube-network-policies
    rm -rf /var/lib/cni
    # The runtime makes it anew where it is gone already.
    emptied /etc/cni/net.d
}

# without_data FOLDER...: remove the folders, after unmounting what is mounted in them. Those that were there
# before stay, and are emptied where they were empty before
without_data() {
    local folder mount kept
    for folder; do
        kept=''
        if was_there "$folder"; then
            was_empty "$folder" || continue
            kept=yes
        fi
        while read -r _ mount _; do
            [[ $mount != "$folder"/* ]] || umount --lazy "$mount" 2>/dev/null || true
        done < <(tac /proc/mounts)
        if [ -z "$kept" ]; then
            rm -rf "$folder"
        elif [ -d "$folder" ]; then
            find "$folder" -xdev -mindepth 1 ! -path "$folder/lost+found*" -delete
        fi
    done
}
