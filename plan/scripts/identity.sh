# shellcheck shell=bash
# Restarts the services that run with other keys and certificates than the new ones, unless they read
# these files again by themselves. Then keys turn over, which has stages of its own (walk.sh).

while read -r unit paths; do
    # shellcheck disable=SC2086 # several paths
    read_again "$unit" $paths
done <<<"${reads-}"
restart_affected
# shellcheck disable=SC2154 # records of keys that have turned over set it
for kind in "${turning[@]}"; do
    turned_over "$kind"
done
