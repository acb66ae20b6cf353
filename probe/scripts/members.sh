#!/bin/bash
# members.sh AUTHORITY CERTIFICATE KEY ENDPOINTS: two lines of JSON, etcd's list of its members and
# the health of each endpoint; null for a part that etcd does not answer.

export ETCDCTL_CACERT=$1 ETCDCTL_CERT=$2 ETCDCTL_KEY=$3 ETCDCTL_ENDPOINTS=$4

# etcdctl fails where a member is not healthy, but prints the health of all of them.
exec {health_pipe}< <(etcdctl endpoint health --dial-timeout=5s --command-timeout=5s --write-out=json || true)
list=$(etcdctl member list --dial-timeout=5s --command-timeout=5s --write-out=json) || list=null
health=$(cat <&"$health_pipe")
printf '%s\n' "$list" "${health:-null}"
