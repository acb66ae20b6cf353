# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings stand before this text
# Makes this machine a member of a cluster, for whose keys it opens, and prints the machine's identifier. It
# changes nothing else: the steps of the machine's plan come later. Authorize.sh is read before this text. It
# knows its cluster by any of the keys, and notes the one that logs in. Where asks is set it changes nothing at
# all, and refuses what it would refuse.

state=/var/lib/hardway
before=$state/before

# Nothing that outlasts the cluster may be taken for something of its own. Folders that are empty now, such as
# mount points for data, will be empty again.
remember_directories() {
    local path
    [ ! -d "$before" ] || return 0
    rm -rf "$before.new"
    install -d -m 0700 "$before.new"
    # A folder may be missing, or vanish meanwhile.
    find /etc /opt /srv /usr/local /var/lib /var/log -xdev -maxdepth 3 -path "$state" -prune -o \
        -type d -printf '%m %U:%G %p\n' >"$before.new/directories" 2>/dev/null || true
    {
        find /opt /var/lib /var/log -xdev -maxdepth 3 -path "$state" -prune -o -type d -empty -print || true
        # A file system that was just made has this folder, which is its own.
        for path in {/opt,/var/lib,/var/log}/*/lost+found; do
            [ "$(ls -A "${path%/*}")" != lost+found ] || echo "${path%/*}"
        done
    } >"$before.new/empty" 2>/dev/null
    sync "$before.new/directories" "$before.new/empty"
    mv --no-target-directory "$before.new" "$before"
}

identifier=$(cat /etc/machine-id 2>/dev/null) || identifier=
[[ $identifier =~ ^[0-9a-f]{32}$ ]] ||
    problem "/etc/machine-id names no machine, so nothing would tell this machine from another; write one" \
        "with systemd-machine-id-setup, and run the same again"
present=$(cat "$state/cluster" 2>/dev/null) || present=
if [ -n "$present" ] && [[ $'\n'$members$'\n' != *$'\n'"$present"$'\n'* ]]; then
    read -r cluster machine _ <<<"$present"
    problem "this machine is $machine of the cluster $cluster already, and one machine cannot be two; hand it" \
        "back there with ./hardway down; where that cluster's state was lost, ./hardway recover gives it a new" \
        "one; where it is gone for good, delete $state/cluster"
fi
if [ -n "$asks" ]; then
    echo "$identifier"
    exit 0
fi
[ -d "$state" ] || install -d -m 0711 "$state"
if [ "$present" != "$member" ]; then
    printf '%s\n' "$member" >"$state/.cluster"
    sync "$state/.cluster"
    mv --force "$state/.cluster" "$state/cluster"
fi
remember_directories
authorize "$user" "$mark" "$lines"
echo "$identifier"
