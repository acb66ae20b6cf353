# shellcheck shell=bash
# mend SERVICE... -- MARK... -- ASIDE...: what steps do not look at. They then restart these services,
# without the settings that somebody put beside their units, and read these artifacts again. What
# says with which files the last ones run is put aside: whoever renews keys does not restart them.

state=/var/lib/hardway

while [ "$1" != -- ]; do
    # Before the settings go: who is cut off in between restarts the service all the same.
    rm -f "$state/running/$1"
    rm -rf "/etc/systemd/system/$1.d" "/etc/systemd/system.control/$1.d" \
        "/run/systemd/system/$1.d" "/run/systemd/system.control/$1.d"
    shift
done
shift
while [ "$1" != -- ]; do
    rm -f "$state/store/verified/$1"
    shift
done
shift
for service; do
    install -d -m 0700 "$state/aside"
    [ ! -e "$state/running/$service" ] || mv "$state/running/$service" "$state/aside/"
done
