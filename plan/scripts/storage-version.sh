# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings and the prelude stand before this text
# Lets etcd go back by one minor version (a "downgrade" in etcd's documentation). All members must keep their
# data in the older version's format before the first one restarts with the older program, which would not
# start otherwise. Where the plan has the newer version again, the way back is given up: with it, the members
# would keep the older format for ever.

# The file that notes to which minor version this machine's step has begun to go back.
way_back=$state/etcd-way-back

# members_ctl ARGUMENT...: run etcdctl for all members
members_ctl() {
    # shellcheck disable=SC2034 # others_ctl reads it
    local member_trust=(etcdctl "$authority" "$certificate" "$private_key")
    others_ctl "$endpoints" "$@"
}

# is_older MINOR MINOR: whether the first minor version, such as 3.6, is older than the second
is_older() {
    [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort --version-sort | head -n 1)" = "$1" ]
}

# readable: whether all members keep their data in the format of the plan's version; has them do so
readable() {
    local output versions
    if ! output=$(members_ctl endpoint status --write-out=fields 2>&1); then
        echo "it goes back only while all members answer: ${output##*$'\n'}"
        return 1
    fi
    versions=$(sed --quiet 's/^"StorageVersion" : "\(.*\)"$/\1/p' <<<"$output" | sort --unique)
    [ "$versions" != "$minor.0" ] || return 0
    echo "the members' data have the format ${versions//$'\n'/ and }"
    # Another member's step may have asked for it at the same time.
    [[ $output == *'"DowngradeTargetVersion" : "'"$minor.0"'"'* ]] ||
        output=$(members_ctl downgrade enable "$minor" 2>&1) || echo "${output##*$'\n'}"
    return 1
}

# given_up: whether etcd no longer goes back
given_up() {
    members_ctl downgrade cancel 2>&1
}

minor=${version%.*}
if has_log "$data_directory"; then
    if [ "$(readlink "$program")" != "$planned" ] && output=$("$program" --version 2>&1) &&
        [[ $output =~ 'etcd Version: '([0-9]+\.[0-9]+) ]] && is_older "$minor" "${BASH_REMATCH[1]}"; then
        file 0644 root:root "$way_back" "$minor"$'\n'
        await storage "etcd can go back (to $minor)" etcd.service readable
    elif [ -e "$way_back" ] && is_older "$(<"$way_back")" "$minor"; then
        await storage "etcd does not go back (it stays $minor)" etcd.service given_up
        rm "$way_back"
    fi
fi
