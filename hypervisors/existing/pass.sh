# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the settings and authorize.sh stand before this text
# Lets keys pass through this jump host, or lets them no more, and prints the lines that it added. A jump
# host may run another command than this: its last line says that it ran.

# let_pass USER LINES GONE: let in the keys of LINES, and no more those of GONE. All other lines stay, with the
# same mark, too: people who share a jump host may have clusters of one name.
let_pass() (
    local owner group home file line was='' kept='' added=${2:+$2$'\n'}
    key_file "$1"
    [ -d "${file%/*}" ] || install -d -m 0700 -o "${owner%:*}" -g "${owner#*:}" "${file%/*}"
    alone_with_list
    [ ! -f "$file" ] || while IFS= read -r line || [ -n "$line" ]; do
        was+=$line$'\n'
        [ -n "$line" ] && [[ $'\n'$2$'\n'$3$'\n' == *$'\n'"$line"$'\n'* ]] || kept+=$line$'\n'
    done <"$file"
    [ "$was" = "$kept$added" ] || list_replaced "$kept$added"
    while IFS= read -r line; do
        [[ $'\n'$was == *$'\n'"$line"$'\n'* ]] || [ -z "$line" ] || echo "$line"
    done <<<"$2"
)

let_pass "$user" "$lines" "$gone"
echo "these lines were added"
