# shellcheck shell=bash
# shellcheck disable=SC2154 # the settings stand before this text
# Lets the cluster's SSH keys log in, and none that the cluster had before. Authorize.sh is read before this
# text.

authorize "$login_user" "$login_mark" "$login_keys"
