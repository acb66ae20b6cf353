# shellcheck shell=bash
# shellcheck disable=SC2154 # pace.sh is read before this text
# The functions of all steps, for each kind of record (step.sh) and for waits. Each function brings about
# a state, from whatever state it finds, and does nothing where that state is there already; a step can
# be cut off anywhere and run again.

export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export DEBIAN_FRONTEND=noninteractive
umask 077

state=/var/lib/hardway
system=/etc/systemd/system
programs=/usr/local/lib/hardway
units=()
# Those of them that this run started, because they did not run or ran with something else.
started=()
waiting=()
# The limits of waits by their names, in seconds of a quiet machine.
declare -A limits
declare -A needs=() seen=() beside=() ready=()
# Of services that other machines run as well: where they say that they are well. See turn.sh.
declare -A own=()

# An emulated machine takes 20 ms for each program that is started: nothing here starts one where the
# shell itself can do it, and nothing that is right already is made again.
if [ ! -d "$state/running" ] || [ ! -d "$state/store/verified" ]; then
    # Passed through by services of other users on their way to the store, and listed by nobody.
    install -d -m 0711 "$state"
    install -d -m 0755 "$state/store" "$state/store/sha256" "$state/store/verified"
    install -d -m 0700 "$state/running"
fi

# lasting: what was done is on the disk. Every step ends so: done is done after a loss of power, too.
lasting() {
    sync --file-system /etc "$state"
}
trap lasting EXIT

# problem SENTENCE: why this step fails. By its first word the sentence is found in all that a step
# says, and shown before the rest (plan/render.py).
problem() {
    echo "failed: $*" >&2
    exit 1
}

# alone: nobody else changes this machine. A run whose connection was lost may still be at work: two
# at once would undo each other.
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
    # What runs left that were cut off while they saved their text.
    local left
    for left in "$state"/steps/.*.*; do
        [ -d "/proc/${left##*.}" ] || rm -f "$left"
    done
}

