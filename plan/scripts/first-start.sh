# shellcheck shell=bash
# shellcheck disable=SC2154 # prelude.sh and turn.sh are read before this text
# An API server that is new to its machine starts once another one is ready: the first one of a cluster
# creates the cluster's first objects, and several that do so at once conflict with each other.

# another_answers UNIT: whether the service is healthy on any other machine
another_answers() {
    local url
    for url in ${others[$1]}; do
        ! answers "$1" "$url" || return 0
    done
    return 1
}

server=kube-apiserver.service
[ -e "$system/$server" ] || await another-api "another API server is ready" "$server" another_answers "$server"
