#!/usr/bin/env bash
# pyrage 1.4.0 (the age crate of Rust) chooses the cost of a passphrase by one measurement of a few milliseconds.
#
# A file that age encrypts under a passphrase says how costly each guess is: scrypt's work factor, of which one
# more means twice the work. age's own program always takes 18. pyrage times one small scrypt before each file and
# extrapolates to a second; before it opens a file, it measures again, and refuses a file whose factor exceeds
# the new estimate by more than 4. Where other programs take the processor in these milliseconds, the estimate is
# too low: files come out that are many times easier to guess, and a file that a quiet computer has written does
# not open with the right passphrase ("Excessive work parameter for passphrase"). Nothing of this is an argument.
#
# Seen on two processors, 12 files quiet and 40 beside eight busy loops:
#   work factors of a quiet computer: 18 19 19 19 19 19 19 19 19 19 19 19
#   work factors of a busy one:       14 14 15 15 15 15 15 15 16 16 16 16 16 16 16 17 17 17 17 18 18 ... 19 19
# The script fails where the factors of a busy computer no longer spread over 3 or more, or where pyrage takes the
# factor as an argument.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install pyrage==1.4.0

factors() { # factors COUNT: the work factors of so many new files, sorted, on one line
    "$folder/venv/bin/python" - "$1" <<'PYTHON'
import sys

import pyrage

files = [pyrage.passphrase.encrypt(b"content", "a long passphrase") for _ in range(int(sys.argv[1]))]
print(*sorted(int(file.split(b"\n")[1].split()[-1]) for file in files))
PYTHON
}

quiet=$(factors 12)
echo "work factors of a quiet computer: $quiet"
loops=()
for _ in 1 2 3 4 5 6 7 8; do
    timeout 300 sh -c 'while :; do :; done' &
    loops+=($!)
done
busy=$(factors 40)
kill "${loops[@]}" 2>/dev/null || true
wait 2>/dev/null || true
echo "work factors of a busy one:       $busy"
least=${busy%% *} most=${busy##* }
[ $((most - least)) -ge 3 ] || {
    echo "the factors of a busy computer are $least to $most: this has changed" >&2
    exit 1
}
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import pyrage

try:
    pyrage.passphrase.encrypt(b"content", "a long passphrase", work_factor=18)
except TypeError:
    sys.exit(0)
sys.exit("pyrage takes a work factor now: this has changed")
PYTHON
