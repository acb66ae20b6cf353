#!/bin/bash
# load-images.sh RUNTIME SOCKET PLATFORM: the container runtime takes the archive from the input.

case $1 in
containerd)
    # Its progress is for terminals.
    ctr --address "$2" --namespace k8s.io images import --platform "$3" - >/dev/null
    ;;
docker)
    output=$(curl --silent --show-error --fail-with-body --unix-socket "$2" --request POST \
        --header 'Content-Type: application/x-tar' --header 'Expect:' --upload-file - \
        'http://docker/images/load?quiet=1' 2>&1) || {
        echo "$output"
        exit 1
    }
    # A refusal comes with the status of a success.
    if grep '"error"' <<<"$output"; then
        exit 1
    fi
    ;;
esac