# packages NAME...
packages() {
    local name there missing=()
    there=$(dpkg-query --show --showformat '${db:Status-Status}:${Package}\n' "$@" 2>/dev/null) || true
    for name; do
        [[ $'\n'$there$'\n' == *$'\n'"installed:$name"$'\n'* ]] || missing+=("$name")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    local said why
    # dpkg outlives a run that was cut off, and machines have other users of it; it does not wait.
    wait_for dpkg "other installations are over"
    until said=$(dpkg --configure -a 2>&1); do
        if [[ $said != *' lock '* ]] || ! still "$said"; then break; fi
        sleep 1
    done
    until said=$( { apt-get --quiet -o "DPkg::Lock::Timeout=$reminder" update &&
        apt-get --quiet --yes --no-install-recommends -o "DPkg::Lock::Timeout=$reminder" \
            install "${missing[@]}"; } 2>&1); do
        if [[ $said != *"E: Could not get lock"* ]] || ! still "$said"; then
            why=$(grep --extended-regexp '^(E:|dpkg: error)' <<<"$said") || why=${said##*$'\n'}
            problem "the packages ${missing[*]} cannot be installed: $why"
        fi
        sleep 1
    done
}

# user NAME: a system user with a group of its name
user() {
    # One after the other: cut off while it makes both, useradd leaves a user without its group.
    getent group "$1" >/dev/null || groupadd --system "$1"
    getent passwd "$1" >/dev/null ||
        useradd --system --gid "$1" --no-create-home --home-dir /nonexistent \
            --shell /usr/sbin/nologin "$1"
}

# directory MODE OWNER PATH
directory() {
    install -d -m "$1" -o "${2%:*}" -g "${2#*:}" "$3"
}

# beside_of FOLDER: sets above, where its files are made ready: on the same file system, out of sight
# of who watches it
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

# staging_for PATH: sets staged
staging_for() {
    local above
    beside_of "${1%/*}"
    staged=$above/.${1##*/}.hardway
    if [ -e "$staged" ] || [ -L "$staged" ]; then
        rm -rf "$staged"
    fi
}

# there MODE OWNER PATH CONTENT: whether the file is so already
there() {
    if [ -L "$3" ] || [ ! -f "$3" ]; then
        [ ! -d "$3" ] || [ -L "$3" ] || problem "$3 is a directory and should be a file"
        return 1
    fi
    [ "$(stat -c '%04a %U:%G %s' "$3")" = "$1 $2 ${#4}" ] && printf %s "$4" | cmp --quiet - "$3"
}

# write MODE OWNER PATH CONTENT: a file that nobody looks at yet
write() {
    printf %s "$4" >"$3"
    [ "$2" = root:root ] || chown "$2" "$3"
    [ "$1" = 0600 ] || chmod "$1" "$3" # the umask's
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

# secret MODE OWNER PATH CONTENT: a file that is made ready and has its place once all are in_place
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

# in_place: secret files get their places, those of a folder by one program. Who reads a pair at each
# connection, as etcd does, refuses all connections while the key and the certificate do not fit.
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

# link PATH TARGET
link() {
    local path=$1 target=$2 staged
    [ ! -L "$path" ] || [ "$(readlink "$path")" != "$target" ] || return 0
    staging_for "$path"
    ln --symbolic "$target" "$staged"
    mv --force --no-target-directory "$staged" "$path"
}

# Whether a file of the store is one that was verified and not touched since: the bytes themselves
# are read once, for they are hundreds of megabytes; sizes and times of all files in one go.
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

# mark PATH KEY: these bytes were verified
mark() {
    stat -c '%s %.9Y' "$1" >"$state/store/.verified"
    mv --force "$state/store/.verified" "$state/store/verified/$2"
}

# keep STAGED PATH KEY MODE: verified bytes into the store
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

# download FILE URL: on from what is there
download() {
    curl --fail --silent --show-error --location --connect-timeout 10 --retry 3 \
        --retry-connrefused --speed-limit 1000 --speed-time 30 --continue-at - --output "$1" "$2"
}

# fetched NAME FILE ALGORITHM:DIGEST URL...: download from the first place with the right bytes
fetched() {
    local name=$1 part=$2 digest=$3 url had said status why=
    shift 3
    right "$part" "$digest" && return
    for url; do
        for _ in 1 2 3 4 5; do
            [ -s "$part" ] && had=yes || had=
            status=0
            said=$(download "$part" "$url" 2>&1) || status=$?
            right "$part" "$digest" && return
            case $status in
            0)
                said=$("${digest%%:*}sum" "$part")
                said="its ${digest%%:*} is ${said%% *} and not ${digest#*:}"
                ;;
            18 | 56) continue ;; # the connection broke: on from there
            22) [[ $said == *416* ]] || break ;; # is 416: more is here than there
            23 | 33 | 36) ;; # no room, or the server cannot go on from anywhere
            *) break ;;
            esac
            rm -f "$part"
            [ -n "$had" ] || break # else it was what an earlier run left
        done
        why="$why; $url: ${said//$'\n'/ }"
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

# archived NAME ALGORITHM:DIGEST MEMBER MODE URL: a program inside an archive of known bytes
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

# unpacked: all programs are out of their archives
unpacked() {
    rm -f "$state"/store/archive/*/.archive
}

# unit NAME TEXT NEEDED-PATH...: a service that runs when the step is done
unit() {
    file 0600 root:root "$system/$1" "$2"
    units+=("$1")
    printf -v "needs[$1]" '%s\n' "$system/$1" "${@:3}"
}

# masked NAME...: services of the distribution that must not run
masked() {
    local name said up=()
    mapfile -t up < <(systemctl is-active "$@")
    for name; do
        case ${up[0]-} in
        inactive | failed | unknown) ;;
        *) said=$(systemctl stop "$name" 2>&1) || problem "$name cannot be stopped: $said" ;;
        esac
        up=("${up[@]:1}")
        [ "$(readlink "$system/$name")" = /dev/null ] ||
            said=$(systemctl mask "$name" 2>&1) ||
            problem "$name cannot be masked: $said"
    done
}

# What a service runs with: the digests of its files; of a program, the name that has one.
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

# as_started NAME: whether a service runs with what .NAME says. What it needed more when it started,
# and no longer needs, does not count.
as_started() {
    [ -f "$state/running/$1" ] && ! grep --quiet --invert-match --line-regexp --fixed-strings \
        --file="$state/running/$1" "$state/running/.$1"
}

# stale NAME: whatever interrupts the restart, nobody takes the service for one with its new files
stale() {
    [ -f "$state/running/$1" ] || return 0
    sed 's/^[^ ]*/stale/' "$state/running/.$1" >"$state/running/..$1"
    mv "$state/running/..$1" "$state/running/$1"
}

