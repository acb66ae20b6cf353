# shellcheck shell=bash
# shellcheck disable=SC2154 # plan/scripts/prelude.sh is read before this text
# Takes artifacts into this machine's store, where the steps look for them before they download any. What
# was cut off goes on, by the same part of a file as a download has.

# lacking: of the lines NAME DIGEST on the standard input, the digest of each that is not here as it should
# be, and how many bytes of it are
lacking() {
    local name digest path
    while read -r name digest; do
        path=$state/store/sha256/$digest
        verified "$path" "$digest" || right "$path" "sha256:$digest" ||
            echo "$digest $(stat -c %s "$state/store/$name.$digest.part" 2>/dev/null || echo 0)"
    done
}

# receive NAME DIGEST MODE SIZE HAD: the bytes after those that were had. Status 3: these were the wrong ones.
receive() {
    local path=$state/store/sha256/$2 part=$state/store/$1.$2.part output
    [ "$5" -gt 0 ] || rm -f "$part"
    output=$(cat 2>&1 >>"$part") || {
        rm -f "$part"
        problem "$1 cannot be kept in $state/store (${output##*: })"
    }
    [ "$(stat -c %s "$part")" -ge "$4" ] || problem "the end of $1 did not arrive"
    right "$part" "sha256:$2" || {
        rm -f "$part"
        echo "failed: $1 did not arrive as it was sent" >&2
        exit 3
    }
    keep "$part" "$path" "$2" "$3"
}

"$@"
