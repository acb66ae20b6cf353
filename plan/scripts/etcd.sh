# shellcheck shell=bash
# shellcheck disable=SC2154 # the prelude stands before this text
# Waits until the member is healthy in a quorum, and then makes flannel's network and etcd's users. The
# steps of all members may do so at the same time.

unlocked

export ETCDCTL_ENDPOINTS=${endpoint:?}
export ETCDCTL_CACERT=${authority:?} ETCDCTL_CERT=${certificate:?} ETCDCTL_KEY=${private_key:?}

# etcdctl ARGUMENT...: etcdctl with its usual time limit of 5 s, longer where the machine is slow
etcdctl() {
    command etcdctl "--command-timeout=$((5 * pace / 100))s" "$@"
}

# together: whether the member is healthy in a quorum. A learner is promoted. A member with an alarm counts
# as healthy here, since no wait ends the alarm.
together() {
    local output
    output=$(etcdctl endpoint health 2>&1) && return
    echo "$output"
    if [[ $output =~ 'Active Alarm(s): '([A-Z ]+) ]]; then
        echo "${BASH_REMATCH[1]}" >"$state/.alarm"
        return
    fi
    [[ $output != *learner* ]] || promoted
    return 1
}

[ ! -e "$state/.alarm" ] || rm -f "$state/.alarm"
await members "etcd's members agree (${members:?})" etcd.service together
answered_once
[ ! -e "${member_once:?}" ] || rm -f "$member_once"
only_planned
[ -z "${member_did:-}" ] || outcome="${outcome-}; $member_did"
if [ -e "$state/.alarm" ]; then
    read -r alarm <"$state/.alarm"
    [[ $alarm != *NOSPACE* ]] || problem "etcd has the alarm NOSPACE: a member's database is at its \
quota, and nothing can be written, also with a larger quota; ./hardway etcd-space shows the sizes and \
makes room (it compacts, defragments and then disarms the alarm)"
    problem "etcd has the alarm $alarm: a member's data differs from the others'; ./hardway etcd-space \
says which member it is, and that one is to be replaced"
fi

# written KEY VALUE: give the key this value, if it has another
written() {
    local now
    now=$(etcdctl get --print-value-only "$1") || return
    [ "$now" = "$2" ] || etcdctl put "$1" "$2"
}

# made ARGUMENT...: make a user or a role; another member's step may have made it before
made() {
    local output
    output=$(etcdctl "$@" 2>&1) && return
    [[ $output == *'name already exists'* ]] && return
    echo "$output"
    return 1
}

# settled PREFIX: whether authentication is on, and users and roles are as they must be
settled() {
    local pair
    # Not through a pipe to a grep that stops early: etcdctl would then end with an error.
    [[ $(etcdctl auth status) == *'Status: true'* ]] || return
    [ "$(etcdctl role get flannel | grep --count "(prefix $1)")" = 2 ] || return
    for pair in $users; do
        [ "$(etcdctl user get "${pair%%=*}")" = "User: ${pair%%=*}"$'\n'"Roles: ${pair#*=}" ] || return
    done
}

# permitted PREFIX: give flannel's user all rights under the prefix and no others, and the other users
# their roles. Each change makes requests fail that are under way, so nothing is changed that is right.
permitted() {
    local pair every=()
    settled "$1" && return
    made role add flannel || return
    # Users before authentication: once it is on, a client without a user can do nothing, and this script
    # is such a client. All users at once, since each program mostly waits for its answer.
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

# with_role USER ROLE: make the user and give it the role
with_role() {
    made user add "$1" --no-password && etcdctl user grant-role "$1" "$2"
}

if [ -n "${users?}" ]; then
    await flannel-network "etcd has flannel's network" etcd.service \
        written "${flannel_prefix:?}config" "${flannel_network:?}"
    await users "etcd's users have roles" etcd.service \
        permitted "$flannel_prefix"
fi
