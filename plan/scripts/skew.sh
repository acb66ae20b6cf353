# shellcheck shell=bash
# A kubelet is at no time newer than an API server: Kubernetes' version skew policy.

# are_at VERSION KUBECONFIG SERVER...
are_at() {
    local said server
    for server in "${@:3}"; do
        said=$(kubectl --kubeconfig "$2" --server "$server" get --raw /version 2>&1) || {
            echo "$said"
            return 1
        }
        [[ $said != *"\"gitVersion\": \"$1\""* ]] || continue
        echo "$server: $said"
        return 1
    done
}

# not_newer PATH TARGET VERSION KUBECONFIG SERVER...: a machine whose program is to become another one
# waits, before anything of it is changed, until all API servers have come to that version. On a new
# machine nothing runs that could be too new.
not_newer() {
    [ -L "$1" ] || return 0
    [ "$(readlink "$1")" != "$2" ] || return 0
    await api-versions "all API servers are $3" "${1##*/}.service" are_at "$3" "$4" "${@:5}"
}
