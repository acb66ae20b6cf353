# shellcheck shell=bash
# shellcheck disable=SC2154 # pace.sh stands before this text
# Whether a member of etcd may start. Its data is what it has confirmed: a member that lost it and
# starts empty under its old identity votes as if it had confirmed nothing.

# member UNIT NAME PEER DATA MARKER ONCE ETCDCTL AUTHORITY CERTIFICATE KEY OTHER...: the member has its
# data, or has never answered, or the others have removed it: then it joins them with nothing. Else it
# is refused, before anything is made or started.
member() {
    local unit=$1 name=$2 data=$4
    member_self=$2 member_peer=$3 member_marker=$5 member_once=$6
    member_trust=("${@:7:4}")
    member_others=("${@:11}")
    if has_log "$data"; then
        [ ! -e "$member_once" ] || rm -f "$member_once"
        return
    fi
    local lost="etcd's data is gone from $name ($data/member/wal has no log), and this member has \
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
        problem "$lost, or replace the member: on another member's machine run 'etcdctl \
--endpoints=$(joined , "${member_others[@]}") --cacert=${member_trust[1]} --cert=${member_trust[2]} \
--key=${member_trust[3]} member remove $member_id', then this again, which makes the member anew from \
the others"
    fi
    echo "$name joins etcd's other members anew"
    systemctl stop "$unit" 2>/dev/null || true # it may not be there yet
    answered_once
    await member-added "etcd's members take $name in" "$unit" added
    listed || problem "etcd's members do not say any more who they are; run this again"
    rm -rf "$data/member" # what is left of a member that was removed
    install -d -m 0700 "${member_once%/*}"
    file 0600 root:root "$member_once" \
        <<<"ONCE=\"--initial-cluster-state=existing --initial-cluster=$member_all\""
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
    file 0600 root:root "$member_marker" <<<"the member of etcd on this machine has answered"
}

# listed: whoever of the others answers says who the members are: all of them, and this one
listed() {
    local list id name peer clients other place up=()
    member_id='' member_name='' member_reached='' member_all=''
    # First members, which start at once, need not wait for etcdctl to give each other up.
    for other in "${member_others[@]}"; do
        place=${other#*//}
        ! timeout 5 bash -c "true >/dev/tcp/${place%:*}/${place##*:}" 2>/dev/null || up+=("$other")
    done
    [ "${#up[@]}" -gt 0 ] || return
    # From the member that answers, whether it has a quorum or not.
    list=$(others_ctl "$(joined , "${up[@]}")" member list --consistency=s 2>/dev/null) ||
        return
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
