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
# of each document has the object's path in the API. By lines: to look for a text of several lines takes
# seconds in a file with the definitions of many kinds.
objects_of() {
    local file lines starts number from document
    paths=() objects=()
    for file; do
        mapfile -t lines <"$file"
        starts=()
        for number in "${!lines[@]}"; do
            [[ ${lines[number]} != --- || ${lines[number + 1]-} != '# '* ]] || starts+=("$number")
        done
        starts+=("${#lines[@]}")
        for ((number = 0; number < ${#starts[@]} - 1; number++)); do
            from=$((starts[number] + 2))
            paths+=("${lines[from - 1]#'# '}")
            printf -v document '%s\n' "${lines[@]:from:starts[number + 1] - from}"
            objects+=("$document")
        done
    done
}

# of_apply PATH OBJECT: add a request that applies the object, or with @FILE the one in the file
of_apply() {
    of_request PATCH "$1?fieldManager=hardway&force=true&fieldValidation=Strict" --fail-with-body \
        --header 'Content-Type: application/apply-patch+yaml' --data-binary "$2"
}

# of_objects: add requests that apply the objects in paths and objects. No program takes an argument of
# 128 KiB (Linux's MAX_ARG_STRLEN), so a large object is in a file of no name, which is opened once.
declare -gA opened=()
of_objects() {
    local number descriptor
    for number in "${!objects[@]}"; do
        if [ "${#objects[number]}" -lt 100000 ]; then
            of_apply "${paths[number]}" "${objects[number]}"
            continue
        fi
        descriptor=${opened[${paths[number]}]-}
        [ -n "$descriptor" ] || exec {descriptor}<<<"${objects[number]}"
        opened[${paths[number]}]=$descriptor
        of_apply "${paths[number]}" "@/dev/fd/$descriptor"
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
