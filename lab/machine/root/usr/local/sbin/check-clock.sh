#!/bin/sh
# check-clock.sh [RTC [CONSOLE [DONE]]]: whether this machine's clock goes as its host's does.
#
# A kernel that measures an emulated processor's counter on a busy host may find a tenth of its speed:
# its seconds are then ten times too short, and every limit of the machine with them. The clock was set
# from the RTC, which the host keeps, when the kernel started: what lies between them now is the fault.
# Only before the machine is ready: later a host may set its own clock.
set -eu
rtc=${1:-/sys/class/rtc/rtc0/since_epoch} console=${2:-/dev/console}
[ ! -e "${3:-/etc/cloud/cloud-init.disabled}" ] || exit 0
[ -e "$rtc" ] || exit 0
host=$(cat "$rtc")
off=$(($(date +%s) - host))
[ "${off#-}" -gt 5 ] || exit 0
if [ "$off" -gt 0 ]; then how="ahead of"; else how=behind; fi
echo "hardway: the clock of this machine is ${off#-} s $how its host's, $(cut -d' ' -f1 /proc/uptime)" \
    "s by its own count after its start" >"$console"
exit 1
