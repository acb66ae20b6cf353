#!/bin/bash
# resolve.sh SERVER PORT QUERY: send a DNS message and print the answer, both in base64. The machines have
# no DNS tool.

exec {server}<>"/dev/udp/$1/$2"

# A datagram may be lost.
for _ in 1 2 3; do
    # A program writes the message at once. bash itself would send the part before each newline as a
    # separate message, and a newline is the number 10, which is the length of "kubernetes".
    base64 --decode <<<"$3" >&"$server"
    answer=$(timeout 2 dd bs=4096 count=1 status=none <&"$server" | base64 --wrap=0) || continue
    echo "$answer"
    exit
done

echo "the server $1 does not answer" >&2
exit 1
