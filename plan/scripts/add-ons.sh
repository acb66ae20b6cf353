# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings and the prelude stand before this text
# The cluster has the objects that belong to it, and no node that the spec does not name.

as_admin "$admin_certificate" "$admin_key"

await_api api "$api" "$authority" kube-apiserver.service
# shellcheck disable=SC2086 # several files
await add-ons "the API server takes the add-ons" kube-apiserver.service applied $manifests
if [ -n "$absent" ]; then
    await unwanted "the add-ons that are not wanted are gone" kube-apiserver.service deleted "$absent"
fi

# -- nodes that the spec no longer names -----------------------------------------------------------

# strangers: sets gone, or fails and sets said. As a table each node is a short row that begins with its
# name.
strangers() {
    of_request GET '/api/v1/nodes?includeObject=None' --fail-with-body \
        --header 'Accept: application/json;as=Table;g=meta.k8s.io;v=v1'
    said=$(asked 2>&1) || return
    gone=()
    while [[ $said == *'"cells":["'* ]]; do
        said=${said#*'"cells":["'}
        [[ " $nodes " == *" ${said%%\"*} "* ]] || gone+=("${said%%\"*}")
    done
}

ready() {
    local said
    said=$(cluster get node "$1" --output \
        'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>&1) && [ "$said" = True ]
}

strangers || problem "the API server does not list the nodes: $said"
for node in "${gone[@]}"; do
    echo "the node $node is no longer in the spec: its pods move, then it goes"
    # Pods of a machine that is dead cannot be asked to leave; they go with their node.
    wait_for drained "its pods have moved ($node)"
    until next_look && said=$(cluster drain "$node" --ignore-daemonsets --delete-emptydir-data --force \
        --timeout="${look}s" 2>&1) || ! ready "$node"; do
        announce
        still "$said" ||
            problem "the pods of the node $node do not move within $waited (${said##*$'\n'}; $since): see" \
                "kubectl get pods --all-namespaces --field-selector spec.nodeName=$node, then run this again"
        sleep 2
    done
    await node-gone "the node is gone ($node)" kube-apiserver.service \
        cluster delete node "$node" --ignore-not-found --timeout=30s
done