# ended NAME INVOCATION: what a service ran as is over, whether or not its successor runs yet
ended() {
    local said
    said=$(systemctl show --property ActiveState --property InvocationID "$1")
    [[ $said != *"InvocationID=$2"* || $said == *ActiveState=@(inactive|failed)* ]]
}

# restart NAME...: in turn where others run the same. Their health is asked by the step's own script,
# for they find each other; but never of what ran before: it is gone when this comes back.
restart() {
    local name before=()
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

# settle: enable the step's services, and (re)start those that do not run with what is there now
settle() {
    local name said off by_files=(--root=/) start=() up=()
    # New units by files alone, before systemd reads them: it would want to read them again, and
    # reading takes seconds, for it reads all units. Those that ran before it knows, and must be told.
    for name in "${units[@]}"; do
        [ ! -f "$state/running/$name" ] || by_files=()
    done
    off=$(systemctl "${by_files[@]}" is-enabled "${units[@]}" 2>&1 |
        grep --invert-match --line-regexp enabled) || true
    if [ -n "$off" ]; then
        said=$(systemctl "${by_files[@]}" --no-reload enable "${units[@]}" 2>&1) || problem "$said"
    fi
    mapfile -t up < <(systemctl is-active "${units[@]}")
    for name in "${units[@]}"; do
        fingerprint <<<"${needs[$name]%$'\n'}" >"$state/running/.$name"
        # Coming up is as good as up: etcd comes up only when the other members do.
        case ${up[0]-} in
        active | activating | reloading)
            as_started "$name" || start+=("$name")
            ;;
        *) start+=("$name") ;;
        esac
        up=("${up[@]:1}")
    done
    if [ "${#start[@]}" -gt 0 ] || [ -n "$off" ]; then
        said=$(systemctl show --property NeedDaemonReload --value "${units[@]}")
        [[ $said != *yes* ]] || systemctl daemon-reload
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

# read_again UNIT PATH...: a service does not run with these files of its start, as an earlier program
# may have noted
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
        # Also a unit may be new: of a run that was cut off before it came to this.
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

# unlocked: from here on nothing of this machine is changed, only waited for, and that may need what
# other steps do here.
unlocked() {
    [ -z "${lock-}" ] || flock --unlock "$lock"
}

# -- waiting ---------------------------------------------------------------------------------------
#
# A wait has a limit in seconds of a quiet machine (plan/limits.py), and a slow one has as many more. It
# is in vain when nothing new was said for that long: what gets on is not stuck. After some times its
# limit by the clock it ends in any case (the hard limit).

# Seconds after which a wait says, again and again, what is still not so.
reminder=60

# The time, in hundredths of a second: as a quiet machine has it, and by a clock that nobody sets.
moment=0 uptime=0

