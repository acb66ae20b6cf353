# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings and the prelude stand before this text
# The cluster has the objects that belong to it. The credential that may make them is on the machine
# only while this runs: its file is gone before it is used, and what is open ends with the process.

exec 9<"$admin"
rm "$admin"

cluster() {
    kubectl --kubeconfig /dev/fd/9 "$@"
}

options=()
for file in $manifests; do
    options+=(--filename "$file")
done
# Not validated: the API server would have to describe all that it knows first, a minute of an
# emulated one; and these objects are ours, with fields that kubectl knows.
await 600 "the API server takes the add-ons" kube-apiserver.service \
    cluster apply --server-side --validate=ignore --force-conflicts --field-manager hardway \
    "${options[@]}"
if [ -n "$absent" ]; then
    await 300 "the add-ons that are not wanted are gone" kube-apiserver.service \
        cluster delete --ignore-not-found --wait=false --filename "$absent"
fi

# A kubelet may not give itself this label, so each has to be registered.
for node in $control_planes; do
    await 1200 "the control plane $node is registered and has its role" kubelet.service \
        cluster label --overwrite node "$node" node-role.kubernetes.io/control-plane=
done

# -- nodes that the spec no longer names -----------------------------------------------------------

strangers() {
    local all node
    all=$(cluster get nodes --output 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}') || return
    for node in $all; do
        [[ " $nodes " == *" $node "* ]] || echo "$node"
    done
}

ready() {
    local said
    said=$(cluster get node "$1" --output \
        'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>&1) && [ "$said" = True ]
}

gone=$(strangers) || problem "the API server does not list the nodes"
for node in $gone; do
    echo "the node $node is no longer in the spec: its pods move, then it goes"
    # Pods of a machine that is dead cannot be asked to leave; they go with their node.
    said=$(cluster drain "$node" --ignore-daemonsets --delete-emptydir-data --force \
        --timeout=180s 2>&1) || ! ready "$node" ||
        problem "the pods of the node $node do not move within 180 s (${said##*$'\n'}): see" \
            "kubectl get pods --all-namespaces --field-selector spec.nodeName=$node, then run this again"
    await 60 "the node $node is gone" kube-apiserver.service \
        cluster delete node "$node" --ignore-not-found --timeout=30s
done
