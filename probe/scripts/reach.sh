#!/bin/bash
# reach.sh URL...: prints a line for each URL that does not answer with success, with the reason after it.

asked() {
    local output
    output=$(curl --silent --show-error --fail --noproxy '*' --max-time 10 --output /dev/null \
        "$1" 2>&1) || echo "$1 ${output%%$'\n'*}"
}

for url; do
    asked "$url" &
done
wait