# tick: brings both up to date
tick() {
    local now
    read -r now _ </proc/uptime
    now=$((10#${now/./}))
    ((uptime == 0)) || moment=$((moment + (now - uptime) * 100 / pace))
    uptime=$now
}

# What is waited for, one thing at a time; when that began, when it last said something new, and all
# that it said.
wait_limit=0 wait_title='' wait_began=0 wait_told='' wait_remind=0 news=0 news_at=0
declare -A reasons=()
# Where it was in vain: for how long, and how the machine was.
waited='' since=''

# wait_for LIMIT TITLE: what is waited for from now on; a limit is a name or seconds. What is said of it
# meanwhile is short, for the row of the step: the title up to its parenthesis.
wait_for() {
    wait_limit=${limits[$1]-$1} wait_title=$2 wait_told='' reasons=()
    tick
    wait_began=$uptime wait_remind=$((uptime + reminder * 100)) news=$moment news_at=$uptime
}

# still [REASON]: it is not so yet. Fails where it was waited for in vain.
still() {
    local reason=${1-}
    measure
    tick
    # Numbers may be times, or count for ever. What was said before is no news: who is started again
    # and again says the same few things in turn.
    if [ -z "${reasons["x${reason//[0-9]/}"]-}" ]; then
        [ "${#reasons[@]}" -eq 0 ] || news=$moment news_at=$uptime
        reasons["x${reason//[0-9]/}"]=yes
    fi
    if ((moment - news >= wait_limit * 100)); then
        in_vain ''
    elif ((uptime - wait_began >= wait_limit * hard * 100)); then
        in_vain ', the hard limit'
    elif [ -n "$wait_told" ] && ((uptime >= wait_remind)); then
        not_yet "$reason"
        wait_remind=$((uptime + reminder * 100))
    fi
}

# in_vain WORDS: sets what is said of a wait that ends, and fails
in_vain() {
    waited="$(((uptime - wait_began) / 100)) s$1"
    since="no news for $(((uptime - news_at) / 100)) s"
    ((pace < 150)) ||
        since+=", and this machine is $((pace / 100)).$((pace % 100 / 10)) x slower than a quiet one"
    return 1
}

# announce: what is waited for, once
announce() {
    [ -n "$wait_told" ] || echo "until ${wait_title%% (*}"
    wait_told=yes
}

# not_yet REASON: a line of at most 100 characters; the last line of what was said is the reason
not_yet() {
    local reason=${1##*$'\n'} room told
    told="no news for $(((uptime - news_at) / 100)) s"
    ((pace < 150)) || told+="; machine $((pace / 100)).$((pace % 100 / 10)) x slower"
    room=${wait_title%% (*}
    room=$((100 - ${#told} - ${#room} - 14)) # of "not yet: ", " (", "; " and ")"
    if [ "${#reason}" -gt "$room" ]; then
        reason=${reason//[^[:print:]]/?} # no half characters
        [ "$room" -ge 10 ] && reason=${reason:0:room-3}... || reason=''
    fi
    echo "not yet: ${wait_title%% (*} (${reason:+$reason; }$told)"
}

# next_look: sets look, the seconds for which a command may wait by itself before it is looked whether
# the wait is in vain
next_look() {
    look=$(((wait_limit * 100 - moment + news) * pace / 10000 + 1))
    [ "$look" -le "$reminder" ] || look=$reminder
}

# await LIMIT TITLE UNIT COMMAND...: until the command succeeds; it must end by itself
await() {
    wait_for "$1" "$2"
    asking "${@:3}"
}

# asking UNIT COMMAND...: goes on with a wait
asking() {
    local unit=$1 said tenths=1
    shift
    until said=$("$@" 2>&1 </dev/null); do
        if ! still "$said"; then
            # Of a command that fails 20 lines and 4 KiB are shown, the last ones: so the sentence is.
            said=$(
                [ -z "$said" ] || tail --lines 3 <<<"$said" | cut --bytes=-500
                echo "the last lines of $unit:"
                journalctl --unit "$unit" --lines 8 --no-pager --output cat 2>&1 | cut --bytes=-200
            ) || true
            problem "not yet after $waited: $wait_title; $since"$'\n'"$said"
        fi
        [ "$tenths" -lt 8 ] || announce
        # Ever rarer: a question costs seconds of an emulated processor that others need to answer.
        sleep "$((tenths / 10)).$((tenths % 10))"
        tenths=$((tenths + 1 + tenths / 3))
        [ "$tenths" -le 40 ] || tenths=40
    done
}

# await_api LIMIT URL AUTHORITY UNIT: until the API server there is ready
await_api() {
    local url=$2 authority=$3 unit=$4 said
    wait_for "$1" "the API server is ready ($url)"
    if ! timeout 3 "$programs/wait-for-api" "$url" "$authority"; then
        announce
        until next_look && timeout "$look" "$programs/wait-for-api" "$url" "$authority"; do
            said=$(well "$url/readyz" "$authority") || still "$said" || break
        done
    fi
    asking "$unit" well "$url/readyz" "$authority"
}

# well URL AUTHORITY: the answer to a question about health is yes
well() {
    local said
    said=$(curl --silent --show-error --fail-with-body --max-time 60 --cacert "$2" \
        "$1?verbose" 2>&1) && return
    # Of the many checks, those that failed.
    grep '^\[-\]' <<<"$said" || echo "$said"
    return 1
}
