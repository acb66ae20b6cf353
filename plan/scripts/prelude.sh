# shellcheck shell=bash
# shellcheck disable=SC2154 # pace.sh is read before this text
# The functions of all steps: one for each kind of record (step.sh), and those for waits. Each function
# brings about a state, whatever the state is now, and does nothing where that state is there already. So
# a step can be cut off at any line and run again.

export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export DEBIAN_FRONTEND=noninteractive
umask 077

state=/var/lib/hardway
# What was on this machine before, where it existed before the cluster (before.sh).
before=$state/before
system=/etc/systemd/system
programs=/usr/local/lib/hardway
units=()
# The units that this run started, because they did not run or ran with other files.
started=()
waiting=()
# The limits of waits by their names, in seconds of a quiet machine.
declare -A limits
declare -A needs=() seen=() beside=() ready=()
# Unit to the URL of its health endpoint on this machine, for services that other machines run as well.
# See turn.sh.
declare -A own=()

# An emulated machine takes 20 ms for each program that is started: nothing here starts one where the
# shell itself can do it, and nothing that is right already is made again.
if [ ! -d "$state/running" ] || [ ! -d "$state/store/verified" ]; then
    # Services of other users must pass through to the store, but nobody may list the directory.
    install -d -m 0711 "$state"
    install -d -m 0755 "$state/store" "$state/store/sha256" "$state/store/verified"
    install -d -m 0700 "$state/running"
fi

# lasting: write all changes to the disk. Every step ends with this, so that a loss of power after the
# step undoes nothing.
lasting() {
    sync --file-system /etc "$state"
}
trap lasting EXIT

# problem SENTENCE: end this step as failed, for this reason. plan/render.py finds the sentence in the
# step's output by its first word, and shows it before everything else.
problem() {
    echo "failed: $*" >&2
    exit 1
}

# alone: take the lock of this machine. A run whose connection was lost may still be at work, and two
# runs at once would undo each other's changes.
alone() {
    exec {lock}>"$state/lock"
    wait_for lock "no other run is at work here"
    if ! flock --timeout "$reminder" "$lock"; then
        announce
        until next_look && flock --timeout "$look" "$lock"; do
            still || problem "another run has been at work on this machine for $waited ($since);" \
                "try again later"
        done
    fi
    # Files that runs left which were cut off while they saved their data.
    local left
    for left in "$state"/steps/.*.*; do
        [ -d "/proc/${left##*.}" ] || rm -f "$left"
    done
}

# note LIST LINE...: remember lines about what was before, which the list may have already
note() {
    local line list=$before/$1 lines=''
    [ -d "$before" ] || return 0
    [ ! -f "$list" ] || lines=$(<"$list")$'\n'
    for line in "${@:2}"; do
        [[ $'\n'$lines == *$'\n'"$line"$'\n'* ]] || lines+=$line$'\n'
    done
    printf %s "$lines" >"$list.new"
    sync "$list.new"
    mv --force "$list.new" "$list"
}

