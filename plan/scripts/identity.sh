# shellcheck shell=bash
# Keys and certificates are in place: who runs with others starts again, unless it reads them by itself.

while read -r unit paths; do
    # shellcheck disable=SC2086 # several paths
    read_again "$unit" $paths
done <<<"${reads-}"
restart_affected
