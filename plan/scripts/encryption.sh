# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # prelude.sh and walk.sh are read before this text
# The key that encrypts Secrets in etcd, one of the keys that turn over (walk.sh). An API server that lacks
# the key of one Secret can list no Secret. So the former key goes once no Secret has it.

# encrypts MODE OWNER PATH API AUTHORITY CERTIFICATE KEY CONTENT: the file of the API server. The content has
# all keys, the one to write with first.
encrypts() {
    local line name='' wanted=''
    key_file=("${@:1:3}") api_server=$4 api_files=("${@:5:3}")
    declare -gA key_lines=()
    head='' foot=''
    while IFS= read -r line; do
        case $line in
        '# turn '*) turn_of[encryption]=${line##* } ;;
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
    last_of[encryption]=$wanted
    turning+=(encryption)
}

encryption_present() {
    local line
    present=()
    [ -f "${key_file[2]}" ] || return 0
    while read -r line; do
        [[ $line != '- name: '* || -z ${key_lines[${line##* }]-} ]] || present+=("${line##* }")
    done <"${key_file[2]}"
}

encryption_files() {
    local name text=$head
    for name; do
        text+=${key_lines[$name]}
    done
    file "${key_file[@]}" "$text$foot"
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

encryption_over() {
    await encryption "all Secrets have $wanted" "$server" rewritten
}
