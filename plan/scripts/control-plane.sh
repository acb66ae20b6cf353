# shellcheck shell=bash
# Each part of the control plane says itself that it is well; what it says is not, is shown.

unlocked

await_api 600 "${api:?}" "${authority:?}" kube-apiserver.service
await 300 "the controller manager is up" kube-controller-manager.service \
    well "${controller_manager:?}" "$authority"
await 300 "the scheduler is healthy" kube-scheduler.service well "${scheduler:?}" "$authority"
if [ -n "${virtual_ip?}" ]; then
    await 300 "the virtual IP answers" keepalived.service well "$virtual_ip/readyz" "$authority"
fi
