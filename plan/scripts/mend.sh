# shellcheck shell=bash
# mend SERVICE... -- MARK...: what steps do not look at. They then restart these services, without
# the settings that somebody put beside their units, and read these artifacts again.

while [ "$#" -gt 0 ] && [ "$1" != -- ]; do
    # Before the settings go: who is cut off in between restarts the service all the same.
    rm -f "/var/lib/hardway/running/$1"
    rm -rf "/etc/systemd/system/$1.d" "/etc/systemd/system.control/$1.d" \
        "/run/systemd/system/$1.d" "/run/systemd/system.control/$1.d"
    shift
done
while [ "$#" -gt 1 ]; do
    shift
    rm -f "/var/lib/hardway/store/verified/$1"
done
