# shellcheck shell=sh
# Signals what runs over the SSH connection through which this script comes, by the session that the
# SSH server made for it, and prints the ids of these sessions. Once their first process has ended
# they cannot be found any more, so a second call is given what the first one printed.
#
# usage: sh -s -- SIGNAL [SESSION...]
signal=$1
shift
sessions=" $* "

# read_process FILE sets pid, parent and session from /proc/PID/stat.
read_process() {
    line=
    { read -r line <"$1"; } 2>/dev/null
    [ -n "$line" ] || return 1
    pid=${1#/proc/}
    pid=${pid%/stat}
    # A program's name may hold anything, so the fields count from the last parenthesis.
    # shellcheck disable=SC2086 # the fields are numbers
    set -- ${line##*") "}
    parent=$2
    session=$4
}

of_this_connection() {
    tr '\0' '\n' <"/proc/$1/environ" 2>/dev/null | grep -qxF "SSH_CONNECTION=$SSH_CONNECTION"
}

if [ $# = 0 ] && [ -n "$SSH_CONNECTION" ]; then
    # The process that serves the connection is the parent of this shell and of what it started.
    for file in /proc/[0-9]*/stat; do
        read_process "$file" || continue
        if [ "$parent" = "$PPID" ] && [ "$session" = "$pid" ] && [ "$pid" != $$ ] && of_this_connection "$pid"; then
            sessions="$sessions$pid "
        fi
    done
fi

for file in /proc/[0-9]*/stat; do
    read_process "$file" || continue
    case $sessions in
    *" $session "*) kill -s "$signal" "$pid" ;;
    esac
done

echo "$sessions"
