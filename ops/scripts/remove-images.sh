#!/bin/bash
# remove-images.sh RUNTIME SOCKET REFERENCE...: the images with these references are no longer there.

runtime=$1 socket=$2
shift 2
case $runtime in
containerd)
    ctr --address "$socket" --namespace k8s.io images delete --sync "$@" >/dev/null
    ;;
docker)
    for reference; do
        curl --silent --show-error --fail-with-body --unix-socket "$socket" --request DELETE \
            "http://docker/images/$reference" >&2
    done
    ;;
esac
