# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings and the prelude stand before this text
# The kubelet, kube-proxy and flannel are healthy and the node is registered. Before the API can be
# reached nothing of that happens, so the first wait is the long one.

unlocked

healthy() {
    curl --silent --show-error --fail-with-body --max-time 60 "http://127.0.0.1:$1/healthz"
}

registered() {
    kubectl --kubeconfig "$kubeconfig" get --raw "/api/v1/nodes/$node"
}

# gone: the API says that there is no such node
gone() {
    local said
    ! said=$(registered 2>&1 </dev/null) && [[ $said == *'(NotFound)'* ]]
}

await_api api-for-node "$api" "$authority" kubelet.service
# One that has just been started may be about to register. Whoever restarts it beside this does the
# same, so that needs no lock.
if [[ " ${started[*]} " != *' kubelet.service '* ]] && gone; then
    echo "the API has no node $node: its kubelet restarts, since it registers only at its start"
    systemctl --no-block restart kubelet.service
fi
await node "the kubelet is healthy" kubelet.service healthy "$kubelet_port"
await node "the node is registered ($node)" kubelet.service registered

await node "kube-proxy is healthy" kube-proxy.service healthy "$proxy_port"

# Where Kubernetes keeps flannel's subnets, flannel waits for its role, which is an add-on.
if [ "$flannel_store" = etcd ]; then
    await flannel "flannel has a subnet (and the CNI list is made)" flanneld.service \
        systemctl is-active flanneld.service
    await cni-list "the CNI list is there" flanneld.service test -s "$cni_list"
fi
