# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings and the prelude stand before this text
# The cluster has the objects that belong to it. The credential that may make them is on the machine
# only while this runs: its file is gone before it is used, and what is open ends with the process.

exec 9<"$admin"
rm "$admin"

# From here on only the API is changed, and what it is waited for needs this machine's other steps.
flock --unlock "${lock:?}"

cluster() {
    kubectl --kubeconfig /dev/fd/9 "$@"
}

await 300 "the API server is ready" kube-apiserver.service cluster get --raw /readyz

options=()
for file in $manifests; do
    options+=(--filename "$file")
done
await 120 "the API server takes the add-ons" kube-apiserver.service \
    cluster apply --server-side --force-conflicts --field-manager hardway "${options[@]}"
if [ -n "$absent" ]; then
    await 120 "the add-ons that are not wanted are gone" kube-apiserver.service \
        cluster delete --ignore-not-found --wait=false --filename "$absent"
fi

# A kubelet may not give itself this label, so each has to be registered.
for node in $control_planes; do
    await 300 "the control plane $node is registered and has its role" kubelet.service \
        cluster label --overwrite node "$node" node-role.kubernetes.io/control-plane=
done
