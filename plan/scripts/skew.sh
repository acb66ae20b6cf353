# shellcheck shell=bash
# Keeps a kubelet from becoming newer than an API server (Kubernetes' version skew policy).

# are_at VERSION KUBECONFIG SERVER...: whether all API servers report this version
are_at() {
    local output server
    for server in "${@:3}"; do
        output=$(kubectl --kubeconfig "$2" --server "$server" get --raw /version 2>&1) || {
            echo "$output"
            return 1
        }
        [[ $output != *"\"gitVersion\": \"$1\""* ]] || continue
        echo "$server: $output"
        return 1
    done
}

# not_newer PATH TARGET VERSION KUBECONFIG SERVER...: before anything changes on a machine whose program is
# replaced, wait until all API servers report the version. A new machine runs nothing that could be too
# new, and does not wait.
not_newer() {
    [ -L "$1" ] || return 0
    [ "$(readlink "$1")" != "$2" ] || return 0
    await api-versions "all API servers are $3" "${1##*/}.service" are_at "$3" "$4" "${@:5}"
}
