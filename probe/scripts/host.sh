#!/bin/bash
# host.sh: reports what a machine is like before anything is brought to it, and changes nothing. Each line
# of standard input is a question: "path" and "disk" with a path, "pem" with a file of certificates, "package",
# "module" and "unit" with a name, "reach" with a machine's name, its address and a port; there are tabs between
# the parts.
# Prints a fact on each line and a last line that these were all. Without root's rights it prints what it
# can see.

export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# The parts of a fact have tabs between them.
fact() {
    local IFS=$'\t'
    printf '%s\n' "$*"
}

# lines KIND: print each line of the input as a fact
lines() {
    local line
    while read -r line; do fact "$1" "$line"; done
}

# content FILE: print the first line of a file; nothing where there is none
content() {
    head --lines 1 "$1" 2>/dev/null || true
}

# The whole script runs as root where that is possible, since each sudo looks up the host's name, and its
# use_pty reads what is meant for others. The argument of that run is the name of the user.
if [ "$(id --user)" -eq 0 ]; then
    fact root "${1:+sudo}" "${1-root}"
elif output=$(sudo -n true 2>&1 </dev/null); then
    exec sudo -n -- bash --norc -euo pipefail -c "$BASH_EXECUTION_STRING" probe "$(id --user --name)"
else
    fact root no "$(id --user --name)" "${output##*$'\n'}"
fi
fact clock "$(date +%s.%N)" "$(cut --delimiter ' ' --fields 1 /proc/uptime)"

# -- the system ------------------------------------------------------------------------------------

(
    # shellcheck disable=SC1091 # of the machine
    . /etc/os-release
    fact system "${ID-}" "${VERSION_ID-}" "${PRETTY_NAME-}"
) 2>/dev/null || true
fact kernel "$(uname --kernel-release)" "$(uname --machine)"
[ ! -d /run/systemd/system ] || fact systemd "$(systemctl --version | head --lines 1)"
for program in dpkg-query apt-get ip ss nft modprobe timeout; do
    if command -v "$program" >/dev/null; then fact program "$program"; fi
done
fact cgroup "$(stat --file-system --format %T /sys/fs/cgroup 2>/dev/null)" \
    "$(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null)"
tail --lines +2 /proc/swaps | while read -r path _ size used _; do fact swap "$path" "$size" "$used"; done
while read -r key value _; do
    case $key in MemTotal: | MemAvailable:) fact memory "${key%:}" "$value" ;; esac
done </proc/meminfo
fact processors "$(nproc)"

# -- names -----------------------------------------------------------------------------------------

fact hostname "$(uname --nodename)"
fact machine-id "$(content /etc/machine-id)"
fact product "$(content /sys/class/dmi/id/product_uuid)"
for path in /etc/resolv.conf /run/systemd/resolve/resolv.conf; do
    while read -r word value _; do
        [ "$word" != nameserver ] || fact name-server "$path" "$value"
    done < <(cat "$path" 2>/dev/null)
done

# -- the network -----------------------------------------------------------------------------------

ip -4 -oneline address show 2>/dev/null | while read -r _ interface _ address _; do
    fact address "$interface" "$address" "$(content "/sys/class/net/$interface/mtu")"
done || true
ip -4 route show default 2>/dev/null | lines route || true
ss --no-header --listening --numeric --tcp --udp --processes 2>/dev/null |
    while read -r protocol _ _ _ address _ process; do
        fact listener "$protocol" "$address" "$process"
    done || true
fact forwarding "$(content /proc/sys/net/ipv4/ip_forward)"
for path in /etc/sysctl.d/*.conf /run/sysctl.d/*.conf /usr/lib/sysctl.d/*.conf; do
    while IFS='= ' read -r key value _; do
        case $key in net[./]ipv4[./]ip_forward) fact sysctl "$path" "$value" ;; esac
    done < <(cat "$path" 2>/dev/null)
done

# -- the firewall ----------------------------------------------------------------------------------

if grep --quiet --ignore-case '^ENABLED=yes' /etc/ufw/ufw.conf 2>/dev/null; then fact firewall ufw; fi
if systemctl --quiet is-active firewalld 2>/dev/null; then fact firewall firewalld; fi
# Of the tables with a chain that drops what none of its rules accepts: such chains, and what is accepted.
nft list ruleset 2>/dev/null | awk '
    /^table / { table = $2 " " $3 }
    $1 == "chain" { chain = $2 }
    / hook (input|forward|output) / && /policy drop/ {
        hook = $0
        sub(/.* hook /, "", hook)
        sub(/ .*/, "", hook)
        drops[table] = drops[table] "chain\t" table "\t" chain "\t" hook "\n"
    }
    / accept/ && !/policy/ {
        rule = $0
        sub(/^[ \t]+/, "", rule)
        if (++count[table] <= 200) accepts[table] = accepts[table] "accepts\t" table "\t" rule "\n"
    }
    END { for (table in drops) printf "%s%s", drops[table], accepts[table] }' || true
