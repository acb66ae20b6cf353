# shellcheck shell=bash
# Where there are several API servers, waits until this one is ready, before the next one restarts. For a
# lone API server the node's step waits, which runs at the same time and also checks the controllers.

unlocked

[ -z "${several?}" ] || await_api api "${api:?}" "${authority:?}" kube-apiserver.service
if [ -n "${virtual_ip?}" ]; then
    await virtual-ip "the virtual IP answers" keepalived.service well "$virtual_ip/readyz" "$authority"
fi
