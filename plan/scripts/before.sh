# shellcheck shell=bash
# shellcheck disable=SC2154 # prelude.sh is read before this text
# Remembers what was at the places of new things on a machine that existed before the cluster, and puts it
# back when they go. The program made no machine with the directory $before; all others are left alone.

# remember THING...: keep what is at the places of things that are new to this machine
remember() {
    local thing path
    [ -d "$before" ] || return 0
    for thing; do
        path=${thing#* }
        case ${thing%% *} in
        unit | masked)
            remember_unit "$path"
            remember_file "$system/$path"
            ;;
        file | secret | link) remember_file "$path" ;;
        esac
    done
}

# remember_file PATH: a copy with mode, owner and times; none where nothing is
remember_file() {
    local copy=$before/files$1
    if [ ! -f "$1" ] && [ ! -L "$1" ]; then
        rm -f "$copy"
        return
    fi
    rm -rf "$before/.copy"
    cp --archive --no-target-directory "$1" "$before/.copy"
    [ -L "$before/.copy" ] || sync "$before/.copy"
    install -d -m 0700 "${copy%/*}"
    mv --force --no-target-directory "$before/.copy" "$copy"
}

# remember_unit NAME: whether the service started at boot, whether it runs, and a copy of the folder with
# settings beside its unit
remember_unit() {
    local boot run folder=$system/$1.d copy=$before/files$system/$1.d
    rm -rf "$copy" "$before/.copy"
    if [ -e "$folder" ] || [ -L "$folder" ]; then
        cp --archive --no-target-directory "$folder" "$before/.copy"
        install -d -m 0700 "${copy%/*}"
        mv --no-target-directory "$before/.copy" "$copy"
        sync --file-system "$before"
    fi
    boot=$(systemctl is-enabled "$1" 2>/dev/null) || true
    run=$(systemctl is-active "$1") || true
    install -d -m 0700 "$before/units"
    printf '%s %s\n' "${boot:-unknown}" "$run" >"$before/units/.$1"
    mv --force "$before/units/.$1" "$before/units/$1"
}

# put_back PATH: what was at the path before; fails where nothing was. The copy stays, since a run that is
# cut off does this again.
put_back() {
    local copy=$before/files$1
    [ -f "$copy" ] || [ -L "$copy" ] || return 1
    copied "$copy" "$1"
}

# settings_beside NAME: put back the folder with settings beside a unit, in whose place nothing is
settings_beside() {
    local copy=$before/files$system/$1.d
    if [ -e "$copy" ] || [ -L "$copy" ]; then
        copied "$copy" "$system/$1.d"
    fi
}

# as_before NAME: let a service start and run as it did
as_before() {
    local boot run output
    read -r boot run 2>/dev/null <"$before/units/$1" || return 0
    [ "$boot" != enabled ] || output=$(systemctl enable "$1" 2>&1) ||
        echo "$1 was enabled before, and cannot be: $output"
    systemctl reset-failed "$1" 2>/dev/null || true
    [ "$run" != active ] || output=$(systemctl --no-block start "$1" 2>&1) ||
        echo "$1 ran before, and cannot be started: $output"
}

# forget THING...: these things are gone for good
forget() {
    local thing path
    [ -d "$before" ] || return 0
    for thing; do
        path=${thing#* }
        case ${thing%% *} in
        unit | masked)
            rm -f "$before/units/$path" "$before/files$system/$path"
            rm -rf "$before/files$system/$path.d"
            ;;
        *) rm -f "$before/files$path" ;;
        esac
    done
}

# Each directory that was there before, below those in which steps make some.
declare -A earlier=()

# was_there DIRECTORY: whether it was there before; it gets its mode and owner back
was_there() {
    local mode owner path
    [ -f "$before/directories" ] || return 1
    if [ "${#earlier[@]}" -eq 0 ]; then
        earlier[/]=
        while read -r mode owner path; do
            earlier[$path]="$mode $owner"
        done <"$before/directories"
    fi
    [ -n "${earlier[$1]-}" ] || return 1
    read -r mode owner <<<"${earlier[$1]}"
    [ ! -d "$1" ] || { chmod "$mode" "$1" && chown "$owner" "$1"; }
}

# was_empty DIRECTORY: whether it was there before, with nothing in it. A machine that an earlier version of
# this program attached has no list of those.
was_empty() {
    grep --quiet --line-regexp --fixed-strings --regexp="$1" "$before/empty" 2>/dev/null
}
