#!/bin/bash
# encryption.sh AUTHORITY CERTIFICATE KEY ENDPOINTS: for each control plane that published which keys its API
# server has, a line of its name, the turn and the names (plan/scripts/encryption.sh); then an empty line;
# then a line for each Secret, of the name of the key that it is encrypted with.

export ETCDCTL_CACERT=$1 ETCDCTL_CERT=$2 ETCDCTL_KEY=$3 ETCDCTL_ENDPOINTS=$4

set -o pipefail
notes=$(etcdctl get --prefix /hardway/encryption/ --dial-timeout=5s --command-timeout=20s) || exit
while read -r name && read -r text; do
    echo "${name##*/} $text"
done <<<"$notes"
echo
etcdctl get --prefix /registry/secrets/ --dial-timeout=5s --command-timeout=20s --write-out=fields |
    sed -n 's/^"Value" : "k8s:enc:secretbox:v1:\([^:]*\):.*/\1/p; t; s/^"Value" : ".*/none/p'
