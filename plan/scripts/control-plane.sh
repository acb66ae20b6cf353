# shellcheck shell=bash
# Each part of the control plane says itself that it is well; what it says is not, is shown.

unlocked

# well URL: the answer to a question about health is yes
well() {
    local said
    said=$(curl --silent --show-error --fail-with-body --max-time 10 --cacert "${authority:?}" \
        "$1?verbose" 2>&1) && return
    # Of the many checks, those that failed.
    grep '^\[-\]' <<<"$said" || echo "$said"
    return 1
}

await 600 "the API server is ready" kube-apiserver.service well "${api:?}/readyz"
await 300 "the controller manager is healthy" kube-controller-manager.service \
    well "${controller_manager:?}/healthz"
await 300 "the scheduler is healthy" kube-scheduler.service well "${scheduler:?}/healthz"
if [ -n "${virtual_ip?}" ]; then
    await 300 "the virtual IP answers" keepalived.service well "$virtual_ip/readyz"
fi
