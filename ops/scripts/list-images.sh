#!/bin/bash
# list-images.sh RUNTIME SOCKET: a line for each image and then, behind an empty line, a line for
# each container, whether it runs or not. With Docker each of the two is a line of JSON.

case $1 in
containerd)
    ctr --address "$2" --namespace k8s.io images list
    echo
    ctr --address "$2" --namespace k8s.io containers list
    ;;
docker)
    get() {
        curl --silent --show-error --fail --unix-socket "$2" "http://docker/$1"
    }
    get images/json "$2"
    printf '\n\n'
    get 'containers/json?all=true' "$2"
    ;;
esac
