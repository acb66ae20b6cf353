#!/bin/bash
# members.sh AUTHORITY CERTIFICATE KEY ENDPOINTS: two lines of JSON, etcd's list of its members and
# the health of each endpoint; null for what is not told.

export ETCDCTL_CACERT=$1 ETCDCTL_CERT=$2 ETCDCTL_KEY=$3 ETCDCTL_ENDPOINTS=$4

# It fails where one is not healthy, and tells all the same.
exec {told}< <(etcdctl endpoint health --dial-timeout=5s --command-timeout=5s --write-out=json || true)
list=$(etcdctl member list --dial-timeout=5s --command-timeout=5s --write-out=json) || list=null
health=$(cat <&"$told")
printf '%s\n' "$list" "${health:-null}"
