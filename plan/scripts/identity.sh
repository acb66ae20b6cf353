# shellcheck shell=bash
# Restarts the services that run with other keys and certificates than the new ones, unless they read
# these files again by themselves. Then the encryption key turns over, which has stages of its own.

while read -r unit paths; do
    # shellcheck disable=SC2086 # several paths
    read_again "$unit" $paths
done <<<"${reads-}"
restart_affected
# Only where the encryption key has turned over, the data have the record that sets this.
[ -z "${wanted-}" ] || turned_over
