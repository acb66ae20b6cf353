#!/usr/bin/env bash
# etcdutl 3.6.14 restores a snapshot of etcd 3.7.1 and ends with success, although it prints the format of the data
# itself (`snapshot status` has "version": "3.7.0"), and the member of 3.6.14 for which it restored never starts:
# `version "3.7.0" is not supported`. Whoever goes back to the older etcd by a restore learns of it when the old
# data are gone. The way that etcd does offer, `downgrade enable` on the running members, changes the format; a
# snapshot taken after that is taken by 3.6.14.
#
# Here one key is stored and restored, before and after. Seen:
#   3.7.0: etcdutl 3.6.14 restores it (status 0), and etcd 3.6.14 refuses it: version "3.7.0" is not supported
#   3.6.0: etcdutl 3.6.14 restores it (status 0), and etcd 3.6.14 has the key
#
# Compare the version of a snapshot with that of the members before anything is stopped.
#
# Needs Go 1.26.
set -euo pipefail

folder=$(mktemp -d)
server=''
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
cd "$folder"
export GOFLAGS=-mod=mod GOTOOLCHAIN=local ETCDCTL_ENDPOINTS=http://127.0.0.1:$((20000 + RANDOM % 10000))

# built VERSION: build the programs of a version in a folder of its name
built() {
    mkdir "$1"
    cat >"$1/go.mod" <<MODULE
module example.invalid/etcd

go 1.26

require (
	go.etcd.io/etcd/etcdctl/v3 v$1
	go.etcd.io/etcd/etcdutl/v3 v$1
	go.etcd.io/etcd/server/v3 v$1
)
MODULE
    (cd "$1" && GOBIN=$folder/$1 go install go.etcd.io/etcd/server/v3 go.etcd.io/etcd/etcdctl/v3 \
        go.etcd.io/etcd/etcdutl/v3) 2>/dev/null
}

# up VERSION DIRECTORY: start a member with this data, and wait until it answers or has ended
up() {
    "$1/server" --data-dir "$2" --listen-client-urls "$ETCDCTL_ENDPOINTS" \
        --advertise-client-urls "$ETCDCTL_ENDPOINTS" --listen-peer-urls http://127.0.0.1:0 >log 2>&1 &
    server=$!
    until 3.7.1/etcdctl endpoint health >/dev/null 2>&1; do
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.1
    done
}

down() {
    kill "$server" 2>/dev/null || true
    wait "$server" || true
    server=''
}

# format VERSION: wait until the member keeps its data in this format
format() {
    until [[ $(3.7.1/etcdctl endpoint status --write-out=fields) == *"\"StorageVersion\" : \"$1\""* ]]; do
        sleep 0.1
    done
}

# restored SNAPSHOT: restore it with the older programs, and say what came of it
restored() {
    local status=0 version
    [[ $(3.6.14/etcdutl snapshot status "$1" --write-out=json) =~ \"version\":\"([0-9.]+)\" ]]
    version=${BASH_REMATCH[1]}
    3.6.14/etcdutl snapshot restore "$1" --data-dir "$1.data" >/dev/null 2>&1 || status=$?
    echo -n "$version: etcdutl 3.6.14 restores it (status $status), and etcd 3.6.14 "
    if up 3.6.14 "$1.data"; then
        [ "$(3.7.1/etcdctl get key --print-value-only)" = value ]
        echo 'has the key'
    else
        echo "refuses it: $(sed 's/\\//g' log | grep --only-matching 'version "[0-9.]*" is not supported' | head -n 1)"
    fi
    down
}

built 3.6.14
built 3.7.1
up 3.7.1 data
3.7.1/etcdctl put key value >/dev/null
format 3.7.0
3.7.1/etcdctl snapshot save before >/dev/null 2>&1
3.7.1/etcdctl downgrade enable 3.6 >/dev/null
format 3.6.0
3.7.1/etcdctl snapshot save after >/dev/null 2>&1
down
seen="$(restored before)
$(restored after)"

expected='3.7.0: etcdutl 3.6.14 restores it (status 0), and etcd 3.6.14 refuses it: version "3.7.0" is not supported
3.6.0: etcdutl 3.6.14 restores it (status 0), and etcd 3.6.14 has the key'
echo "$seen"
if [ "$seen" != "$expected" ]; then
    echo "This has changed; expected was:
$expected" >&2
    exit 1
fi
