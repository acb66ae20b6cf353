#!/bin/bash
# restore.sh ACTION ARGUMENT...: a part of ./hardway restore on this machine. Each action brings about a
# state and can be repeated, whatever happened before. Nothing is deleted before "finished": what was in
# a member's place is moved aside.

export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umask 077
action=$1
shift

# problem TEXT: end as failed for this reason
problem() {
    echo "failed: $*" >&2
    exit 1
}

# The lock of the steps: an update must not start again what is stopped here.
exec {lock}>/var/lib/hardway/lock
flock --timeout 600 "$lock" || problem 'an update has been at work here for ten minutes'

case $action in
receive) # DATA SIZE SHA256: keep the snapshot from the standard input beside the member's data
    aside=$1/restore
    [ -d "$1" ] || install -d -m 0700 -o etcd -g etcd "$1"
    rm -rf "$aside/new" "$aside/snapshot.db" # of a restore that was cut off; they count as room
    read -r room < <(df --block-size=1 --output=avail "$1" | tail --lines=1)
    # The snapshot, and the database that is made of it.
    [ "$room" -ge $((2 * $2 + 104857600)) ] || problem "the disk has $((room / 1048576)) MiB left, and the" \
        "snapshot takes twice $(($2 / 1048576)) MiB and 100 MiB; data from before earlier restores may" \
        "be in $aside"
    install -d -m 0700 "$aside"
    cat >"$aside/snapshot.db"
    sum=$(sha256sum "$aside/snapshot.db")
    [ "${sum%% *}" = "$3" ] || problem 'the snapshot did not come whole'
    ;;
prepare) # DATA ETCDUTL NAME PEER MEMBERS TOKEN FLAG...: make a member's data of the snapshot, beside its
    # data. ETCDUTL is the plan's program, for a machine that has no command of that name yet
    aside=$1/restore
    rm -rf "$aside/new"
    program=$(type -P etcdutl) || program=$2
    output=$("$program" snapshot restore "$aside/snapshot.db" --data-dir "$aside/new" --name "$3" \
        --initial-advertise-peer-urls "$4" --initial-cluster "$5" --initial-cluster-token "$6" \
        "${@:7}" 2>&1) || problem "etcdutl does not restore the snapshot (${output##*$'\n'})"
    chown -R --reference="$1" "$aside/new"
    sync --file-system "$aside"
    ;;
stop) # UNIT...: stop services that there are, in this order
    for unit; do
        [ -e "/etc/systemd/system/$unit" ] || continue
        output=$(systemctl stop "$unit" 2>&1) || problem "$unit cannot be stopped: $output"
    done
    ;;
swap) # DATA: put the new data in the member's place, and what was there aside
    aside=$1/restore
    if [ -d "$aside/new/member" ]; then
        [ "$(systemctl is-active etcd.service)" != active ] || problem 'etcd runs again'
        [ ! -e "$1/member" ] || mv --no-target-directory "$1/member" "$aside/before-$(date +%s%N)"
        mv --no-target-directory "$aside/new/member" "$1/member"
        sync --file-system "$1"
        rm -rf "$aside/new" "$aside/snapshot.db" /run/hardway/etcd-removed /run/hardway/etcd-first-start
    fi
    ;;
start) # UNIT...: start services that there are, without waiting for them
    for unit; do
        [ -e "/etc/systemd/system/$unit" ] || continue
        systemctl reset-failed "$unit" 2>/dev/null || true
        output=$(systemctl --no-block restart "$unit" 2>&1) || problem "$unit cannot be started: $output"
    done
    ;;
encryption) # FILE: put the keys of Secrets from the standard input in the file's place
    cat >"$1.new"
    sync "$1.new"
    mv --force "$1.new" "$1"
    ;;
forget) # PREFIX AUTHORITY CERTIFICATE KEY ENDPOINTS: delete what stands below a prefix in etcd
    output=$(etcdctl --cacert="$2" --cert="$3" --key="$4" --endpoints="$5" --command-timeout=60s \
        del --prefix "$1" 2>&1) || problem "etcd does not forget $1 (${output##*$'\n'})"
    ;;
left) # DATA: print the database of this machine's member, as etcd has it or, where it has no leader, its file
    if [ "$(systemctl is-active etcd.service)" = inactive ]; then
        systemctl --no-block start etcd.service 2>/dev/null && sleep 10
    fi
    # Also where the connection breaks in the middle.
    trap 'systemctl --no-block start etcd.service >&2' EXIT
    # An end of the service has everything in the file that the member had confirmed.
    systemctl stop etcd.service >&2
    [ -s "$1/member/snap/db" ] || problem "etcd's data is gone from here ($1/member/snap/db)"
    cat "$1/member/snap/db"
    ;;
finished) # DATA: delete what was kept aside
    rm -rf "$1/restore"
    ;;
esac
