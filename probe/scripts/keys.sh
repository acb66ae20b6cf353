#!/bin/bash
# keys.sh AUTHORITY CERTIFICATE KEY ENDPOINTS: for each control plane and kind of keys that turn over, where it
# published which of them its API server has (plan/scripts/walk.sh), a line of the place and of what it
# published; then an empty line; then, where the key that encrypts Secrets turned over, a line for each Secret
# with the name of the key that it is encrypted with.

export ETCDCTL_CACERT=$1 ETCDCTL_CERT=$2 ETCDCTL_KEY=$3 ETCDCTL_ENDPOINTS=$4

set -o pipefail
asked() {
    etcdctl get --prefix "$1" --dial-timeout=5s --command-timeout=20s "${@:2}"
}

notes=$(asked /hardway/) || exit
while read -r name && read -r text; do
    [[ $name != /hardway/@(encryption|service-accounts)/* ]] || echo "$name $text"
done <<<"$notes"
echo
[[ $notes == */hardway/encryption/* ]] || exit 0
asked /registry/secrets/ --write-out=fields |
    sed -n 's/^"Value" : "k8s:enc:secretbox:v1:\([^:]*\):.*/\1/p; t; s/^"Value" : ".*/none/p'
