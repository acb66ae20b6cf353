# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings and the prelude stand before this text
# Waits until the kubelet, kube-proxy and flannel are healthy and the node is registered. All of these need
# the API first, so the first wait is the longest.

unlocked

healthy() {
    curl --silent --show-error --fail-with-body --max-time 60 "http://127.0.0.1:$1/healthz"
}

# The kubelet's own certificate and key, with which it may read its own node.
certificate='' private_key=''
while read -r word value; do
    case $word in
    client-certificate:) certificate=$value ;;
    client-key:) private_key=$value ;;
    esac
done <"$kubeconfig"

# registered: whether the API has this node
registered() {
    curl --silent --show-error --fail-with-body --max-time 60 --output /dev/null \
        --write-out '%{http_code}\n' --cacert "$authority" --cert "$certificate" --key "$private_key" \
        "$api/api/v1/nodes/$node"
}

# gone: whether the API answers that there is no such node
gone() {
    local output
    ! output=$(registered 2>/dev/null) && [ "$output" = 404 ]
}

# On a control plane, the machine's own API server may still be starting.
[ -z "$controllers" ] && waits=kubelet.service || waits=kube-apiserver.service
await_api api-for-node "$api" "$authority" "$waits"
# A kubelet that this step has just started is about to register. The restart needs no lock: another run
# that restarts the kubelet at the same time does no harm.
if [[ " ${started[*]} " != *' kubelet.service '* ]] && gone; then
    echo "the API has no node $node: its kubelet restarts, since it registers only at its start"
    systemctl --no-block restart kubelet.service
fi
await node "the kubelet is healthy" kubelet.service healthy "$kubelet_port"
await node "the node is registered ($node)" kubelet.service registered

await node "kube-proxy is healthy" kube-proxy.service healthy "$proxy_port"

# Where Kubernetes is flannel's store, flannel needs a ClusterRole, which the add-ons create later.
if [ "$flannel_store" = etcd ]; then
    await flannel "flannel has a subnet (and the CNI list is made)" flanneld.service \
        systemctl is-active flanneld.service
    await cni-list "the CNI list is there" flanneld.service test -s "$cni_list"
fi

for controller in $controllers; do
    await controllers "it is well ($controller)" "$controller" systemctl is-active "$controller"
done

[ -z "${rolling-}" ] || rolled
