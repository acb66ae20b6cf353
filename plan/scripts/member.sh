# shellcheck shell=bash
# shellcheck disable=SC2154 # pace.sh stands before this text
# Whether a member of etcd may start. Its data is what it has confirmed: a member that lost it and
# starts empty under its old identity votes as if it had confirmed nothing.

# member UNIT NAME PEER READY DATA MARKER ONCE REMOVED ETCDCTL AUTHORITY CERTIFICATE KEY OTHER...: the
# member has its data, or has never answered, or the others have removed it: then it joins them with
# nothing. Else it is refused, before anything is made or started.
member() {
    local unit=$1 name=$2 ready=$4 data=$5 said lost
    member_self=$2 member_peer=$3 member_marker=$6 member_once=$7 member_removed=$8
    member_consistency=s # whoever answers, with a quorum or without
    member_trust=("${@:9:4}")
    member_others=("${@:13}")
    if has_log "$data"; then
        [ ! -e "$member_once" ] || rm -f "$member_once"
        if [ "${#member_others[@]}" -eq 0 ] || is_ready "$ready" || ! removed "$data"; then
            [ ! -e "$member_removed" ] || rm -f "$member_removed"
            return 0
        fi
        echo "etcd's other members have removed $name (its data is of the member $own_id, which their" \
            "list no longer has): its data is deleted, and it joins them anew"
        said=$(systemctl stop "$unit" 2>&1) ||
            problem "$unit cannot be stopped, so the removed member's data was not deleted: $said"
        answered_once
        rm -rf "$data/member"
        member_consistency=l # who lags behind may list it still
    fi
    lost="etcd's data is gone from $name ($data/member/wal has no log), and this member has \
answered before: with nothing in it, it would take part as if it had never confirmed a write, and such \
writes can be lost while every member says that it is healthy; bring the directory back"
    if ! listed; then
        [ -e "$member_marker" ] || return 0 # the first start
        [ "${#member_others[@]}" -eq 0 ] || problem \
            "$lost, or run this again when another member answers, which is how it can be replaced"
        problem "$lost, or restore a snapshot into it (etcdutl snapshot restore), or, where the \
cluster may begin with nothing, remove $member_marker and run this again"
    fi
    if [ -n "$member_id" ] && [ -n "$member_name" ]; then
        # Who is listed and was never reached is of the first members, which come up together.
        [ -n "$member_reached" ] || [ -e "$member_marker" ] || return 0
        ! has_log "$data" || return 0 # it came up for the first time while the others were asked
        # Others know it though nothing here does, as on a new disk: systemd must not start it either.
        answered_once
        problem "$lost, or replace the member: $(removal "$member_id")"
    fi
    echo "$name joins etcd's other members anew"
    systemctl stop "$unit" 2>/dev/null || true # it may not be there yet
    answered_once
    await member-added "etcd's members take $name in" "$unit" added
    listed || problem "etcd's members do not say any more who they are; run this again"
    rm -rf "$data/member" # what is left of a member that was removed
    rm -f "$member_removed"
    install -d -m 0700 "${member_once%/*}"
    file 0600 root:root "$member_once" \
        "ONCE=\"--initial-cluster-state=existing --initial-cluster=$member_all\""$'\n'
}

# removal ID: what to do so that the member with this ID is made anew
removal() {
    echo "on another member's machine run 'etcdctl --endpoints=$(joined , "${member_others[@]}")" \
        "--cacert=${member_trust[1]} --cert=${member_trust[2]} --key=${member_trust[3]} member remove" \
        "$1', then this again, which makes the member anew from the others"
}

# is_ready URL: the member answers with a quorum behind it, as no member does that was removed
is_ready() {
    curl --silent --fail --max-time 20 --output /dev/null "$1"
}

# removed DATA: the others have taken this member out of the cluster, which is for ever: no ID is given
# twice. Only a quorum of the very cluster knows that: a member that is cut off may have a list of
# before this one came. Where what they say can mean anything else, it is refused.
removed() {
    local other said answered='' doubt=''
    own_ids "$1" || own_id=''
    for other in "${member_others[@]}"; do
        listens "$other" || continue
        said=$(others_ctl "$other" member list --consistency=l --hex --write-out=fields 2>/dev/null) ||
            continue
        answered=yes said=$'\n'$said$'\n'
        if [ -z "$own_id" ]; then
            [[ $said != *'"PeerURL" : "'"$member_peer"'"'* ]] || return 1
            doubt="etcd's other members do not list $member_self, and $1/member/wal does not say of \
which member it is, so nothing of it was deleted; if this member was removed, move $1/member away and \
run this again, which makes the member anew from the others"
        elif [[ $said != *$'\n"ClusterID" : '"$own_cluster"$'\n'* ]]; then
            doubt="etcd's data on $member_self is of another cluster ($own_cluster) than the other \
members, as where a restore left this machine out; nothing of it was deleted; if it is given up, move \
$1/member away and run this again"
        elif [[ $said == *$'\n"ID" : '"$own_id"$'\n'* ]]; then
            return 1
        elif [[ $said == *'"PeerURL" : "'"$member_peer"'"'* ]]; then
            doubt="etcd's other members list $member_peer under another ID than the data of \
$member_self has ($own_id), as where it was removed and added by hand; nothing was deleted; find its ID \
with etcdctl member list, and $(removal "<ID>")"
        fi
    done
    if [ -z "$answered" ]; then
        [ ! -e "$member_removed" ] || problem "etcd has said that $member_self was removed from its \
cluster, and no other member answers with a quorum behind it; nothing was deleted; run this again when \
one answers"
        return 1
    fi
    [ -z "$doubt" ] || problem "$doubt"
}

