#!/bin/bash
# answer.sh URL: prints the answer of a program that this network's loopback leads to.

exec curl --silent --show-error --fail-with-body --noproxy '*' --max-time 20 "$1"
