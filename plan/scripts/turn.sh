# shellcheck shell=bash
# shellcheck disable=SC2154 # the limits and the prelude stand before this text
# Turns: of the machines that run the same service, one at a time restarts it (plan/turn.py).

# Unit to the files for requests to its health endpoints, and to the endpoints of the other machines.
declare -A trust=() others=()

# lock_at ENDPOINTS AUTHORITY CERTIFICATE KEY: the etcd that keeps the lock
lock_at() {
    lock_words=(etcdctl "--endpoints=$1" "--cacert=$2" "--cert=$3" "--key=$4")
}

# shared UNIT TRUST OWN OTHER...: the health endpoints of a service on this machine and on the others
shared() {
    trust[$1]=$2
    own[$1]=$3
    others[$1]="${*:4}"
}

# answers UNIT URL: whether the service is healthy at this endpoint
answers() {
    local authority certificate key output
    read -r authority certificate key <<<"${trust[$1]}"
    output=$(curl --silent --show-error --fail-with-body --max-time "$((20 * pace / 100))" \
        --cacert "$authority" ${certificate:+--cert "$certificate" --key "$key"} \
        "$2" 2>&1) && return
    # Only the checks that failed, of many.
    output=$(grep '^\[-\]' <<<"$output" || echo "$output")
    echo "$2: $output"
    return 1
}

# others_answer UNIT: whether the service is healthy on all other machines
others_answer() {
    local url
    for url in ${others[$1]}; do
        answers "$1" "$url" || return
    done
}

# A client that follows a service's health, such as a balancer, needs so many seconds to notice that the
# service is healthy again.
steady=6

# others_are_steady UNIT: whether they are healthy, and have been for so many seconds
others_are_steady() {
    others_answer "$1" && sleep "$steady" && others_answer "$1"
}

# Unit to the moment of its last answer. A service that runs and gives no answer for minutes is broken and
# loses nothing by a restart. A service that is only slow is not broken: others may rely on it.
declare -A heard=()

# broken UNIT: whether the service has given no answer for that long, though it was asked repeatedly
broken() {
    local output
    output=$(answers "$1" "${own[$1]}") || output=no
    measure
    tick
    [ "$output" = no ] || heard[$1]=$moment
    [ "$((moment - heard[$1]))" -ge "$((limits[silent] * 100))" ]
}

# broken_all UNIT...: whether all of these services are broken
broken_all() {
    local unit
    for unit; do
        broken "$unit" || return
    done
}

# no_turn WHY: fail since etcd does not give the lock. With an alarm, etcd refuses every write, also that
# of the lock, while all members and API servers report that they are ready.
no_turn() {
    local output
    output=$("${lock_words[@]}" alarm list "--command-timeout=$((10 * pace / 100))s" 2>&1) || output=''
    case $output in
    *alarm:NOSPACE*)
        problem "etcd takes no writes, so nothing that runs can have its turn to restart: its database" \
            "has reached its quota (alarm NOSPACE). Make room with etcdctl: compact, then defrag on" \
            "every member, then alarm disarm. Then run the same again"
        ;;
    *alarm:*)
        problem "etcd takes no writes, so nothing that runs can have its turn to restart: it has the" \
            "alarm ${output##*alarm:}. See etcdctl alarm list, and run the same again once it is cleared"
        ;;
    *) problem "no turn to restart can be had from etcd: $1" ;;
    esac
}

# first_in_turn: print the key of the machine that has the lock
first_in_turn() {
    "${lock_words[@]}" get /hardway/turn/ --prefix --keys-only --sort-by=CREATE --limit=1 \
        "--command-timeout=$((10 * pace / 100))s" 2>/dev/null || true
}

# take_turn UNIT...: take the lock and hold it until this run ends, however it ends. Fails where the lock
# is not to be had and all of these services are broken.
take_turn() {
    local unit output='' begun='' why='it ended' status seconds=3 owner=''
    wait_for turn "other machines had a turn"
    exec {turn}< <(
        # tail ends with this run, and then etcdctl frees the lock. The time limit is for a lost etcd,
        # which etcdctl would ask for ever.
        exec timeout --kill-after=10 "$((limits[turn] * hard))" "${lock_words[@]}" \
            lock --ttl 60 /hardway/turn -- \
            sh -c "echo mine \"\$ETCD_LOCK_KEY\"; exec tail --pid=$$ --follow /dev/null" 2>&1
    )
    holder=$!
    until [[ $output == "mine "* ]]; do
        [ -z "$output" ] || why=$output
        status=0
        read -r -t "$seconds" -u "$turn" output || status=$?
        output=$begun$output begun=''
        [ "$status" -gt 0 ] || continue
        if [ "$status" -gt 128 ]; then # no line came in time, or its beginning alone
            begun=$output output=''
            announce
            seconds=10
            ! broken_all "$@" || return
            # Another machine in the lock is progress. It is looked up rarely, since that starts a program.
            ((uptime < wait_remind)) || owner=$(first_in_turn)
            still "$owner" || problem "the turn to restart does not come within $waited ($since):" \
                "another machine has it; see what its steps do, and run the same again"
            continue
        fi
        # A leader that hands over drops requests that are under way: a single refusal proves nothing. Those
        # of a member that learns end once it has caught up, which takes minutes at most.
        [[ $why == *learner* ]] && refusals=$((refusals + 1)) || refusals=$((refusals + 50))
        for unit; do
            [ "$refusals" -lt 150 ] || ! answers "$unit" "${own[$unit]}" >/dev/null || no_turn "$why"
        done
        sleep 2
        return 1
    done
    key=${output#mine }
}

# drop_turn: free the lock, for another machine or another attempt
drop_turn() {
    kill "$holder" 2>/dev/null || true
    exec {turn}<&-
    key=''
}

# mine: whether this run still holds the lock. A machine that could not renew its lease for a minute, for
# example since it was paused, has lost the lock without notice.
mine() {
    [ -n "${key-}" ] && [[ $("${lock_words[@]}" get --keys-only "$key" 2>&1) == "$key"* ]]
}

# others_are_well UNIT...: wait until the services are healthy on the other machines; a service that is
# broken here does not wait
others_are_well() {
    local unit
    for unit; do
        until answers "$unit" "${own[$unit]}" >/dev/null; do
            ! others_answer "$unit" >/dev/null || continue 2
            ! broken "$unit" || continue 2
            sleep 2
        done
        await others-well "the others are well ($unit of other machines, before that of this one restarts)" \
            "$unit" others_are_steady "$unit"
    done
}

# in_turn UNIT...: wait until it is this machine's turn to restart these services, and until they are
# healthy on the other machines
in_turn() {
    local unit running=() refusals=0
    tick
    for unit; do
        # The restart of a service that does not run yet disturbs nobody.
        [[ -z ${own[$unit]-} || $(systemctl is-active "$unit") != @(active|reloading) ]] || {
            running+=("$unit")
            heard[$unit]=$moment
        }
    done
    [ "${#running[@]}" -gt 0 ] || return 0
    until mine; do
        [ -z "${key-}" ] || drop_turn
        if take_turn "${running[@]}"; then
            others_are_well "${running[@]}"
        else
            drop_turn
            ! broken_all "${running[@]}" || return 0
        fi
    done
}

# back UNIT: wait until the service is healthy again after its restart
back() {
    [ -z "${own[$1]-}" ] ||
        await well-again "$1 is well again" "$1" answers "$1" "${own[$1]}"
}
