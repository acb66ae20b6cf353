# shellcheck shell=bash
# The machine answers by SSH; wait until its first boot is configured, and let it be the last time.

# What cloud-init leaves when all of it is done. To ask cloud-init itself is to start Python, again and
# again, beside the boot that is waited for.
result=/run/cloud-init/result.json

over() {
    [ -s "$result" ] ||
        systemctl is-failed cloud-{init-main,init-local,init-network,init,config,final}.service
}

if [ -e /run/cloud-init/enabled ] && [ ! -e /etc/cloud/cloud-init.disabled ]; then
    await 900 "the first boot is configured" cloud-final.service over
    if ! grep --quiet --no-messages '"errors": \[\]' "$result"; then
        # Exit status 2 means done with a recoverable warning; anything else is worth its details.
        status=0
        said=$(timeout 60 cloud-init status --wait 2>&1) || status=$?
        if [ "$status" -ne 0 ] && [ "$status" -ne 2 ]; then
            cloud-init status --long >&2 || true
            echo "cloud-init failed: ${said##*$'\n'}" >&2
            exit 1
        fi
    fi
    # It would run at every boot again and take seconds from each. What it did is on the disk first: a
    # machine that lost its power here came back without its host key, and nobody to make it anew.
    lasting
    touch /etc/cloud/cloud-init.disabled
fi
