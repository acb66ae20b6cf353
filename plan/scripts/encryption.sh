# shellcheck shell=bash
# shellcheck disable=SC2004,SC2154 # prelude.sh and turn.sh are read before this text
# The key that encrypts Secrets in etcd turns over on all control planes together (plan/encryption.py).
#
# An API server that lacks the key of one Secret can list no Secret. So each control plane publishes in etcd
# which keys its running API server has, and goes from stage to stage only when the others allow it:
# it knows the new key; it writes with it, once all know it; once all write with it and no Secret has
# another key, it forgets the others. The same stages lead back where the former key is declared again.

# encrypts MODE OWNER PATH UNIT NAME API AUTHORITY CERTIFICATE KEY ETCDCTL ENDPOINTS AUTHORITY CERTIFICATE
#     KEY CONTROL-PLANE... CONTENT: the file of the API server (UNIT) of this control plane (NAME). The
#     content has all keys, the one to write with first.
encrypts() {
    local line name=''
    key_file=("${@:1:3}") server=$4 plane=$5 api_server=$6 api_files=("${@:7:3}")
    ctl=("${10}" "--endpoints=${11}" "--cacert=${12}" "--cert=${13}" "--key=${14}")
    planes=("${@:15:$#-15}")
    declare -gA key_lines=()
    head='' foot='' wanted=''
    while IFS= read -r line; do
        case $line in
        '# turn '*) turn_number=${line##* } ;;
        *'- name: '*)
            name=${line##* }
            wanted=${wanted:-$name}
            key_lines[$name]=$line$'\n'
            ;;
        *' secret: '*) key_lines[$name]+=$line$'\n' ;;
        *) [ -n "$wanted" ] && foot+=$line$'\n' || head+=$line$'\n' ;;
        esac
    done <<<"${*: -1}"
    foot=${foot%$'\n'} # the content ends with a newline, and so does a here-string
}

# in_file: set present to the names of the keys in the file, in their order
in_file() {
    local line
    present=()
    [ -f "${key_file[2]}" ] || return 0
    while read -r line; do
        [[ $line != '- name: '* || -z ${key_lines[${line##* }]-} ]] || present+=("${line##* }")
    done <"${key_file[2]}"
}

# file_with NAME...: write the file with these keys
file_with() {
    local name text=$head
    for name; do
        text+=${key_lines[$name]}
    done
    file "${key_file[@]}" "$text$foot"
}

# The keys under which control planes publish.
published=/hardway/encryption
# Stands behind the keys of an API server that has not started yet.
starting=starting

# asked_etcd ARGUMENT...: etcdctl with a time limit
asked_etcd() {
    "${ctl[@]}" "--command-timeout=$((20 * pace / 100))s" "$@"
}

# publish NAME...: tell the others which keys the running API server has, at this turn of the key
publish() {
    await encryption-note "etcd takes a note ($published)" "$server" \
        asked_etcd put "$published/$plane" "$turn_number $*"
}

# withdraw: nobody may rely on what was published, since it is about to change
withdraw() {
    await encryption-note "etcd takes a note ($published)" "$server" asked_etcd del "$published/$plane"
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
            why="the API server of $name does not write with $wanted yet"
        fi
        [ -z "$why" ] || { echo "$why" && return 1; }
    done
}

# until_all STAGE: wait until all other control planes are so far
until_all() {
    local output
    local -A titles=([begun]='all control planes take part' [know]="all API servers know $wanted" [use]="all API servers use $wanted")
    wait_for encryption "${titles[$1]}"
    until output=$(all "$1" 2>&1); do
        announce
        still "$output" || problem "the encryption key does not become $wanted: ${output%%$'\n'*}" \
            "(after $waited; $since). No Secret is lost and none is unreadable; run the same again"
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
    [ "${present[*]}" != "$*" ] || return 0
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
    file_with "$@"
    restart_affected
    publish "$@"
    present=("$@")
    [ -z "${key-}" ] || drop_turn
}

# of_another_key: print NAMESPACE/NAME of each Secret that is not encrypted with the wanted key. The first
# bytes of a value in etcd say it; of the rest nothing is read here.
of_another_key() {
    local line path=''
    asked_etcd get --prefix /registry/secrets/ --write-out=fields | cut --bytes=-400 |
        while IFS= read -r line; do
            case $line in
            '"Key" : "'*) path=${line#*'"/registry/secrets/'} ;;
            "\"Value\" : \"k8s:enc:secretbox:v1:$wanted:"*) ;;
            '"Value" : "'*) echo "${path%\"*}" ;;
            esac
        done
}

# replace NAMESPACE/NAME: replace a Secret by itself, which the API server writes with its first key although
# nothing changes. Where somebody has changed or deleted it meanwhile, that is done already.
replace() {
    local url="$api_server/api/v1/namespaces/${1%%/*}/secrets/${1#*/}"
    local call=(curl --silent --show-error --max-time 60 --cacert "${api_files[0]}" --cert "${api_files[1]}"
        --key "${api_files[2]}" "$url")
    "${call[@]}" --fail |
        "${call[@]}" --fail --request PUT --header 'Content-Type: application/json' --data-binary @- --output /dev/null
}

# rewritten: whether all Secrets are encrypted with the wanted key; those that are not are replaced. All
# control planes do so at the same time, some Secrets at a time in any order, so they share the work.
rewritten() {
    local names name before='' output=''
    while names=$(of_another_key) || return; do
        [ -n "$names" ] || return 0
        [ "$names" != "$before" ] || break
        before=$names
        for name in $(shuf --head-count=100 <<<"$names"); do
            output=$(replace "$name" 2>&1) || true
        done
    done
    echo "$(grep --count . <<<"$names") Secrets are to be rewritten ($output)"
    return 1
}

# turned_over: go through the stages, from wherever this machine is
turned_over() {
    if [ ! -e "$system/$server" ]; then
        # Nothing runs here yet. The API server starts once the steps of all control planes are done
        # (components/cluster.py), so after these stages. Of a cluster that is made anew as a whole, etcd
        # does not run yet either.
        file_with "$wanted"
        wait_for encryption-new "etcd takes a note ($published)"
        until asked_etcd put "$published/$plane" "$turn_number $wanted $starting" >/dev/null 2>&1 || ! still; do
            announce
            sleep 2
        done
        return
    fi
    in_file
    # shellcheck disable=SC2034,SC2206 # words
    [ "${#present[@]}" -gt 0 ] || present=("$wanted")
    file_with "${present[@]}"
    restart_affected
    publish "${present[@]}"
    [ "${present[*]}" != "$wanted" ] || return 0
    [[ " ${present[*]} " == *" $wanted "* ]] || run_with begun "${present[@]}" "$wanted"
    if [ "${present[0]}" != "$wanted" ]; then
        local rest=("${present[@]}") number
        for number in "${!rest[@]}"; do
            [ "${rest[number]}" != "$wanted" ] || unset "rest[number]"
        done
        run_with know "$wanted" "${rest[@]}"
    fi
    until_all use
    await encryption "all Secrets have $wanted" "$server" rewritten
    run_with use "$wanted"
}