# To ask for tables of the older kind would make them, so they are read only where they are there.
if grep --quiet filter /proc/net/ip_tables_names 2>/dev/null; then
    iptables-legacy --list-rules 2>/dev/null | while read -r option chain word rest; do
        case "$option $word" in
        '-P DROP') fact chain 'iptables-legacy filter' "$chain" "${chain,,}" ;;
        -A*) [[ $rest != *'-j ACCEPT'* ]] || fact accepts 'iptables-legacy filter' "$word $rest" ;;
        esac
    done || true
fi

# -- what runs already -----------------------------------------------------------------------------

units=(kubelet containerd docker cri-docker cri-dockerd crio etcd flanneld kube-apiserver
    kube-controller-manager kube-scheduler kube-proxy k3s k3s-agent rke2-server rke2-agent k0scontroller
    k0sworker snap.microk8s.daemon-kubelite snap.microk8s.daemon-containerd snap.k8s.kubelet)
id='' load=not-found state='' fragment=''
# noted: print the unit whose lines were read, if it is there
noted() {
    case $load in
    not-found | masked) ;;
    *) fact unit "$id" "$state" "$fragment" ;;
    esac
    id='' load=not-found state='' fragment=''
}
systemctl show --property Id,LoadState,ActiveState,FragmentPath "${units[@]/%/.service}" 2>/dev/null | {
    while IFS='=' read -r key value; do
        case $key in
        Id) id=$value ;;
        LoadState) load=$value ;;
        ActiveState) state=$value ;;
        FragmentPath) fragment=$value ;;
        '') noted ;;
        esac
    done
    noted
} || true
for path in /proc/[0-9]*/comm; do
    { read -r name <"$path"; } 2>/dev/null || continue
    case $name in
    kubelet | kube-apiserver | kube-controller | kube-scheduler | kube-proxy | etcd | flanneld | \
        containerd | dockerd | cri-dockerd | crio | k3s* | rke2* | k0s* | kubelite | calico-node)
        process=${path#/proc/}
        fact process "$name" "${process%/comm}"
        ;;
    esac
done

# -- the questions ---------------------------------------------------------------------------------

# reached MACHINE ADDRESS PORT: open a TCP connection, and report how that ended
reached() {
    local output status=0
    # shellcheck disable=SC2016 # the other shell's own arguments
    output=$(timeout 5 bash -c 'exec 3<>"/dev/tcp/$1/$2"' bash "$2" "$3" 2>&1) || status=$?
    case $status in
    0) output=open ;;
    124) output='no answer' ;;
    *) output=${output##*$'\n'} output=${output##*: } ;;
    esac
    fact reached "$1" "$3" "$output"
}

paths=() pems=() packages=() under_way=0
while IFS=$'\t' read -r question name address port; do
    case $question in
    path) paths+=("$name") ;;
    pem) pems+=("$name") ;;
    package) packages+=("$name") ;;
    module)
        if [ -d "/sys/module/$name" ] || modprobe --dry-run --quiet "$name" 2>/dev/null; then
            fact module "$name"
        fi
        ;;
    unit)
        state=$(systemctl is-active "$name" 2>/dev/null) || true
        enabled=$(systemctl is-enabled "$name" 2>/dev/null) || true
        fact own-unit "$name" "$state" "$enabled"
        ;;
    disk)
        path=$name
        while [ ! -e "$path" ]; do path=${path%/*} path=${path:-/}; done
        writable=no
        ! test -w "$path" || writable=yes
        df --portability --block-size 1024 "$path" 2>/dev/null | while read -r _ size _ free _ mount; do
            [ "$size" = 1024-blocks ] || fact disk "$name" "$mount" "$size" "$free" "$writable"
        done || true
        ;;
    reach)
        reached "$name" "$address" "$port" &
        under_way=$((under_way + 1))
        [ $((under_way % 32)) -ne 0 ] || wait
        ;;
    esac
done
wait
if [ "${#paths[@]}" -gt 0 ]; then
    find "${paths[@]}" -maxdepth 0 ! -empty -printf 'there\t%p\n' 2>/dev/null || true
fi
# A digest for each certificate, of its text with the last line's end.
for path in "${pems[@]}"; do
    [ -r "$path" ] || continue
    certificate=''
    while IFS= read -r line; do
        certificate+=$line$'\n'
        [[ $line == *-----END* ]] || continue
        digest=$(sha256sum <<<"${certificate%$'\n'}")
        fact pem "$path" "${digest%% *}"
        certificate=''
    done < <(cat "$path")
done
# Before its first update, apt knows nothing but what is installed.
if [ "${#packages[@]}" -gt 0 ] && compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null; then
    fact lists there
    apt-cache policy "${packages[@]}" 2>/dev/null | while read -r key value; do
        case $key in
        Installed:) installed=$value ;;
        Candidate:) fact package "$name" "$installed" "$value" ;;
        *:) [ -n "$value" ] || name=${key%:} ;;
        esac
    done || true
fi
echo "these were all"
