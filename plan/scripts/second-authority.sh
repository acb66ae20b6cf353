# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings stand before this text
# Refuses a second authority where the controller manager still reads the one that signs from the file with
# all that are trusted: it would not start with two.

if [ -f "$controllers" ] && ! grep --quiet --fixed-strings "$signing" "$controllers"; then
    problem "the controller manager is an earlier program's, and would not start with two authorities: write" \
        "authorities.kubernetes with one number, as it was, run ./hardway up, and write the second one then"
fi
