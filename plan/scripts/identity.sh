# shellcheck shell=bash
# Restarts the services that run with other keys and certificates than the new ones, unless they read
# these files again by themselves.

while read -r unit paths; do
    # shellcheck disable=SC2086 # several paths
    read_again "$unit" $paths
done <<<"${reads-}"
restart_affected
