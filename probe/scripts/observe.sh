#!/bin/bash
# observe.sh: reports the state of the items on standard input. Each line has, with tabs between them, an
# item's kind, its name and, for an artifact or SSH keys, its mark or, for a Node object, a kubeconfig;
# "services" means all services that a step started. Prints a fact on each line and a last line that these
# were all. Writes nothing, and reads no artifact whose mark still fits. One process reads all files and one
# all services, since an emulated machine takes long to start a process.

export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

paths=() sums=() units=() packages=() programs=() jobs=
declare -A marks=() files=()

# marked KIND NAME: print each line of the input as a fact
marked() {
    while read -r line; do printf '%s\t%s\t%s\n' "$1" "$2" "$line"; done
}

built_in() {
    grep --quiet --fixed-strings "/${1//_/-}.ko" "/lib/modules/$(uname -r)/modules.builtin" 2>/dev/null ||
        grep --quiet --fixed-strings "/$1.ko" "/lib/modules/$(uname -r)/modules.builtin" 2>/dev/null
}

# node_answer KUBECONFIG NODE: print the API's answer to a request for a Node object, and its HTTP status;
# 000 if there is none. The kubeconfig names files and has each setting on its own line.
node_answer() {
    local word value
    local -A named=()
    while read -r word value; do
        case $word in
        server: | certificate-authority: | client-certificate: | client-key:) named[$word]=$value ;;
        esac
    done <"$1"
    curl --silent --max-time 20 --user-agent hardway --write-out '\n%{http_code}' \
        --cacert "${named[certificate-authority:]}" --cert "${named[client-certificate:]}" \
        --key "${named[client-key:]}" "${named[server:]}/api/v1/nodes/$2" </dev/null
}

# Services that systemd has restarted by itself are read a second time, to see whether it restarts them
# again in between. Those that have run for a minute since, as after a boot, are left out. A service that
# ends at once is started every two seconds.
again=() between=8 id='' sub='' restarts=0 entered=0 now=0
look_again() {
    if [ -n "$id" ] && [[ $sub == auto-restart* || $restarts != 0 ]]; then
        [[ $sub == running && $((${now%.*} - entered / 1000000)) -gt 60 ]] || again+=("$id")
    fi
    id='' sub='' restarts=0 entered=0
}

while IFS=$'\t' read -r kind name mark; do
    case $kind in
    file) paths+=("$name") files[$name]=yes ;;
    directory | link | role) paths+=("$name") ;;
    artifact) paths+=("$name") marks[$name]=$mark ;;
    service) units+=("$name") ;;
    services) for mark in /var/lib/hardway/running/*.{service,timer}; do
        [ ! -e "$mark" ] || units+=("${mark##*/}")
    done ;;
    'masked unit') units+=("$name") ;;
    package) packages+=("$name") ;;
    'kernel module')
        if [ -d "/sys/module/$name" ] || built_in "$name"; then printf 'module\t%s\n' "$name"; fi
        ;;
    'VXLAN device')
        if { read -r address <"/sys/class/net/$name/address"; } 2>/dev/null; then
            printf 'device\t%s\t%s\n' "$name" "$address"
            ip -4 route show dev "$name" | marked route "$name"
            ip -4 neighbour show dev "$name" nud permanent | marked neighbour "$name"
            bridge fdb show dev "$name" | marked forwarded "$name"
        fi
        ;;
    'Node object')
        value=$(node_answer "$mark" "$name") || true
        [[ $value != *$'\n'404 ]] || printf 'gone\t%s\n' "$name"
        [[ $value != *'"hardway/rolling":"'* ]] || printf 'rolling\t%s\n' "$name"
        ;;
    'SSH keys that log in as')
        IFS=: read -r _ _ _ _ _ home _ < <(getent passwd "$name") || continue
        while IFS= read -r line || [ -n "$line" ]; do
            [ "${line##* }" != "$mark" ] || printf 'login\t%s\t%s\n' "$name" "$line"
        done < <(cat "$home/.ssh/authorized_keys" 2>/dev/null)
        ;;
    'kernel setting')
        if { read -r value <"/proc/sys/${name//.//}"; } 2>/dev/null; then
            printf 'setting\t%s\t%s\n' "$name" "$value"
        fi
        ;;
    esac
done

if [ "${#paths[@]}" -gt 0 ]; then
    # find fails where a path is missing, but prints the others.
    while IFS=$'\t' read -r type mode owner size time path target; do
        printf 'path\t%s\t%s\t%s\t%s\t%s\t%s\n' "$path" "$type" "$mode" "$owner" "$time" "$target"
        [ "$type" = f ] || continue
        mark=${marks[$path]-}
        if [ -n "$mark" ]; then
            # The prelude's mark has nine digits after the point, and find prints ten.
            if { read -r noted <"/var/lib/hardway/store/verified/$mark"; } 2>/dev/null &&
                [ "$noted" = "$size ${time%?}" ]; then
                printf 'verified\t%s\n' "$path"
                continue
            fi
            sums+=("$path")
        elif [ -n "${files[$path]-}" ]; then
            sums+=("$path")
        fi
    done < <(find "${paths[@]}" -maxdepth 0 -printf '%y\t%m\t%u:%g\t%s\t%T@\t%p\t%l\n' 2>/dev/null)
fi

if [ "${#sums[@]}" -gt 0 ]; then
    while read -r sum path; do
        printf 'sum\t%s\t%s\n' "$path" "$sum"
    done < <(sha256sum "${sums[@]}" 2>/dev/null)
fi

if [ "${#units[@]}" -gt 0 ]; then
    names=Id,Job,LoadState,UnitFileState,ActiveState,MainPID
    names+=,ExecMainStartTimestamp,NeedDaemonReload,DropInPaths
    names+=,SubState,NRestarts,ExecMainStatus,ActiveEnterTimestampMonotonic
    read -r now _ </proc/uptime
    while IFS= read -r line; do
        printf 'unit\t%s\n' "$line"
        case $line in
        '') look_again ;;
        Id=*) id=${line#*=} ;;
        SubState=*) sub=${line#*=} ;;
        NRestarts=*) restarts=${line#*=} ;;
        ActiveEnterTimestampMonotonic=*) entered=${line#*=} ;;
        Job=?*) jobs=some ;;
        MainPID=0) ;;
        MainPID=*) programs+=("/proc/${line#*=}/exe") ;;
        esac
    done < <(systemctl show --timestamp=us+utc --property="$names" "${units[@]}")
    look_again
    [ "${#programs[@]}" -eq 0 ] ||
        find "${programs[@]}" -maxdepth 0 -printf 'program\t%p\t%l\n' 2>/dev/null || true
    if [ "${#again[@]}" -gt 0 ]; then
        sleep "$between"
        while IFS= read -r line; do
            case $line in
            Id=*) id=${line#*=} ;;
            NRestarts=*) restarts=${line#*=} ;;
            '') printf 'restarts\t%s\t%s\n' "$id" "$restarts" ;;
            esac
        done < <(systemctl show --property=Id,NRestarts "${again[@]}" && echo)
    fi
    [ -z "$jobs" ] || systemctl list-jobs --no-legend --plain |
        while read -r _ unit type _; do printf 'job\t%s\t%s\n' "$unit" "$type"; done
fi

if [ "${#packages[@]}" -gt 0 ]; then
    dpkg-query --show --showformat 'package\t${Package}\t${db:Status-Status}\n' "${packages[@]}" \
        2>/dev/null || true
fi

echo 'these were all'
