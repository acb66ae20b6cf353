# shellcheck shell=bash
# shellcheck disable=SC2154 # pace.sh stands before this text
# Decides whether a member of etcd may start. Its data contain all writes that it has confirmed. A member
# that lost them and starts empty under its old identity votes as if it had confirmed nothing.

# member UNIT NAME PEER READY DATA MARKER ONCE REMOVED ETCDCTL AUTHORITY CERTIFICATE KEY OTHER...: allow
# a member that has its data or that has never answered. Have a member that the others removed join them
# anew with an empty data directory. Refuse any other member, before anything is made or started.
member() {
    local unit=$1 name=$2 ready=$4 data=$5 output lost
    member_self=$2 member_peer=$3 member_marker=$6 member_once=$7 member_removed=$8
    member_consistency=s # accept the list of any member, also of one without a quorum
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
        output=$(systemctl stop "$unit" 2>&1) ||
            problem "$unit cannot be stopped, so the removed member's data was not deleted: $output"
        answered_once
        rm -rf "$data/member"
        member_consistency=l # a member that lags behind may still list the removed one
    fi
    lost="etcd's data is gone from $name ($data/member/wal has no log), and this member has \
answered before: with nothing in it, it would take part as if it had never confirmed a write, and such \
writes can be lost while every member says that it is healthy; bring the directory back"
    if ! listed; then
        [ -e "$member_marker" ] || return 0 # the first start
        [ "${#member_others[@]}" -eq 0 ] || problem \
            "$lost, or run this again when another member answers, which is how it can be replaced;" \
            "where no quorum is left, ./hardway restore brings etcd back"
        problem "$lost, or restore a backup (./hardway restore), or, where the \
cluster may begin with nothing, remove $member_marker and run this again"
    fi
    if [ -n "$member_id" ] && [ -n "$member_name" ]; then
        # A member that is listed and was never reached is one of the first, which start together.
        [ -n "$member_reached" ] || [ -e "$member_marker" ] || return 0
        ! has_log "$data" || return 0 # it came up for the first time while the others were asked
        # The others know it, but no file here does, as on a new disk: systemd must not start it either.
        answered_once
        problem "$lost, or replace the member: $(removal "$member_id")"
    fi
    echo "$name joins etcd's other members anew"
    systemctl stop "$unit" 2>/dev/null || true # the unit may not exist yet
    answered_once
    await member-added "etcd's members take $name in" "$unit" added
    listed || problem "etcd's members do not say any more who they are; run this again"
    rm -rf "$data/member" # what is left of a member that was removed
    rm -f "$member_removed"
    install -d -m 0700 "${member_once%/*}"
    file 0600 root:root "$member_once" \
        "ONCE=\"--initial-cluster-state=existing --initial-cluster=$member_all\""$'\n'
}

# removal ID: print the instruction with which a person has the member with this ID made anew
removal() {
    echo "on another member's machine run 'etcdctl --endpoints=$(joined , "${member_others[@]}")" \
        "--cacert=${member_trust[1]} --cert=${member_trust[2]} --key=${member_trust[3]} member remove" \
        "$1', then this again, which makes the member anew from the others"
}

# is_ready URL: whether the member is ready, which takes a quorum, so that no removed member is
is_ready() {
    curl --silent --fail --max-time 20 --output /dev/null "$1"
}

# removed DATA: whether the others have removed this member from the cluster. A removal is final, since no
# ID is given twice. Only a quorum of the same cluster can tell: a member that is cut off may have a list
# from before this member joined. Where the lists may mean something else, the step fails.
removed() {
    local endpoint output answered='' doubt=''
    own_ids "$1" || own_id=''
    for endpoint in "${member_others[@]}"; do
        listens "$endpoint" || continue
        output=$(others_ctl "$endpoint" member list --consistency=l --hex --write-out=fields 2>/dev/null) ||
            continue
        answered=yes output=$'\n'$output$'\n'
        if [ -z "$own_id" ]; then
            [[ $output != *'"PeerURL" : "'"$member_peer"'"'* ]] || return 1
            doubt="etcd's other members do not list $member_self, and $1/member/wal does not say of \
which member it is, so nothing of it was deleted; if this member was removed, move $1/member away and \
run this again, which makes the member anew from the others"
        elif [[ $output != *$'\n"ClusterID" : '"$own_cluster"$'\n'* ]]; then
            doubt="etcd's data on $member_self is of another cluster ($own_cluster) than the other \
members, as where a restore left this machine out; nothing of it was deleted; if it is given up, move \
$1/member away and run this again"
        elif [[ $output == *$'\n"ID" : '"$own_id"$'\n'* ]]; then
            return 1
        elif [[ $output == *'"PeerURL" : "'"$member_peer"'"'* ]]; then
            doubt="etcd's other members list $member_peer under another ID than the data of \
$member_self has ($own_id), as where it was removed and added by hand; nothing was deleted; find its ID \
with etcdctl member list, and $(removal "<ID>")"
        fi
    done
    if [ -z "$answered" ]; then
        [ ! -e "$member_removed" ] || problem "etcd has reported that $member_self was removed from its \
cluster, and no other member answers with a quorum behind it; nothing was deleted; run this again when \
one answers"
        return 1
    fi
    [ -z "$doubt" ] || problem "$doubt"
}