# own_ids DATA: sets own_id and own_cluster, which etcd's log names at the beginning of each file (wal
# and walpb of its server): the second record is of the type 1, and its data are the two numbers.
own_ids() {
    local logs bytes place=0 value
    logs=("$1"/member/wal/*.wal)
    mapfile -t bytes < <(od --address-radix=n --format=u1 --width=1 --output-duplicates \
        --read-bytes=128 "${logs[-1]}" | tr --delete ' ')
    # A record's length, of 8 bytes of which the last one says how many are added to it.
    [ "${#bytes[@]}" -eq 128 ] || return
    place=$((8 + bytes[0] + (bytes[7] & 7) + 8))
    field 1 && [ "$value" = 1 ] && field 2 && field 3 || return
    field 1 || return
    printf -v own_id %x "$value"
    field 2 || return
    printf -v own_cluster %x "$value"
}

# field NUMBER: sets value to the number in the field of a protobuf message that is at place of bytes,
# or to the length of its data, and place behind it
field() {
    local bits byte=${bytes[place++]-}
    value=0
    [ "$((byte >> 3))" -eq "$1" ] || return
    for ((bits = 0; bits < 70; bits += 7)); do
        byte=${bytes[place++]-}
        [ -n "$byte" ] || return
        value=$((value | (byte & 127) << bits))
        [ "$byte" -ge 128 ] || return 0
    done
    return 1
}

# listens URL: first members, which start at once, need not wait for etcdctl to give each other up
listens() {
    local place=${1#*//}
    timeout 5 bash -c "true >/dev/tcp/${place%:*}/${place##*:}" 2>/dev/null
}

# others_ctl ENDPOINTS WORD...: etcdctl, asking these members
others_ctl() {
    ETCDCTL_ENDPOINTS=$1 ETCDCTL_CACERT=${member_trust[1]} ETCDCTL_CERT=${member_trust[2]} \
        ETCDCTL_KEY=${member_trust[3]} \
        "${member_trust[0]}" "--dial-timeout=$((5 * pace / 100))s" \
        "--command-timeout=$((10 * pace / 100))s" "${@:2}"
}

# has_log DATA: etcd finds what it wrote before
has_log() {
    compgen -G "$1/member/wal/*.wal" >/dev/null
}

# joined SEPARATOR WORD...
joined() {
    local IFS=$1
    echo "${*:2}"
}

# answered_once: the member has answered, so it must never start without its data
answered_once() {
    file 0600 root:root "$member_marker" $'the member of etcd on this machine has answered\n'
}

# listed: whoever of the others answers says who the members are: all of them, and this one
listed() {
    local list id name peer clients other up=()
    member_id='' member_name='' member_reached='' member_all=''
    for other in "${member_others[@]}"; do
        ! listens "$other" || up+=("$other")
    done
    [ "${#up[@]}" -gt 0 ] || return
    list=$(others_ctl "$(joined , "${up[@]}")" member list \
        "--consistency=$member_consistency" 2>/dev/null) || return
    while IFS=, read -r id _ name peer clients _; do
        # A member that was added and never started has no name.
        name=${name# } peer=${peer# } clients=${clients# }
        if [ "$peer" = "$member_peer" ]; then
            member_id=$id member_name=$name member_reached=$clients
            name=$member_self
        fi
        member_all+=${member_all:+,}${name:-$id}=$peer
    done <<<"$list"
}

# added: the others have this member, which may only learn until it is promoted
added() {
    listed || return
    [ -z "$member_id" ] || return 0
    others_ctl "$(joined , "${member_others[@]}")" \
        member add "$member_self" --learner "--peer-urls=$member_peer"
}

# promoted: the member that has caught up votes. Only the leader does that: what another member passes
# on to it has no user with it (etcd 3.7.1).
promoted() {
    local other
    listed || return
    for other in "${member_others[@]}"; do
        ! others_ctl "$other" member promote "$member_id" || return 0
    done
    return 1
}
