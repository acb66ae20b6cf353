#!/bin/bash
# space.sh AUTHORITY CERTIFICATE KEY ENDPOINTS: a line of JSON, the status of each of etcd's members
# that answers.

export ETCDCTL_CACERT=$1 ETCDCTL_CERT=$2 ETCDCTL_KEY=$3 ETCDCTL_ENDPOINTS=$4

# It fails where one does not answer, and tells of the others.
etcdctl endpoint status --dial-timeout=5s --command-timeout=10s --write-out=json || true
