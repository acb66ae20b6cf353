# shellcheck shell=bash
# shellcheck disable=SC2004,SC2034,SC2154 # prelude.sh and turn.sh are read before this text
# Keys turn over on all control planes together (plan/walk.py): the one that encrypts Secrets (encryption.sh)
# and the pair that signs the tokens of service accounts (signing.sh).
#
# An API server must know a key before another one uses it. So each control plane publishes in etcd which
# keys its running API server has, first the one that it uses, and goes from stage to stage only when the
# others allow it: it knows the new key; it uses it, once all know it; once all use it and nothing needs the
# others any more, it forgets those that are to go. The same stages lead back where the former key is
# declared again.
#
# A kind of keys has these functions: KIND_present sets present to the names of the keys in its files, first
# the one in use; KIND_files NAME... writes the files with these keys, the first of them in use; KIND_over
# says whether nothing needs other keys than the wanted one any more.

# The kinds of keys that turn over; by kind, the turn and the names of the keys that stay in the end, first
# the one to be used; where control planes publish; what it is, and what holds as long as it is not done.
turning=()
declare -A turn_of=() last_of=()
declare -A published_at=([encryption]=/hardway/encryption [signing]=/hardway/service-accounts)
declare -A what=([encryption]='the encryption key' [signing]="the service accounts' key pair")
declare -A holds=([encryption]='No Secret is lost and none is unreadable' [signing]='No token in use is refused')

# walks UNIT NAME ETCDCTL ENDPOINTS AUTHORITY CERTIFICATE KEY CONTROL-PLANE...: the API server (UNIT) of this
# control plane (NAME), and all control planes
walks() {
    server=$1 plane=$2
    ctl=("$3" "--endpoints=$4" "--cacert=$5" "--cert=$6" "--key=$7")
    planes=("${@:8}")
}

# Stands behind the keys of an API server that has not started yet.
starting=starting

# asked_etcd ARGUMENT...: etcdctl with a time limit
asked_etcd() {
    "${ctl[@]}" "--command-timeout=$((20 * pace / 100))s" "$@"
}

# noted_use: set used_from to the second from which on the running API server uses its first key, as this
# control plane published it before
noted_use() {
    local note number name rest
    used_from=$EPOCHSECONDS
    await walk-note "etcd gives a note ($published)" "$server" asked_etcd get "$published/$plane"
    note=$(asked_etcd get --print-value-only "$published/$plane") || return 0
    read -r number name rest <<<"$note"
    [[ $name != "${present[0]}" || $rest != *since=* ]] || used_from=${rest##*since=}
    used_from=${used_from%% *}
}

# publish NAME...: tell the others which keys the running API server has, at this turn of the key
publish() {
    await walk-note "etcd takes a note ($published)" "$server" \
        asked_etcd put "$published/$plane" "$turn_number $* since=$used_from"
}

# withdraw: nobody may rely on what was published, since it is about to change
withdraw() {
    await walk-note "etcd takes a note ($published)" "$server" asked_etcd del "$published/$plane"
}

# all STAGE: whether all other control planes are so far; else print which is not
all() {
    local output name number names why
    local -A notes=()
    output=$(asked_etcd get --prefix "$published/") || return
    while read -r name && read -r number names; do
        notes[${name##*/}]="$number $names"
    done <<<"$output"
    for name in "${planes[@]}"; do
        [ "$name" != "$plane" ] || continue
        read -r number names <<<"${notes[$name]-}"
        why=''
        if [ "$number" != "$turn_number" ]; then
            why="$name has not begun to turn the key over: is the machine on, and did its step $step run?"
        elif [[ $1 == know && " $names " != *" $wanted "* ]]; then
            why="the API server of $name does not know $wanted yet"
        elif [[ $1 == use && "$names " != "$wanted "* ]]; then
            why="the API server of $name does not use $wanted yet"
        fi
        [ -z "$why" ] || { echo "$why" && return 1; }
    done
}

# until_all STAGE: wait until all other control planes are so far
until_all() {
    local output
    local -A titles=([begun]='all control planes take part' [know]="all API servers know $wanted" [use]="all API servers use $wanted")
    wait_for walk "${titles[$1]}"
    until output=$(all "$1" 2>&1); do
        announce
        still "$output" || problem "${what[$walk]} does not become $wanted: ${output%%$'\n'*}" \
            "(after $waited; $since). ${holds[$walk]}; run the same again"
        sleep 2
    done
}

# without_starting: leave those of the other API servers out of this one's turn that have not started yet,
# since they wait for this step (turned_over)
without_starting() {
    local output name note url urls=() left='' number=0
    output=$(asked_etcd get --prefix "$published/") || return
    every_url=${every_url-${others[$server]}}
    read -ra urls <<<"$every_url"
    for name in "${planes[@]}"; do
        [ "$name" != "$plane" ] || continue
        url=${urls[number]} number=$((number + 1))
        note=${output#*"$published/$name"$'\n'}
        [[ ${note%%$'\n'*} == *" $starting" ]] && ! answers "$server" "$url" >/dev/null || left+="$url "
    done
    others[$server]=$left
}

# run_with STAGE NAME...: have the API server run with these keys, once all others are so far
run_with() {
    local stage=$1
    shift
    while true; do
        until_all "$stage"
        if [ -n "${own[$server]-}" ]; then
            without_starting
            in_turn "$server"
        fi
        # What is published goes first and the others are asked again after that: so of two that
        # change at the same time, in opposite directions, none misses the other.
        withdraw
        ! all "$stage" >/dev/null || break
        publish "${present[@]}"
        [ -z "${key-}" ] || drop_turn
    done
    "${walk}_files" "$@"
    restart_affected
    [ "$1" = "${present[0]}" ] || used_from=$EPOCHSECONDS
    publish "$@"
    present=("$@")
    [ -z "${key-}" ] || drop_turn
}

# without NAMES NAME...: set rest to the names that are not among the first argument's
without() {
    local name
    rest=()
    for name in "${@:2}"; do
        [[ " $1 " == *" $name "* ]] || rest+=("$name")
    done
}

# turned_over KIND: go through the stages, from wherever this machine is
turned_over() {
    local walk=$1 published=${published_at[$1]} turn_number=${turn_of[$1]}
    local present=() rest=() last=() used_from=$EPOCHSECONDS wanted
    read -ra last <<<"${last_of[$1]}"
    wanted=${last[0]}
    if [ ! -e "$system/$server" ]; then
        # Nothing runs here yet. The API server starts once the steps of all control planes are done
        # (components/cluster.py), so after these stages. Of a cluster that is made anew as a whole, etcd
        # does not run yet either.
        "${walk}_files" "${last[@]}"
        wait_for walk-new "etcd takes a note ($published)"
        until asked_etcd put "$published/$plane" "$turn_number ${last[*]} since=$used_from $starting" >/dev/null 2>&1 ||
            ! still; do
            announce
            sleep 2
        done
        return
    fi
    "${walk}_present"
    [ "${#present[@]}" -gt 0 ] || present=("${last[@]}")
    "${walk}_files" "${present[@]}"
    restart_affected
    noted_use
    publish "${present[@]}"
    without "${present[*]}" "${last[@]}"
    [ "${#rest[@]}" -eq 0 ] || run_with begun "${present[@]}" "${rest[@]}"
    if [ "${present[0]}" != "$wanted" ]; then
        without "$wanted" "${present[@]}"
        run_with know "$wanted" "${rest[@]}"
    fi
    without "${last[*]}" "${present[@]}"
    [ "${#rest[@]}" -gt 0 ] || return 0
    until_all use
    ! "${walk}_over" || run_with use "${last[@]}"
}
