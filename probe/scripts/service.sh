#!/bin/bash
# service.sh URL AUTHORITY: whether the server at URL presents a certificate of the authority; its answer
# to a client without a certificate does not matter.

output=$(curl --silent --show-error --noproxy '*' --max-time 10 --output /dev/null --cacert "$2" \
    "$1" 2>&1) || {
    echo "${output%%$'\n'*}" >&2 # only the reason; curl prints advice after it
    exit 1
}
