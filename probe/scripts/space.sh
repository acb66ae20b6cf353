#!/bin/bash
# space.sh AUTHORITY CERTIFICATE KEY ENDPOINTS: a line of JSON with the status of each member of etcd that
# answers.

export ETCDCTL_CACERT=$1 ETCDCTL_CERT=$2 ETCDCTL_KEY=$3 ETCDCTL_ENDPOINTS=$4

# etcdctl fails where a member does not answer, but prints the status of the others.
etcdctl endpoint status --dial-timeout=5s --command-timeout=10s --write-out=json || true
