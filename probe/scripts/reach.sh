#!/bin/bash
# reach.sh URL...: a line for each URL that gives no good answer, with the reason after it.

asked() {
    local said
    said=$(curl --silent --show-error --fail --noproxy '*' --max-time 10 --output /dev/null \
        "$1" 2>&1) || echo "$1 ${said%%$'\n'*}"
}

for url; do
    asked "$url" &
done
wait