# own_ids DATA: set own_id and own_cluster, which stand at the beginning of each file of etcd's log (wal
# and walpb of its server): the second record has the type 1, and its data are the two numbers.
own_ids() {
    local logs bytes position=0 value
    logs=("$1"/member/wal/*.wal)
    mapfile -t bytes < <(od --address-radix=n --format=u1 --width=1 --output-duplicates \
        --read-bytes=128 "${logs[-1]}" | tr --delete ' ')
    # A record begins with its length in 8 bytes; the last of them also counts the padding.
    [ "${#bytes[@]}" -eq 128 ] || return
    position=$((8 + bytes[0] + (bytes[7] & 7) + 8))
    field 1 && [ "$value" = 1 ] && field 2 && field 3 || return
    field 1 || return
    printf -v own_id %x "$value"
    field 2 || return
    printf -v own_cluster %x "$value"
}

# field NUMBER: set value to the number in a protobuf field at position in bytes, or to the length of the
# field's data, and move position behind that number
field() {
    local bits byte=${bytes[position++]-}
    value=0
    [ "$((byte >> 3))" -eq "$1" ] || return
    for ((bits = 0; bits < 70; bits += 7)); do
        byte=${bytes[position++]-}
        [ -n "$byte" ] || return
        value=$((value | (byte & 127) << bits))
        [ "$byte" -ge 128 ] || return 0
    done
    return 1
}

# listens URL: whether a server accepts connections there. Without this check, first members, which start
# at the same time, would wait for etcdctl to give up the others.
listens() {
    local address=${1#*//}
    timeout 5 bash -c "true >/dev/tcp/${address%:*}/${address##*:}" 2>/dev/null
}

# others_ctl ENDPOINTS ARGUMENT...: run etcdctl for these members
others_ctl() {
    ETCDCTL_ENDPOINTS=$1 ETCDCTL_CACERT=${member_trust[1]} ETCDCTL_CERT=${member_trust[2]} \
        ETCDCTL_KEY=${member_trust[3]} \
        "${member_trust[0]}" "--dial-timeout=$((5 * pace / 100))s" \
        "--command-timeout=$((10 * pace / 100))s" "${@:2}"
}

# has_log DATA: whether etcd's log is in its data directory
has_log() {
    compgen -G "$1/member/wal/*.wal" >/dev/null
}

# joined SEPARATOR TEXT...: print the texts with the separator between them
joined() {
    local IFS=$1
    echo "${*:2}"
}

# answered_once: note that the member has answered, so that it never starts without its data
answered_once() {
    file 0600 root:root "$member_marker" $'the member of etcd on this machine has answered\n'
}

# listed: set the variables about all members and about this one, from the list of a member that answers
listed() {
    local list id name peer clients endpoint up=()
    member_id='' member_name='' member_reached='' member_all=''
    for endpoint in "${member_others[@]}"; do
        ! listens "$endpoint" || up+=("$endpoint")
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

# added: add this member to the cluster as a learner, if the others do not list it
added() {
    listed || return
    [ -z "$member_id" ] || return 0
    others_ctl "$(joined , "${member_others[@]}")" \
        member add "$member_self" --learner "--peer-urls=$member_peer"
}

# promoted: promote the member from learner to voter, once it has caught up. Only the leader can be asked:
# a request that another member forwards to it lacks the user (etcd 3.7.1).
promoted() {
    local endpoint
    listed || return
    for endpoint in "${member_others[@]}"; do
        ! others_ctl "$endpoint" member promote "$member_id" || return 0
    done
    return 1
}
