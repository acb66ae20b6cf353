#!/usr/bin/env bash
# etcd 3.7.1 takes in one learner at a time and refuses the next one ("too many learner members in cluster"). The
# refused request stays in the log. A member that starts again reads the log from its last snapshot on, does not
# check the requests there any more, and connects to each refused member as to a peer: at the URL that the request
# named, with an ID that no member has. `member list` is right, and the metric known_peers too; only the probes
# show it. Each such peer is dialled again and again, in 3.7.1 with TLS as well, until a start finds a snapshot
# after these requests (10,000 entries later). Two members that joined at the same time and tried again every
# second left eight of them; on a slow machine etcd then took 0.6 of a processor.
#
# Here one member takes in a learner and refuses two others, and starts again. Seen:
#   before: 2 members, 0 unknown peers
#   started again: 2 members, 2 unknown peers
#
# Ask for a learner only where `member list` has none, and under a lock.
#
# Needs Go 1.26.
set -euo pipefail

folder=$(mktemp -d)
server=''
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
cd "$folder"
port=$((20000 + RANDOM % 10000))
url=http://127.0.0.1:$port
export GOFLAGS=-mod=mod GOTOOLCHAIN=local GOBIN=$folder ETCDCTL_ENDPOINTS=$url

cat >go.mod <<'MODULE'
module example.invalid/etcd

go 1.26

require (
	go.etcd.io/etcd/etcdctl/v3 v3.7.1
	go.etcd.io/etcd/server/v3 v3.7.1
)
MODULE
go install go.etcd.io/etcd/server/v3 go.etcd.io/etcd/etcdctl/v3 2>/dev/null

up() {
    ./server --data-dir data --initial-cluster default=http://127.0.0.1:$((port + 1)) \
        --listen-client-urls "$url" --advertise-client-urls "$url" \
        --listen-peer-urls http://127.0.0.1:$((port + 1)) \
        --initial-advertise-peer-urls http://127.0.0.1:$((port + 1)) >log 2>&1 &
    server=$!
    until ./etcdctl endpoint health >/dev/null 2>&1; do
        kill -0 "$server"
        sleep 0.1
    done
}

# shown: the number of members in the list, and of peers that are probed and are not in it
shown() {
    local list id unknown=0
    list=$(./etcdctl member list)
    for id in $(curl --silent "$url/metrics" |
        sed -n 's/^etcd_network_peer_round_trip_time_seconds_count{To="\(.*\)"} .*/\1/p'); do
        [[ $list == *"$id"* ]] || unknown=$((unknown + 1))
    done
    echo "$(wc -l <<<"$list") members, $unknown unknown peers"
}

# refused NAME PORT: ask for one more learner, which is refused
refused() {
    ./etcdctl member add "$1" --learner --peer-urls="http://127.0.0.1:$2" >output 2>&1 || true
    grep --quiet 'too many learner members' output || {
        echo "This has changed: etcd does not refuse a second learner: $(cat output)" >&2
        exit 1
    }
}

up
./etcdctl member add first --learner --peer-urls="http://127.0.0.1:$((port + 2))" >/dev/null
refused second "$((port + 3))"
refused third "$((port + 4))"
sleep 10 # probes come every few seconds
seen="before: $(shown)"
kill "$server"
wait "$server" || true
up
until [[ $(shown) != *' 0 unknown peers' || $SECONDS -gt 900 ]]; do
    sleep 1
done
sleep 10
seen+="
started again: $(shown)"

expected='before: 2 members, 0 unknown peers
started again: 2 members, 2 unknown peers'
echo "$seen"
if [ "$seen" != "$expected" ]; then
    echo "This has changed; expected was:
$expected" >&2
    exit 1
fi