# note_packages NAME...: remember the packages that an installation of these brings
note_packages() {
    local verb name rest brought=()
    [ -d "$before" ] || return 0
    while read -r verb name rest; do
        # A package that becomes a newer one has the old version in brackets.
        [ "$verb" != Inst ] || [[ $rest == \[* ]] || brought+=("$name")
    done < <(apt-get --quiet --simulate --no-remove --no-install-recommends install "$@")
    [ "${#brought[@]}" -eq 0 ] || note packages "${brought[@]}"
}

# in_the_way <<OUTPUT: print the packages that apt would remove for others, on one line
in_the_way() {
    local names
    names=$(sed -n '/^The following packages will be REMOVED:/,/^[^ ]/s/^  *//p')
    names=${names//'*'/}
    echo "${names//$'\n'/ }"
}

# no_room NAMES NAME...: fail since packages cannot be installed beside those of the names
no_room() {
    local step="remove $1 if this machine can do without"
    [[ " ${*:2} " != *' systemd-timesyncd '* ]] ||
        step="leave networks.time_servers out, or remove this machine's own time service"
    problem "the packages ${*:2} cannot be installed beside $1, which apt would remove; $step, and run the" \
        "same again"
}

# packages NAME...: install those that are missing, and remove none for them
packages() {
    local name there missing=()
    there=$(dpkg-query --show --showformat '${db:Status-Status}:${Package}\n' "$@" 2>/dev/null) || true
    for name; do
        [[ $'\n'$there$'\n' == *$'\n'"installed:$name"$'\n'* ]] || missing+=("$name")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    local output why
    # A dpkg may still run for a run that was cut off, or for somebody else; it does not wait for a lock.
    wait_for dpkg "other installations are over"
    until output=$(dpkg --configure -a 2>&1); do
        if [[ $output != *' lock '* ]] || ! still "$output"; then break; fi
        sleep 1
    done
    until output=$( { apt-get --quiet -o "DPkg::Lock::Timeout=$reminder" update &&
        note_packages "${missing[@]}" &&
        apt-get --quiet --yes --no-remove --no-install-recommends -o "DPkg::Lock::Timeout=$reminder" \
            install "${missing[@]}"; } 2>&1); do
        if [[ $output != *"E: Could not get lock"* ]] || ! still "$output"; then
            why=$(in_the_way <<<"$output")
            [ -z "$why" ] || no_room "$why" "${missing[@]}"
            why=$(grep --extended-regexp '^(E:|dpkg: error)' <<<"$output") || why=${output##*$'\n'}
            problem "the packages ${missing[*]} cannot be installed: $why"
        fi
        sleep 1
    done
}

# user NAME: a system user with a group of its name
user() {
    # The group first: useradd makes both, and leaves a user without its group where it is cut off.
    getent group "$1" >/dev/null || { note groups "$1" && groupadd --system "$1"; }
    getent passwd "$1" >/dev/null || {
        note users "$1"
        useradd --system --gid "$1" --no-create-home --home-dir /nonexistent \
            --shell /usr/sbin/nologin "$1"
    }
}

# directory MODE OWNER PATH: make it, or give it its mode and owner. A link is refused: it may be how a
# person put a program's data on another disk, and a directory in its place would hide them.
directory() {
    if [ -L "$3" ]; then
        problem "$3 is a link to $(readlink "$3") and must be a directory: mount what it leads to there" \
            "(mount --bind, and a line in /etc/fstab) and run the same again"
    fi
    install -d -m "$1" -o "${2%:*}" -g "${2#*:}" "$3"
}

# beside_of FOLDER: set above to the directory where the folder's new files are written before they are
# moved into it. It is on the same file system, and not seen by programs that watch the folder.
beside_of() {
    local devices
    above=${beside[$1]-}
    [ -z "$above" ] || return 0
    [ -d "$1" ] || install -d -m 0755 "$1"
    above=${1%/*}
    devices=$(stat -c %d "${above:-/}" "$1")
    if [ -z "$above" ] || [ "${devices%$'\n'*}" != "${devices#*$'\n'}" ]; then
        above=$1
    fi
    beside[$1]=$above
}

# staging_for PATH: set staged to the path of the file before it is moved to PATH
staging_for() {
    local above
    beside_of "${1%/*}"
    staged=$above/.${1##*/}.hardway
    if [ -e "$staged" ] || [ -L "$staged" ]; then
        rm -rf "$staged"
    fi
}

# there MODE OWNER PATH CONTENT: whether the file is like this already
there() {
    if [ -L "$3" ] || [ ! -f "$3" ]; then
        [ ! -d "$3" ] || [ -L "$3" ] || problem "$3 is a directory and should be a file"
        return 1
    fi
    [ "$(stat -c '%04a %U:%G %s' "$3")" = "$1 $2 ${#4}" ] && printf %s "$4" | cmp --quiet - "$3"
}

# write MODE OWNER PATH CONTENT: write a file that no program reads yet
write() {
    printf %s "$4" >"$3"
    [ "$2" = root:root ] || chown "$2" "$3"
    [ "$1" = 0600 ] || chmod "$1" "$3" # 0600 is the mode that the umask gives
}

# file MODE OWNER PATH CONTENT: the content ends with one newline
file() {
    local staged
    ! there "$@" || return 0
    staging_for "$3"
    write "$1" "$2" "$staged" "$4"
    sync "$staged"
    mv --force --no-target-directory "$staged" "$3"
}

# secret MODE OWNER PATH CONTENT: write a file that in_place moves to its path, together with the others
secret() {
    local above folder=${3%/*}
    if [ -z "${ready[$folder]-}" ]; then
        beside_of "$folder"
        ready[$folder]=$above/.${folder##*/}.hardway
        if [ -e "${ready[$folder]}" ] || [ -L "${ready[$folder]}" ]; then
            rm -rf "${ready[$folder]}"
        fi
    fi
    ! there "$@" || return 0
    [ -d "${ready[$folder]}" ] || mkdir "${ready[$folder]}"
    write "$1" "$2" "${ready[$folder]}/${3##*/}" "$4"
    waiting+=("${ready[$folder]}/${3##*/}")
}

# in_place: move the secret files to their paths, all files of a folder by one program. A service that
# reads its pair at each connection, as etcd does, would refuse all connections while the key and the
# certificate do not fit each other.
in_place() {
    local folder path moved
    [ "${#waiting[@]}" -gt 0 ] || return 0
    sync "${waiting[@]}"
    for folder in "${!ready[@]}"; do
        moved=()
        for path in "${waiting[@]}"; do
            [ "${path%/*}" != "${ready[$folder]}" ] || moved+=("$path")
        done
        [ "${#moved[@]}" -gt 0 ] || continue
        mv --force --target-directory "$folder" "${moved[@]}"
        rmdir "${ready[$folder]}"
    done
}

# copied COPY PATH: put a copy in the place of PATH, with the mode, owner and times of what it was made of
copied() {
    local staged
    staging_for "$2"
    cp --archive --no-target-directory "$1" "$staged"
    mv --force --no-target-directory "$staged" "$2"
}

# link PATH TARGET
link() {
    local path=$1 target=$2 staged
    [ ! -L "$path" ] || [ "$(readlink "$path")" != "$target" ] || return 0
    staging_for "$path"
    ln --symbolic "$target" "$staged"
    mv --force --no-target-directory "$staged" "$path"
}

# verified PATH KEY: whether a file of the store was verified and not touched since. The bytes are read
# only once, since they are hundreds of megabytes. Sizes and times of all files are read by one program.
verified() {
    local mark path size second
    if [ "${#seen[@]}" -eq 0 ]; then
        seen[/]=
        while read -r size second path; do
            seen[$path]="$size $second"
        done < <(stat -c '%s %.9Y %n' "$state"/store/sha256/* "$state"/store/archive/*/* 2>/dev/null)
    fi
    read -r mark 2>/dev/null <"$state/store/verified/$2" || return 1
    [ "$mark" = "${seen[$1]-}" ]
}

# mark PATH KEY: note that these bytes were verified
mark() {
    stat -c '%s %.9Y' "$1" >"$state/store/.verified"
    mv --force "$state/store/.verified" "$state/store/verified/$2"
}

# keep STAGED PATH KEY MODE: move verified bytes into the store
keep() {
    chmod "$4" "$1"
    sync "$1"
    mv --force --no-target-directory "$1" "$2"
    mark "$2" "$3"
}

# right FILE ALGORITHM:DIGEST
right() {
    [ -f "$1" ] && "${2%%:*}sum" --check --status <<<"${2#*:}  $1"
}

# download FILE URL: continue after the bytes that FILE has already
download() {
    curl --fail --silent --show-error --location --connect-timeout 10 --retry 3 \
        --retry-connrefused --speed-limit 1000 --speed-time 30 --continue-at - --output "$1" "$2"
}

# fetched NAME FILE ALGORITHM:DIGEST URL...: download from the first URL that has the right bytes
fetched() {
    local name=$1 part=$2 digest=$3 url had output status why=
    shift 3
    right "$part" "$digest" && return
    for url; do
        for _ in 1 2 3 4 5; do
            [ -s "$part" ] && had=yes || had=
            status=0
            output=$(download "$part" "$url" 2>&1) || status=$?
            right "$part" "$digest" && return
            case $status in
            0)
                output=$("${digest%%:*}sum" "$part")
                output="its ${digest%%:*} is ${output%% *} and not ${digest#*:}"
                ;;
            18 | 56) continue ;; # the connection broke: continue after the bytes that are here
            22) [[ $output == *416* ]] || break ;; # status 416: FILE is longer than the server's file
            23 | 33 | 36) ;; # no room, or the server cannot send a part of the file
            *) break ;;
            esac
            rm -f "$part"
            [ -n "$had" ] || break # else the bytes of an earlier run may have been wrong: try again
        done
        why="$why; $url: ${output//$'\n'/ }"
    done
    problem "$name cannot be had${why:-: it is not in the base image and no source is known}"
}

