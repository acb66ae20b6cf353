# shellcheck shell=bash
# mend SERVICE... -- MARK... -- ASIDE...: prepares the steps of a repair. For the first services it removes
# settings beside their units and the notes on them, so that steps restart them. It deletes these marks,
# so that steps verify the artifacts again. It moves the notes on the last services aside, so that the
# step with the keys does not restart them.

state=/var/lib/hardway

while [ "$1" != -- ]; do
    # The note is deleted first: if this is cut off here, the service is restarted all the same.
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
