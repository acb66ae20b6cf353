# shellcheck shell=bash
# shellcheck disable=SC2154 # prelude.sh is read before this text
# Takes away what a step brought to the machine and brings no more. What another step brought as well
# stays, and so does what somebody else put into a directory. Logs stay, and what users have stored.

# The things of each step, one in a line: its kind and its name, such as "unit kubelet.service". A list
# names a thing before the thing is made and until it is gone, so a run that was cut off goes on where
# it was.
lists=$state/applied

# keep_list STEP THING...: without things the list goes
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

# only STEP THING...: of what the step brought, the machine has these things and no others
only() {
    local step=$1 thing line had=() gone=() IFS=$'\n'
    shift
    [ ! -f "$lists/$step" ] || mapfile -t had <"$lists/$step"
    [ "${had[*]}" != "$*" ] || return 0
    unset IFS
    local -A wanted=() of_others=() paths=()
    for thing; do
        # A path that is of another kind now is no path that is gone.
        wanted[$thing]=yes paths[${thing#* }]=yes
    done
    for line in "$lists"/*; do
        [ ! -f "$line" ] || [ "$line" = "$lists/$step" ] || while read -r thing; do
            of_others[$thing]=yes
        done <"$line"
    done
    for thing in "${had[@]}"; do
        [ -n "${wanted[$thing]-}${of_others[$thing]-}" ] || [ -n "${paths[${thing#* }]-}" ] ||
            gone+=("$thing")
    done
    keep_list "$step" "$@" "${gone[@]}"
    [ "${#gone[@]}" -eq 0 ] || taken_away "${gone[@]}"
    keep_list "$step" "$@"
}

# taken_away THING...: a service first, while its files are there; then files, with the directories that
# were made for them
taken_away() {
    local thing name said reload=''
    for thing; do
        name=${thing#* }
        case $thing in
        unit*) [ ! -e "$system/$name" ] || unit_taken_away "$name" && reload=yes ;;
        esac
    done
    for thing; do
        name=${thing#* }
        case $thing in
        secret*) [ ! -f "$name" ] || shred --remove "$name" ;;
        file*) [ -d "$name" ] || rm -f "$name" ;;
        link*) [ ! -L "$name" ] || rm "$name" ;;
        masked*)
            [ "$(readlink "$system/$name")" != /dev/null ] || rm "$system/$name"
            reload=yes
            ;;
        esac
    done
    for thing; do
        case $thing in
        directory*) emptied "${thing#* }" ;;
        file* | secret* | link*) emptied "$(dirname "${thing#* }")" ;;
        esac
    done
    [ -z "$reload" ] || systemctl daemon-reload
}

# emptied DIRECTORY: removes it, and those above it that are empty then, unless a step or the
# distribution has it: a package, or its first installation, which makes / and /usr/local
emptied() {
    local directory=$1
    while [[ $directory == /*/* && ${directory%/*} != /usr/local ]]; do
        [ -z "${wanted[directory $directory]-}${of_others[directory $directory]-}" ] || return 0
        [ -z "$(ls -A "$directory" 2>/dev/null)" ] || return 0
        if [ -d "$directory" ]; then
            ! dpkg-query --search "$directory" >/dev/null 2>&1 || return 0
            rmdir "$directory" 2>/dev/null || return 0
        fi
        directory=${directory%/*}
    done
}

# unit_taken_away NAME
unit_taken_away() {
    local said
    before_end "$1"
    said=$(systemctl disable --now "$1" 2>&1) || problem "$1 cannot be stopped: $said"
    systemctl reset-failed "$1" 2>/dev/null || true
    after_end "$1"
    rm -rf "${system:?}/$1" "${system:?}/$1.d" "$state/running/$1"
}

# -- what programs leave behind that ran here ------------------------------------------------------

# before_end UNIT: while the service runs
before_end() {
    case $1 in
    containerd.service) containers_ended ctr ;;
    docker.service) containers_ended docker ;;
    esac
}

# after_end UNIT: once the service has ended, while its files are there
after_end() {
    case $1 in
    kube-proxy.service) without_proxy_rules ;;
    flanneld.service) without_flannel ;;
    kubelet.service)
        without_rules KUBE-
        without_data /var/lib/kubelet
        ;;
    containerd.service)
        without_networks
        without_data /var/lib/containerd /run/containerd
        ;;
    docker.service)
        without_networks
        without_data /var/lib/docker /run/docker "$state/images"
        ;;
    esac
}

# containers_ended ctr|docker: those of pods; the kubelet has ended before, which would start them anew
containers_ended() {
    local each
    if [ "$1" = docker ]; then
        for each in $(curl --silent --unix-socket /run/docker.sock \
            'http://docker/containers/json?all=true' | grep --only-matching '"Id": *"[^"]*"' |
            cut --delimiter='"' --fields=4); do
            curl --silent --output /dev/null --request DELETE --unix-socket /run/docker.sock \
                "http://docker/containers/$each?force=true"
        done
        return
    fi
    for each in $(ctr --namespace k8s.io tasks list --quiet); do
        ctr --namespace k8s.io tasks delete --force "$each" >/dev/null 2>&1 || true
    done
}

# without_proxy_rules: kube-proxy knows its own rules
without_proxy_rules() {
    local said
    said=$(kube-proxy --cleanup 2>&1) || echo "kube-proxy's rules stay until the next boot: ${said##*$'\n'}"
}

# without_flannel: its device and its rules, which have its name
without_flannel() {
    local device
    for device in /sys/class/net/flannel.*; do
        [ ! -e "$device" ] || ip link delete "${device##*/}"
    done
    without_rules flannel
    without_tables 'flannel*'
    rm -rf /run/flannel /etc/cni/net.d/*flannel*
}

# without_rules WORD: iptables has no rule and no chain with this word
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

# without_tables PATTERN: those of nftables with such a name
without_tables() {
    local family name
    [ -x /usr/sbin/nft ] || return 0
    while read -r _ family name; do
        # shellcheck disable=SC2053 # a pattern
        [[ $name != $1 ]] || nft delete table "$family" "$name"
    done < <(nft list tables 2>/dev/null)
}

# without_networks: those of pods
without_networks() {
    local name
    for name in /run/netns/cni-*; do
        [ ! -e "$name" ] || ip netns delete "${name##*/}" || true
    done
    [ ! -e /sys/class/net/cni0 ] || ip link delete cni0
    without_tables 'cni*'
    rm -rf /var/lib/cni
}

# without_data FOLDER...: with what is mounted in it
without_data() {
    local folder place
    for folder; do
        while read -r _ place _; do
            [[ $place != "$folder"/* ]] || umount --lazy "$place" 2>/dev/null || true
        done < <(tac /proc/mounts)
        rm -rf "$folder"
    done
}