# artifact NAME SHA256 MODE URL...
artifact() {
    local name=$1 digest=$2 mode=$3 path=$state/store/sha256/$2 part=$state/store/$1.$2.part
    shift 3
    verified "$path" "$digest" && return
    if right "$path" "sha256:$digest"; then
        chown root:root "$path"
        chmod "$mode" "$path"
        mark "$path" "$digest"
        return
    fi
    rm -f "$path"
    fetched "$name" "$part" "sha256:$digest" "$@"
    keep "$part" "$path" "$digest" "$mode"
}

# archived NAME ALGORITHM:DIGEST MEMBER MODE URL: a program inside an archive with this digest
archived() {
    local name=$1 digest=$2 member=$3 mode=$4 folder path part
    folder=$state/store/archive/${digest#*:} path=$folder/$name part=$state/store/$name.part
    shift 4
    verified "$path" "${digest#*:}.$name" && return
    install -d -m 0755 "$state/store/archive" "$folder"
    fetched "$name" "$folder/.archive" "$digest" "$@"
    tar --extract --to-stdout --file "$folder/.archive" "$member" >"$part" 2>/dev/null ||
        problem "$name is not in $1 as $member"
    keep "$part" "$path" "${digest#*:}.$name" "$mode"
}

# unpacked: remove the archives, since all programs have been taken out of them
unpacked() {
    rm -f "$state"/store/archive/*/.archive
}

# alone_in_force NAME: take the settings away that were beside a unit of this name before the cluster
# (before.sh has a copy); not those that somebody made since, which are drift
alone_in_force() {
    local staged folder=$system/$1.d copy=$before/files$system/$1.d
    [ -e "$copy" ] || [ -L "$copy" ] || return 0
    staging_for "$folder"
    ! diff --recursive --no-dereference --brief "$copy" "$folder" >/dev/null 2>&1 || {
        mv --no-target-directory "$folder" "$staged"
        rm -rf "$staged"
    }
}

# unit NAME TEXT NEEDED-PATH...: a service that runs when the step is done
unit() {
    file 0600 root:root "$system/$1" "$2"
    alone_in_force "$1"
    units+=("$1")
    printf -v "needs[$1]" '%s\n' "$system/$1" "${@:3}"
}

# masked NAME...: services of the distribution that must not run
masked() {
    local name output up=()
    mapfile -t up < <(systemctl is-active "$@")
    for name; do
        case ${up[0]-} in
        inactive | failed | unknown) ;;
        *) output=$(systemctl stop "$name" 2>&1) || problem "$name cannot be stopped: $output" ;;
        esac
        up=("${up[@]:1}")
        [ "$(readlink "$system/$name")" = /dev/null ] ||
            output=$(systemctl mask "$name" 2>&1) ||
            problem "$name cannot be masked: $output"
    done
}

# fingerprint <<PATHS: the digest of each file that a service uses; of a link to a program its target,
# whose name is a digest
fingerprint() {
    local path files=()
    while read -r path; do
        if [ -L "$path" ]; then
            printf '%s  %s\n' "$(readlink "$path")" "$path"
        elif [ -f "$path" ]; then
            files+=("$path")
        else
            printf 'missing  %s\n' "$path"
        fi
    done
    [ "${#files[@]}" -eq 0 ] || sha256sum "${files[@]}"
}

# as_started NAME: whether a service was started with the files that the note .NAME lists. Files that it
# needed at its start and needs no longer do not count.
as_started() {
    [ -f "$state/running/$1" ] && ! grep --quiet --invert-match --line-regexp --fixed-strings \
        --file="$state/running/$1" "$state/running/.$1"
}

# stale NAME: make the note on a service match no file. Where the restart is interrupted, the next run
# then does not believe that the service runs with its new files.
stale() {
    [ -f "$state/running/$1" ] || return 0
    sed 's/^[^ ]*/stale/' "$state/running/.$1" >"$state/running/..$1"
    mv "$state/running/..$1" "$state/running/$1"
}

# ended NAME INVOCATION: whether this run of a service has ended, also where the next one has not begun
ended() {
    local output
    output=$(systemctl show --property ActiveState --property InvocationID "$1")
    [[ $output != *"InvocationID=$2"* || $output == *ActiveState=@(inactive|failed)* ]]
}

# restart NAME...: restart services, taking a turn where other machines run the same service, and a member of
# etcd only once the members of its plan are in. It comes back when the old processes have ended, so later
# questions about health reach none of them. The step's own script asks for health, since some of the
# services need each other to become healthy.
restart() {
    local name before=()
    [[ -z ${member_unit-} || " $* " != *" $member_unit "* ]] || members_first
    systemctl reset-failed "$@" 2>/dev/null || true
    for name; do
        stale "$name"
    done
    [ "${#own[@]}" -eq 0 ] || in_turn "$@"
    mapfile -t before < <(systemctl show --property InvocationID --value "$@")
    systemctl --no-block restart "$@"
    for name; do
        [ -z "${before[0]-}" ] || await ended "what ran before is over ($name)" "$name" \
            ended "$name" "${before[0]}"
        before=("${before[@]:2}") # there is an empty line between two
    done
}

# settle: enable the step's services, and (re)start those that do not run with the present files
settle() {
    local name output off by_files=(--root=/) start=() up=()
    # New units are enabled through their files alone, before systemd has read them. Otherwise systemd
    # would have to read all units once more, which takes seconds. Where one of the services ran before,
    # systemd knows its unit already and must enable it itself.
    for name in "${units[@]}"; do
        [ ! -f "$state/running/$name" ] || by_files=()
    done
    off=$(systemctl "${by_files[@]}" is-enabled "${units[@]}" 2>&1 |
        grep --invert-match --line-regexp enabled) || true
    if [ -n "$off" ]; then
        output=$(systemctl "${by_files[@]}" --no-reload enable "${units[@]}" 2>&1) || problem "$output"
    fi
    mapfile -t up < <(systemctl is-active "${units[@]}")
    for name in "${units[@]}"; do
        [ ! -e "$state/running/..$name" ] || rm "$state/running/..$name" # of a run that was cut off
        fingerprint <<<"${needs[$name]%$'\n'}" >"$state/running/.$name"
        # A service that is starting counts as running: etcd starts only together with other members.
        case ${up[0]-} in
        active | activating | reloading)
            as_started "$name" || start+=("$name")
            ;;
        *) start+=("$name") ;;
        esac
        up=("${up[@]:1}")
    done
    if [ "${#start[@]}" -gt 0 ] || [ -n "$off" ]; then
        # A timer's service has a unit file of its own.
        output=$(systemctl show --property NeedDaemonReload --value "${units[@]}" "${units[@]/%.timer/.service}")
        [[ $output != *yes* ]] || systemctl daemon-reload
    fi
    if [ "${#start[@]}" -gt 0 ]; then
        restart "${start[@]}"
        # shellcheck disable=SC2034 # a step's own script reads it
        started=("${start[@]}")
    fi
    for name in "${units[@]}"; do
        mv "$state/running/.$name" "$state/running/$name"
    done
}

