# shellcheck shell=bash
# Where there are other API servers this one is ready before the next one restarts. Whoever needs a lone
# one waits for it, and starts beside it: the node's step, which also asks the controllers.

unlocked

[ -z "${several?}" ] || await_api api "${api:?}" "${authority:?}" kube-apiserver.service
if [ -n "${virtual_ip?}" ]; then
    await virtual-ip "the virtual IP answers" keepalived.service well "$virtual_ip/readyz" "$authority"
fi
