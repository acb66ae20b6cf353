#!/bin/bash
# way-in.sh ADDRESS HTTP HTTPS NAME AUTHORITY: prints a line for each of the two ports at which no web server
# answers, whatever it says, and for https without a certificate of the authority for the name. HTTP may be -,
# for none.

asked() {
    local output
    output=$(curl --silent --show-error --noproxy '*' --max-time 10 --output /dev/null "${@:2}" 2>&1) ||
        echo "$1 does not answer (${output%%$'\n'*})"
}

[ "$2" = - ] || asked "http://$1:$2/" "http://$1:$2/" &
asked "https://$1:$3/" --cacert "$5" --connect-to "$4:$3:$1:$3" "https://$4:$3/" &
wait
