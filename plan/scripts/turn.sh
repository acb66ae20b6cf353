# shellcheck shell=bash
# shellcheck disable=SC2154 # the limits and the prelude stand before this text
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
    said=$(curl --silent --show-error --fail-with-body --max-time "$((20 * pace / 100))" \
        --cacert "$authority" ${certificate:+--cert "$certificate" --key "$key"} \
        "$2" 2>&1) && return
    # Of the many checks, those that failed.
    said=$(grep '^\[-\]' <<<"$said" || echo "$said")
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

# Whoever goes by what a service says of itself, as a balancer, needs so many seconds to hear that it
# is well again.
steady=6

# others_are_steady UNIT
others_are_steady() {
    others_answer "$1" && sleep "$steady" && others_answer "$1"
}

# Unit to the moment when it answered last. Who runs and is silent for long is broken, and has nothing to
# lose by a restart. Who is only slow does not count as that: others may rely on it.
declare -A heard=()

# broken UNIT: asked again and again, it has not answered for that long
broken() {
    local said
    said=$(answers "$1" "${own[$1]}") || said=no
    measure
    tick
    [ "$said" = no ] || heard[$1]=$moment
    [ "$((moment - heard[$1]))" -ge "$((limits[silent] * 100))" ]
}

# broken_all UNIT...
broken_all() {
    local unit
    for unit; do
        broken "$unit" || return
    done
}

# no_turn WHY: the lock cannot be had. An alarm of etcd has it refuse every write, the lock as well,
# while all members and API servers say that they are ready.
no_turn() {
    local said
    said=$("${lock_words[@]}" alarm list "--command-timeout=$((10 * pace / 100))s" 2>&1) || said=''
    case $said in
    *alarm:NOSPACE*)
        problem "etcd takes no writes, so nothing that runs can have its turn to restart: its database" \
            "has reached its quota (alarm NOSPACE). Make room with etcdctl: compact, then defrag on" \
            "every member, then alarm disarm. Then run the same again"
        ;;
    *alarm:*)
        problem "etcd takes no writes, so nothing that runs can have its turn to restart: it has the" \
            "alarm ${said##*alarm:}. See etcdctl alarm list, and run the same again once it is cleared"
        ;;
    *) problem "no turn to restart can be had from etcd: $1" ;;
    esac
}

# first_in_turn: the key of whoever has the lock
first_in_turn() {
    "${lock_words[@]}" get /hardway/turn/ --prefix --keys-only --sort-by=CREATE --limit=1 \
        "--command-timeout=$((10 * pace / 100))s" 2>/dev/null || true
}

# take_turn UNIT...: hold the lock until this run ends, however it ends. Fails where it cannot be had
# for units of which none answers.
take_turn() {
    local unit said='' why='it ended' status seconds=3 owner=''
    wait_for turn "other machines had a turn"
    exec {turn}< <(
        # tail ends with this run, and the lock is freed; without etcd that would be tried for ever.
        exec timeout --kill-after=10 "$((limits[turn] * hard))" "${lock_words[@]}" \
            lock --ttl 60 /hardway/turn -- \
            sh -c "echo mine \"\$ETCD_LOCK_KEY\"; exec tail --pid=$$ --follow /dev/null" 2>&1
    )
    holder=$!
    until [[ $said == "mine "* ]]; do
        [ -z "$said" ] || why=$said
        status=0
        read -r -t "$seconds" -u "$turn" said || status=$?
        [ "$status" -gt 0 ] || continue
        if [ "$status" -gt 128 ]; then # nothing was said in time
            announce
            seconds=10
            ! broken_all "$@" || return
            # Each that had its turn is news; to ask for that costs a program.
            ((uptime < wait_remind)) || owner=$(first_in_turn)
            still "$owner" || problem "the turn to restart does not come within $waited ($since):" \
                "another machine has it; see what its steps do, and run the same again"
            continue
        fi
        # A leader that gives its place away drops what is under way: a single refusal proves nothing.
        refusals=$((refusals + 1))
        for unit; do
            [ "$refusals" -lt 3 ] || ! answers "$unit" "${own[$unit]}" >/dev/null || no_turn "$why"
        done
        sleep 2
        return 1
    done
    key=${said#mine }
}

# drop_turn: for somebody else, or for another try
drop_turn() {
    kill "$holder" 2>/dev/null || true
    exec {turn}<&-
    key=''
}

# mine: the lock is still held. Who could not tell etcd for a minute that it lives, as a machine that
# stood still, has lost it, and is not told.
mine() {
    [ -n "${key-}" ] && [[ $("${lock_words[@]}" get --keys-only "$key" 2>&1) == "$key"* ]]
}

# others_are_well UNIT...: or the unit is broken
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

# in_turn UNIT...: before these are restarted, it is this machine's turn and the others are well
in_turn() {
    local unit running=() refusals=0
    tick
    for unit; do
        # Who does not run, or has not come up yet, disturbs nobody.
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

# back UNIT: it serves again
back() {
    [ -z "${own[$1]-}" ] ||
        await well-again "$1 is well again" "$1" answers "$1" "${own[$1]}"
}
