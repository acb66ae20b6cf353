#!/bin/bash
# backups.sh FOLDER: the backups of etcd on this machine. Prints lines with tabs between their fields: now
# with the time; stage with what a run that goes on does now; last with time, result and text of the last
# run; backup with the name of one and its information; and a last line that these were all.

[ ! -d "$1" ] || cd "$1" || exit
printf 'now\t%s\n' "$(date +%s)"
if [ -d "$1" ]; then
    # A backup that ends meanwhile takes these files away.
    if stage=$(cat .stage 2>/dev/null) && ! flock --nonblock .lock true; then
        printf 'stage\t%s\n' "$stage"
    fi
    [ ! -e .last ] || printf 'last\t%s\n' "$(<.last)"
    for info in *.db.age.info; do
        name=${info%.info}
        mapfile -t fields < <(cat "$info" 2>/dev/null)
        [ "${#fields[@]}" -gt 0 ] || continue
        [ ! -e "$name.copied" ] || fields+=(copied=yes)
        printf 'backup\t%s' "$name"
        printf '\t%s' "${fields[@]}"
        echo
    done
fi
echo 'these were all'
