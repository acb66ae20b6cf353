# shellcheck shell=bash
# shellcheck disable=SC2154 # the prelude stands before this text
# The member answers with a quorum behind it; then, from any member and from all at once, flannel's
# network and the users are there.

unlocked

export ETCDCTL_ENDPOINTS=${endpoint:?}
export ETCDCTL_CACERT=${authority:?} ETCDCTL_CERT=${certificate:?} ETCDCTL_KEY=${private_key:?}

# etcdctl WORD...: its own five seconds for an answer are those of a quiet machine
etcdctl() {
    command etcdctl "--command-timeout=$((5 * pace / 100))s" "$@"
}

# together: the member answers with a quorum behind it; if it only learns still, it is promoted. With
# an alarm it answers, and no waiting ends the alarm.
together() {
    local said
    said=$(etcdctl endpoint health 2>&1) && return
    echo "$said"
    if [[ $said =~ 'Active Alarm(s): '([A-Z ]+) ]]; then
        echo "${BASH_REMATCH[1]}" >"$state/.alarm"
        return
    fi
    [[ $said != *learner* ]] || promoted
    return 1
}

[ ! -e "$state/.alarm" ] || rm -f "$state/.alarm"
await members "etcd's members agree (${members:?})" etcd.service together
answered_once
[ ! -e "${member_once:?}" ] || rm -f "$member_once"
if [ -e "$state/.alarm" ]; then
    read -r alarm <"$state/.alarm"
    [[ $alarm != *NOSPACE* ]] || problem "etcd has the alarm NOSPACE: a member's database is at its \
quota, and nothing can be written, also with a larger quota; ./hardway etcd-space shows the sizes and \
makes room (it compacts, defragments and then disarms the alarm)"
    problem "etcd has the alarm $alarm: a member's data differs from the others'; ./hardway etcd-space \
says which member it is, and that one is to be replaced"
fi

# written KEY VALUE: the key has this value
written() {
    local now
    now=$(etcdctl get --print-value-only "$1") || return
    [ "$now" = "$2" ] || etcdctl put "$1" "$2"
}

# made WORD...: a user or role is there, by us or by another member's step
made() {
    local said
    said=$(etcdctl "$@" 2>&1) && return
    [[ $said == *'name already exists'* ]] && return
    echo "$said"
    return 1
}

# settled PREFIX: authentication is on, and users and roles are as they should be
settled() {
    local pair
    # Not through a pipe to a reader that stops early: etcdctl's next line would end it, and this.
    [[ $(etcdctl auth status) == *'Status: true'* ]] || return
    [ "$(etcdctl role get flannel | grep --count "(prefix $1)")" = 2 ] || return
    for pair in $users; do
        [ "$(etcdctl user get "${pair%%=*}")" = "User: ${pair%%=*}"$'\n'"Roles: ${pair#*=}" ] || return
    done
}

# permitted PREFIX: flannel's user may do everything under it and nothing else, the others have their
# roles. Each change fails requests that are under way, so what is there is left alone.
permitted() {
    local pair every=()
    settled "$1" && return
    made role add flannel || return
    # Users first: once authentication is on, who has none can do nothing, this script included. All of
    # them at once, since each program waits for an answer most of its time.
    etcdctl role grant-permission flannel readwrite --prefix "$1" &
    every+=("$!")
    for pair in $users; do
        with_role "${pair%%=*}" "${pair#*=}" &
        every+=("$!")
    done
    for pair in "${every[@]}"; do
        wait "$pair" || return
    done
    etcdctl auth enable
}

# with_role USER ROLE: the user is there and has the role
with_role() {
    made user add "$1" --no-password && etcdctl user grant-role "$1" "$2"
}

if [ -n "${users?}" ]; then
    await flannel-network "etcd has flannel's network" etcd.service \
        written "${flannel_prefix:?}config" "${flannel_network:?}"
    await users "etcd's users have roles" etcd.service \
        permitted "$flannel_prefix"
fi
