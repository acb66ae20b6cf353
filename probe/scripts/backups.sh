#!/bin/bash
# backups.sh FOLDER: the backups of etcd on this machine. Prints lines with tabs between their fields: now
# with the time; stage with what a run that goes on does now; last with time, result and text of the last
# run; backup with the name of one and its information; and a last line that these were all.

[ ! -d "$1" ] || cd "$1" || exit
printf 'now\t%s\n' "$(date +%s)"
if [ -d "$1" ]; then
    # shellcheck disable=SC2094 # the lock is only tried
    [ ! -s .stage ] || flock --nonblock .lock true || printf 'stage\t%s\n' "$(<.stage)"
    [ ! -e .last ] || printf 'last\t%s\n' "$(<.last)"
    for info in *.db.age.info; do
        [ -e "$info" ] || continue
        name=${info%.info} fields=()
        mapfile -t fields <"$info"
        [ ! -e "$name.copied" ] || fields+=(copied=yes)
        printf 'backup\t%s' "$name"
        printf '\t%s' "${fields[@]}"
        echo
    done
fi
echo 'these were all'
