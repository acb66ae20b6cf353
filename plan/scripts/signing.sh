# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # prelude.sh and walk.sh are read before this text
# The key pair that signs the tokens of service accounts, one of the keys that turn over (walk.sh). An API
# server takes the tokens of all pairs whose public half it has in its file, and signs with one private key,
# as the controller manager does. Former pairs go once no pod has a token of theirs any more.

# signs MODE OWNER PATH MODE OWNER PATH SECONDS CONTENT: the files of the private key and of the public keys,
# and how long tokens of before may be in use. The content names the pairs that stay in the end, first the one
# to sign with, and has all pairs, in the order in which their public halves stand in the file.
signs() {
    local line name='' half=''
    private_file=("${@:1:3}") public_file=("${@:4:3}") replaced=$7
    pair_names=()
    declare -gA private_half=() public_half=()
    while IFS= read -r line; do
        case $line in
        '# turn '*) turn_of[signing]=${line##* } ;;
        '# trusted '*) last_of[signing]=${line#'# trusted '} ;;
        '- name: '*) name=${line##* } && pair_names+=("$name") ;;
        '') ;;
        *)
            case $line in
            *'-BEGIN PUBLIC KEY-'*) half=public ;;
            *'-BEGIN '*) half=private ;;
            esac
            [ $half = public ] && public_half[$name]+=$line$'\n' || private_half[$name]+=$line$'\n'
            ;;
        esac
    done <<<"${*: -1}"
    turning+=(signing)
}

signing_present() {
    local name public='' private='' trusted=()
    present=()
    [ ! -f "${public_file[2]}" ] || public=$(<"${public_file[2]}")$'\n'
    [ ! -f "${private_file[2]}" ] || private=$(<"${private_file[2]}")$'\n'
    for name in "${pair_names[@]}"; do
        if [ "$private" = "${private_half[$name]}" ]; then
            present=("$name")
        elif [[ $public == *"${public_half[$name]}"* ]]; then
            trusted+=("$name")
        fi
    done
    present+=("${trusted[@]}")
}

signing_files() {
    local name text=''
    for name in "${pair_names[@]}"; do
        [[ " $* " != *" $name "* ]] || text+=${public_half[$name]}
    done
    # First what accepts tokens, then what signs them.
    file "${public_file[@]}" "$text"
    file "${private_file[@]}" "${private_half[$1]}"
}

# Where an update was cut off, API servers may have begun to sign with the wanted pair only now. Then this
# step ends well with both pairs, as probe/keys.py says, and runs again with the next refresh.
signing_over() {
    local output line from latest=$used_from
    output=$(asked_etcd get --prefix "$published/") || return
    while read -r line; do
        [[ $line != *' since='* ]] || {
            from=${line##*since=}
            from=${from%% *}
            [ "$from" -le "$latest" ] || latest=$from
        }
    done <<<"$output"
    [ "$((EPOCHSECONDS - latest))" -ge "$replaced" ]
}
