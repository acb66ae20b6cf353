# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings stand before this text
# Calls the API as the cluster's admin, for one step. The files of the certificate and the key are opened
# and deleted before they are used, and the open files end with this process.

# as_admin CERTIFICATE KEY: open and delete these two files
as_admin() {
    exec 7<"$1" 8<"$2"
    rm "$1" "$2"
}

# cluster ARGUMENT...: run kubectl, for reading and for rare operations. An emulated machine needs seconds
# for it, mostly to learn which kinds of objects exist; what it learned goes with the next boot.
cluster() {
    KUBECONFIG=/dev/null kubectl --cache-dir "${admin_key%/*}/kubectl" --server "$api" \
        --certificate-authority "$authority" \
        --client-certificate /dev/fd/7 --client-key /dev/fd/8 "$@"
}

# of_request METHOD PATH OPTION...: add a request to those that asked sends
requests=()
of_request() {
    [ "${#requests[@]}" -eq 0 ] || requests+=(--next)
    requests+=(--silent --show-error --user-agent hardway --max-time 60 --request "$1" "$api$2"
        --cacert "$authority" --cert /dev/fd/7 --key /dev/fd/8 "${@:3}")
}

# asked: send the requests one after the other over one connection, and set answer to the answers; where
# a request fails, print the answers but for the objects among them
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

# objects_of FILE...: set paths and objects to those of the YAML documents in these files. The first line
# of each document has the object's path in the API.
objects_of() {
    local file rest document
    paths=() objects=()
    for file; do
        rest=$'\n'$(<"$file")
        while [[ $rest == *$'\n---\n# '* ]]; do
            rest=${rest#*$'\n---\n# '}
            document=${rest%%$'\n---\n# '*}
            paths+=("${document%%$'\n'*}")
            objects+=("${document#*$'\n'}"$'\n')
        done
    done
}

# of_apply PATH OBJECT: add a request that applies the object, or with @FILE the one in the file
of_apply() {
    of_request PATCH "$1?fieldManager=hardway&force=true&fieldValidation=Strict" --fail-with-body \
        --header 'Content-Type: application/apply-patch+yaml' --data-binary "$2"
}

# of_objects: add requests that apply the objects in paths and objects
of_objects() {
    local number
    for number in "${!objects[@]}"; do
        of_apply "${paths[number]}" "${objects[number]}"
    done
}

# applied FILE: apply the objects of the file
applied() {
    local paths objects
    objects_of "$1"
    of_objects
    asked
}

# deleted PATH...: delete these objects, as far as they exist
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

# exists PATH: 0 where the API has this object, 1 where it has none, 2 where it gives no usable answer
exists() {
    of_request GET "$1" --output /dev/null --write-out '%{http_code}'
    asked || return 2
    case $answer in
    200) return 0 ;;
    404) return 1 ;;
    *) echo "the API answers with $answer when it is asked for $1" && return 2 ;;
    esac
}
