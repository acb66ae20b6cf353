#!/usr/bin/env bash
# terraform-provider-libvirt 0.8.3 (also behind pulumi-libvirt 0.5.4) and golang.org/x/crypto 0.31.0: the key of
# keyfile= in a qemu+ssh URI is never offered where an SSH agent runs, whatever keys the agent has. The same
# URI works in a shell without an agent, and with ssh itself or virsh in both.
#
# Two libraries meet here. The provider makes one "publickey" method for the agent and another for each key
# file. Go's SSH client tries each method once by its name, so after the agent's keys were refused, or where
# it has none, it passes over the methods with the files. For the same reason only the first of several key
# files is ever offered.
#
# Here the server lets one key in, and the agent, where there is one, has no key at all. Seen:
#   without an agent: logged in
#   with an agent: unable to authenticate
#   with an agent and sshauth=privkey: logged in
#
# Until it is mended: write sshauth=privkey beside keyfile.
#
# Needs Go, and the programs of openssh-server and openssh-client.
set -euo pipefail

folder=$(mktemp -d)
agent='' server=''
trap '[ -z "$agent" ] || kill "$agent"; [ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
cd "$folder"

cat >go.mod <<'MODULE'
module example.invalid/dial

go 1.23

require (
	github.com/dmacvicar/terraform-provider-libvirt v0.8.3
	golang.org/x/crypto v0.31.0
)
MODULE
cat >main.go <<'PROGRAM'
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/dmacvicar/terraform-provider-libvirt/libvirt/uri"
)

func main() {
	log.SetOutput(io.Discard)
	where, err := uri.Parse(os.Args[1])
	if err == nil {
		_, err = where.Dial()
	}
	switch {
	case err == nil:
		fmt.Println("logged in, and there is a libvirt")
	case strings.Contains(err.Error(), "failed to connect to libvirt on the remote host"):
		fmt.Println("logged in")
	case strings.Contains(err.Error(), "unable to authenticate"):
		fmt.Println("unable to authenticate")
	default:
		fmt.Println(err)
	}
}
PROGRAM
export GOFLAGS=-mod=mod GOTOOLCHAIN=local
go build -o dial . 2>/dev/null

for key in host own; do
    ssh-keygen -q -t ed25519 -N '' -f "$key"
done
port=$((20000 + RANDOM % 20000))
/usr/sbin/sshd -D -f /dev/null -E sshd.log -p "$port" -h "$folder/host" -o ListenAddress=127.0.0.1 \
    -o PidFile=none -o StrictModes=no -o UsePAM=no -o PasswordAuthentication=no \
    -o KbdInteractiveAuthentication=no -o PermitRootLogin=yes -o "AuthorizedKeysFile=$folder/own.pub" &
server=$!
until ssh-keyscan -p "$port" 127.0.0.1 >known 2>/dev/null && [ -s known ]; do
    kill -0 "$server"
    sleep 0.1
done
eval "$(env HOME="$folder" ssh-agent -s)" >/dev/null
agent=$SSH_AGENT_PID socket=$SSH_AUTH_SOCK user=$(id -un)

# dial SOCKET MORE: what comes of the URI, with the agent at this socket
dial() {
    local where="qemu+ssh://$user@127.0.0.1:$port/system?keyfile=$folder/own&knownhosts=$folder/known"
    # There is no libvirt at this socket, so a login is as far as it comes.
    env HOME="$folder" SSH_AUTH_SOCK="$1" ./dial "$where&socket=$folder/nothing$2"
}

expected='without an agent: logged in
with an agent: unable to authenticate
with an agent and sshauth=privkey: logged in'
seen="without an agent: $(dial '' '')
with an agent: $(dial "$socket" '')
with an agent and sshauth=privkey: $(dial "$socket" '&sshauth=privkey')"
echo "$seen"
if [ "$seen" != "$expected" ]; then
    echo "This has changed; expected was:
$expected" >&2
    exit 1
fi
