# shellcheck shell=bash
# A kubelet is at no time newer than an API server: Kubernetes' version skew policy.

# is_at VERSION KUBECONFIG SERVER
is_at() {
    local said
    said=$(kubectl --kubeconfig "$2" --server "$3" get --raw /version 2>&1) || {
        echo "$said"
        return 1
    }
    [[ $said == *"\"gitVersion\": \"$1\""* ]] && return
    echo "$3: $said"
    return 1
}

# not_newer PATH TARGET VERSION KUBECONFIG SERVER...: a machine whose program is to become another one
# waits, before anything of it is changed, until all API servers have come to that version. On a new
# machine nothing runs that could be too new.
not_newer() {
    local server
    [ -L "$1" ] || return 0
    [ "$(readlink "$1")" != "$2" ] || return 0
    for server in "${@:5}"; do
        await 3000 "the API server at $server is $3" "${1##*/}.service" is_at "$3" "$4" "$server"
    done
}
