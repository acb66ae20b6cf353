# shellcheck shell=bash
# Lets a key log in as a user, or lets it no more. Each line ends with a mark by which it is found again.

problem() {
    echo "failed: $*" >&2
    exit 1
}

# key_file USER: set file to the user's list of keys, and owner to the numbers of user and group
key_file() {
    local entry
    entry=$(getent passwd "$1") || problem "there is no user $1 on this machine; write one who is"
    IFS=: read -r _ _ owner group _ home _ <<<"$entry"
    owner+=:$group
    file=$home/.ssh/authorized_keys
}

# rewritten CONTENT: replace the list of keys at once
rewritten() {
    local staged=$file.hardway
    rm -f "$staged"
    (umask 077 && printf %s "$1" >"$staged")
    if [ -e "$file" ]; then
        chmod --reference "$file" "$staged"
    fi
    chown "$owner" "$staged"
    sync "$staged"
    mv --force "$staged" "$file"
}

# authorize USER LINE: the line ends with its mark, after its last space
authorize() {
    local owner group home file kept=''
    key_file "$1"
    [ -d "${file%/*}" ] || install -d -m 0700 -o "${owner%:*}" -g "${owner#*:}" "${file%/*}"
    [ ! -f "$file" ] || kept=$(<"$file")$'\n'
    [ "$kept" != $'\n' ] || kept=''
    [[ $'\n'$kept == *$'\n'"$2"$'\n'* ]] || rewritten "$kept$2"$'\n'
}

# unauthorize USER MARK
unauthorize() {
    local owner group home file line kept='' gone=''
    key_file "$1"
    [ -f "$file" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        if [ "${line##* }" = "$2" ]; then gone=yes; else kept+=$line$'\n'; fi
    done <"$file"
    [ -z "$gone" ] || rewritten "$kept"
}
