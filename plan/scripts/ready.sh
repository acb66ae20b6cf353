# shellcheck shell=bash
# The machine answers by SSH; wait until its first boot is configured, and let it be the last time.

if command -v cloud-init >/dev/null; then
    # Exit status 2 means done with a recoverable warning; anything else is worth its details.
    status=0
    said=$(cloud-init status --wait 2>&1) || status=$?
    if [ "$status" -ne 0 ] && [ "$status" -ne 2 ]; then
        cloud-init status --long >&2 || true
        echo "cloud-init failed: ${said##*$'\n'}" >&2
        exit 1
    fi
    # It would run at every boot again and take seconds from each.
    touch /etc/cloud/cloud-init.disabled
fi