# read_again UNIT PATH...: take these files, which the service reads again by itself, out of the note on
# it; an earlier version of this program may have noted them
read_again() {
    local line kept='' noted=$state/running/$1
    [ -f "$noted" ] || return 0
    while read -r line; do
        [[ " ${*:2} " == *" ${line#*  } "* ]] || kept+=$line$'\n'
    done <"$noted"
    [ "$kept" != "$(<"$noted")"$'\n' ] || return 0
    printf %s "$kept" >"$state/running/..$1"
    mv "$state/running/..$1" "$noted"
}

# restart_affected: restart exactly the services whose files are no longer what they started with
restart_affected() {
    local stamp name again=()
    for stamp in "$state"/running/*; do
        [ -f "$stamp" ] || continue
        name=${stamp##*/}
        sed 's/^[^ ]*  //' "$stamp" | fingerprint >"$state/running/.$name"
        cmp --quiet "$stamp" "$state/running/.$name" || again+=("$name")
    done
    if [ "${#again[@]}" -gt 0 ]; then
        # A unit file may also be new, from a run that was cut off before this line.
        systemctl daemon-reload
        restart "${again[@]}"
    fi
    for name in "${again[@]}"; do
        await restarted "it runs with its new files ($name)" "$name" systemctl is-active "$name"
        [ "${#own[@]}" -eq 0 ] || back "$name"
        mv "$state/running/.$name" "$state/running/$name"
    done
    rm -f "$state"/running/.[!.]* "$state"/running/..[!.]*
}

