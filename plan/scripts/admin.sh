# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings stand before this text
# The cluster's admin, for one step: its certificate and key are on the machine only while this runs.
# Their files are gone before they are used, and what is open ends with the process.

# as_admin CERTIFICATE KEY
as_admin() {
    exec 7<"$1" 8<"$2"
    rm "$1" "$2"
}

# cluster WORD...: kubectl, for what has to be read or is done seldom. An emulated machine needs seconds
# for it, most of them to learn what kinds of objects there are.
cluster() {
    KUBECONFIG=/dev/null kubectl --server "$api" --certificate-authority "$authority" \
        --client-certificate /dev/fd/7 --client-key /dev/fd/8 "$@"
}

# of_request METHOD PATH OPTION...: adds a request to those that asked sends
requests=()
of_request() {
    [ "${#requests[@]}" -eq 0 ] || requests+=(--next)
    requests+=(--silent --show-error --user-agent hardway --max-time 60 --request "$1" "$api$2"
        --cacert "$authority" --cert /dev/fd/7 --key /dev/fd/8 "${@:3}")
}

# asked: sends the requests one after the other over one connection, and sets answer to what comes back;
# where a request fails, it prints what is no object
answer=''
asked() {
    local arguments=("${requests[@]}") status=0 line
    requests=()
    answer=$(curl --fail-early "${arguments[@]}" 2>&1) || status=$?
    [ "$status" -eq 0 ] || while read -r line; do
        [[ $line == '{"kind":'* && $line != '{"kind":"Status"'* ]] || echo "$line"
    done <<<"$answer"
    return "$status"
}

# objects_of FILE: sets paths and objects, of the YAML documents in a file. In the first line of each is
# its path in the API.
objects_of() {
    local rest document
    paths=() objects=()
    rest=$'\n'$(<"$1")
    while [[ $rest == *$'\n---\n# '* ]]; do
        rest=${rest#*$'\n---\n# '}
        document=${rest%%$'\n---\n# '*}
        paths+=("${document%%$'\n'*}")
        objects+=("${document#*$'\n'}"$'\n')
    done
}

# of_apply PATH OBJECT: adds a request that gives an object the fields that it has here
of_apply() {
    of_request PATCH "$1?fieldManager=hardway&force=true&fieldValidation=Strict" --fail-with-body \
        --header 'Content-Type: application/apply-patch+yaml' --data-binary "$2"
}

# applied FILE: the API has the objects of the file
applied() {
    local number paths objects
    objects_of "$1"
    for number in "${!paths[@]}"; do
        of_apply "${paths[number]}" "${objects[number]}"
    done
    asked
}

# deleted PATH...: the API has none of these objects
deleted() {
    local path code
    for path; do
        of_request DELETE "$path" --output /dev/null --write-out "%{http_code} $path\n"
    done
    asked || return
    while read -r code path; do
        [[ $code == @(200|202|404) ]] || {
            echo "the API answers with $code when $path is to be deleted"
            return 1
        }
    done <<<"$answer"
}

# exists PATH: the API has such an object (0) or says that it has none (1)
exists() {
    of_request GET "$1" --output /dev/null --write-out '%{http_code}'
    asked || return 2
    case $answer in
    200) return 0 ;;
    404) return 1 ;;
    *) echo "the API answers with $answer when it is asked for $1" && return 2 ;;
    esac
}
