# shellcheck shell=bash
# Whose turn it is to restart what other machines run as well.

# Unit to the files with which it is asked, and to the places of the others.
declare -A trust=() others=()

# lock_at ENDPOINTS AUTHORITY CERTIFICATE KEY: the etcd in which the lock is
lock_at() {
    lock_words=(etcdctl "--endpoints=$1" "--cacert=$2" "--cert=$3" "--key=$4")
}

# shared UNIT TRUST OWN OTHER...: where a service and those of other machines say that they are well
shared() {
    trust[$1]=$2
    own[$1]=$3
    others[$1]="${*:4}"
}

# answers UNIT URL
answers() {
    local authority certificate key said
    read -r authority certificate key <<<"${trust[$1]}"
    said=$(curl --silent --show-error --fail --max-time 20 --cacert "$authority" \
        ${certificate:+--cert "$certificate" --key "$key"} "$2" 2>&1) && return
    echo "$2: $said"
    return 1
}

# others_answer UNIT
others_answer() {
    local url
    for url in ${others[$1]}; do
        answers "$1" "$url" || return
    done
}

# serves UNIT: it is well. Asked more than once: while another member restarts, nobody may lead.
serves() {
    local seconds
    for seconds in 2 3 4 0; do
        answers "$1" "${own[$1]}" >/dev/null && return
        sleep "$seconds"
    done
    return 1
}

# take_turn: hold the lock until this run ends, however it ends
take_turn() {
    local said why='it ended'
    [ -z "${holder-}" ] || return 0
    exec {turn}< <(
        # tail ends with this run, and the lock is freed; without etcd that would be tried for ever.
        exec timeout --kill-after=10 2000 "${lock_words[@]}" lock --ttl 60 /hardway/turn -- \
            sh -c "echo mine; exec tail --pid=$$ --follow /dev/null" 2>&1
    )
    holder=$!
    read -r -t 3 -u "$turn" said || echo "waiting until other machines have had their turn to restart"
    until [ "$said" = mine ]; do
        why=${said:-$why}
        # Not for ever: the whole step has its limit.
        read -r -u "$turn" said || problem "no turn to restart can be had from etcd: $why"
    done
}

# in_turn UNIT...: before these are restarted, it is this machine's turn and the others are well
in_turn() {
    local unit said serving=()
    for unit; do
        [ -z "${own[$unit]-}" ] || ! serves "$unit" || serving+=("$unit")
    done
    [ "${#serving[@]}" -gt 0 ] || return 0
    take_turn
    for unit in "${serving[@]}"; do
        await 300 "$unit of the other machines is well, before that of this one restarts" \
            "$unit" others_answer "$unit"
    done
    kill -0 "$holder" 2>/dev/null || problem "the turn to restart was lost: $(cat <&"$turn")"
}

# back UNIT: it serves again
back() {
    [ -z "${own[$1]-}" ] ||
        await 600 "$1 is well again" "$1" answers "$1" "${own[$1]}"
}
