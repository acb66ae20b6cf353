# shellcheck shell=bash
# Keys and certificates are in place: who runs with others starts again.

restart_affected