# unlocked: release the lock. From here on the step only waits, perhaps for other steps of this machine.
unlocked() {
    [ -z "${lock-}" ] || flock --unlock "$lock"
}

# -- waiting ---------------------------------------------------------------------------------------
#
# A wait has a limit in seconds of a quiet machine (plan/limits.py); a slow machine gets proportionally
# more. The wait fails when its reason has not changed for that long, since something that makes progress
# is not stuck. After several times its limit by the clock it fails in any case (the hard limit).

# Seconds between two lines that say why a wait is not over yet.
reminder=60

# The time in hundredths of a second: as a quiet machine would count it, and since this machine's boot.
moment=0 uptime=0

# tick: bring both up to date
tick() {
    local now
    read -r now _ </proc/uptime
    now=$((10#${now/./}))
    ((uptime == 0)) || moment=$((moment + (now - uptime) * 100 / pace))
    uptime=$now
}

# The present wait: its limit, its title, when it began, whether it was announced, when the next reminder
# is due, when its reason last changed (by both times), and all reasons so far.
wait_limit=0 wait_title='' wait_began=0 wait_announced='' wait_remind=0 news=0 news_at=0
declare -A reasons=()
# Where it failed: how long it took, and for how long its reason has not changed.
waited='' since=''

# wait_for LIMIT TITLE: begin a wait; a limit is a name or seconds. Lines about it during the wait have
# only the title up to its parenthesis, since they stand in the step's row of Pulumi's display.
wait_for() {
    wait_limit=${limits[$1]-$1} wait_title=$2 wait_announced='' reasons=()
    tick
    wait_began=$uptime wait_remind=$((uptime + reminder * 100)) news=$moment news_at=$uptime
}

# still [REASON]: note that the wait is not over, for this reason. Fails where a limit has passed.
still() {
    local reason=${1-}
    measure
    tick
    # Digits are left out, since they may be times or counters. A reason that appeared before is not new:
    # a service that fails again and again may give the same few reasons in turn.
    if [ -z "${reasons["x${reason//[0-9]/}"]-}" ]; then
        [ "${#reasons[@]}" -eq 0 ] || news=$moment news_at=$uptime
        reasons["x${reason//[0-9]/}"]=yes
    fi
    if ((moment - news >= wait_limit * 100)); then
        in_vain ''
    elif ((uptime - wait_began >= wait_limit * hard * 100)); then
        in_vain ', the hard limit'
    elif [ -n "$wait_announced" ] && ((uptime >= wait_remind)); then
        not_yet "$reason"
        wait_remind=$((uptime + reminder * 100))
    fi
}

# in_vain ADDITION: set waited and since for the message of a wait that has failed, and fail
in_vain() {
    waited="$(((uptime - wait_began) / 100)) s$1"
    since="no news for $(((uptime - news_at) / 100)) s"
    ((pace < 150)) ||
        since+=", and this machine is $((pace / 100)).$((pace % 100 / 10)) x slower than a quiet one"
    return 1
}

# announce: print what is waited for, once for each wait
announce() {
    [ -n "$wait_announced" ] || echo "until ${wait_title%% (*}"
    wait_announced=yes
}

# not_yet REASON: print a line of at most 100 characters with the last line of the reason
not_yet() {
    local reason=${1##*$'\n'} room news_text
    news_text="no news for $(((uptime - news_at) / 100)) s"
    ((pace < 150)) || news_text+="; machine $((pace / 100)).$((pace % 100 / 10)) x slower"
    room=${wait_title%% (*}
    room=$((100 - ${#news_text} - ${#room} - 14)) # of "not yet: ", " (", "; " and ")"
    if [ "${#reason}" -gt "$room" ]; then
        reason=${reason//[^[:print:]]/?} # no half characters
        [ "$room" -ge 10 ] && reason=${reason:0:room-3}... || reason=''
    fi
    echo "not yet: ${wait_title%% (*} (${reason:+$reason; }$news_text)"
}

# next_look: set look to the seconds for which a command may wait by itself before the limits are checked
next_look() {
    look=$(((wait_limit * 100 - moment + news) * pace / 10000 + 1))
    [ "$look" -le "$reminder" ] || look=$reminder
}

# await LIMIT TITLE UNIT COMMAND...: wait until the command succeeds; the command must end by itself
await() {
    wait_for "$1" "$2"
    asking "${@:3}"
}

# asking UNIT COMMAND...: repeat the command until it succeeds, as a part of the present wait
asking() {
    local unit=$1 output tenths=1
    shift
    until output=$("$@" 2>&1 </dev/null); do
        if ! still "$output"; then
            # Of a failed command the last 20 lines and 4 KiB are shown: details must leave room for the
            # sentence before them.
            output=$(
                [ -z "$output" ] || tail --lines 3 <<<"$output" | cut --bytes=-500
                echo "the last lines of $unit:"
                journalctl --unit "$unit" --lines 8 --no-pager --output cat 2>&1 | cut --bytes=-200
            ) || true
            problem "not yet after $waited: $wait_title; $since"$'\n'"$output"
        fi
        [ "$tenths" -lt 8 ] || announce
        # The pauses grow: a check may take seconds of an emulated processor, which services need.
        sleep "$((tenths / 10)).$((tenths % 10))"
        tenths=$((tenths + 1 + tenths / 3))
        [ "$tenths" -le 40 ] || tenths=40
    done
}

# await_api LIMIT URL AUTHORITY UNIT: wait until the API server at URL is ready
await_api() {
    local url=$2 authority=$3 unit=$4 output
    wait_for "$1" "the API server is ready ($url)"
    if ! timeout 3 "$programs/wait-for-api" "$url" "$authority"; then
        announce
        until next_look && timeout "$look" "$programs/wait-for-api" "$url" "$authority"; do
            output=$(well "$url/readyz" "$authority") || still "$output" || break
        done
    fi
    asking "$unit" well "$url/readyz" "$authority"
}

# well URL AUTHORITY: whether the health endpoint answers with success; else it prints the failed checks
well() {
    local output
    output=$(curl --silent --show-error --fail-with-body --max-time 60 --cacert "$2" \
        "$1?verbose" 2>&1) && return
    # Only the checks that failed, of many.
    grep '^\[-\]' <<<"$output" || echo "$output"
    return 1
}
