#!/bin/sh
# catch-up-clock.sh [RTC]: set a clock that fell behind while its machine stood still.
#
# The lab's machines have no time server. Where one was paused, or its host slept, its clock goes on from
# where it was; the RTC is the host's. A clock that is ahead is left alone: it goes too fast, and is
# told about (check-clock.sh, and the condition "clocks").
set -eu
rtc=${1:-/sys/class/rtc/rtc0/since_epoch}
[ -e "$rtc" ] || exit 0
host=$(cat "$rtc")
behind=$((host - $(date +%s)))
[ "$behind" -gt 2 ] || exit 0
date --set="@$host" >/dev/null
echo "the clock was $behind s behind the host's and is set"
