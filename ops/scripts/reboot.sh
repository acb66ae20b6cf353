# shellcheck shell=bash
# reboot.sh STATE SECONDS: reboot this machine once no step is at work on it (plan/scripts/prelude.sh has
# the lock), which may take so long.
exec {lock}>"$1/lock"
flock --timeout "$2" "$lock" || {
    echo "failed: another run is at work on this machine and does not end"
    exit 1
}
systemctl --no-block reboot
