# shellcheck shell=bash
# Lets keys log in as a user, or lets them no more. Each line ends with a mark by which it is found again.

# The steps' own scripts have this already.
[ "$(type -t problem)" = function ] || problem() {
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

# list_replaced CONTENT: replace the list of keys at once
list_replaced() {
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

# alone_with_list: keep others from the list until the end of the shell around it; machines share a jump host
alone_with_list() {
    local list
    exec {list}<"${file%/*}"
    flock --timeout 60 "$list" || problem "another program keeps $file locked; run the same again"
}

# authorize USER MARK LINES: let in the keys of these lines, which end with the mark, and of all others that
# had it none. The keys come without a mark, too, from a machine's first boot.
authorize() (
    local owner group home file line kept='' had='' double=''
    key_file "$1"
    [ -d "${file%/*}" ] || install -d -m 0700 -o "${owner%:*}" -g "${owner#*:}" "${file%/*}"
    alone_with_list
    [ ! -f "$file" ] || while IFS= read -r line || [ -n "$line" ]; do
        if [ "${line##* }" = "$2" ]; then
            had+=$line$'\n'
        elif [ -n "$line" ] && [[ $'\n'$3$'\n' == *$'\n'"$line $2"$'\n'* ]]; then
            double=yes
        else
            kept+=$line$'\n'
        fi
    done <"$file"
    if [ -n "$double" ] || [ "$had" != "$3"$'\n' ]; then
        list_replaced "$kept$3"$'\n'
    fi
)

# unauthorize USER MARK
unauthorize() (
    local owner group home file line kept='' gone=''
    key_file "$1"
    [ -f "$file" ] || return 0
    alone_with_list
    while IFS= read -r line || [ -n "$line" ]; do
        if [ "${line##* }" = "$2" ]; then gone=yes; else kept+=$line$'\n'; fi
    done <"$file"
    [ -z "$gone" ] || list_replaced "$kept"
)
