# shellcheck shell=bash
# Each part of the control plane says itself that it is well; what it says is not, is shown.

unlocked

await_api api "${api:?}" "${authority:?}" kube-apiserver.service
await controllers "the controller manager is up" kube-controller-manager.service \
    well "${controller_manager:?}" "$authority"
await controllers "the scheduler is healthy" kube-scheduler.service well "${scheduler:?}" "$authority"
if [ -n "${virtual_ip?}" ]; then
    await virtual-ip "the virtual IP answers" keepalived.service well "$virtual_ip/readyz" "$authority"
fi
