"""Command lines of root, for a login as a user who may ``sudo`` without a password."""

import shlex

ROOT = "root"

REFUSED = "failed: sudo refuses root's rights"
"""Begins the sentence of a machine where the user may not do that."""

_SUDO = f"""\
output=$(sudo -n true 2>&1 </dev/null) || {{
    echo "{REFUSED} to $(id -un) without a password ($(echo $output)); let the user run every \
command, with a line '$(id -un) ALL=(ALL:ALL) NOPASSWD: ALL' in a file of /etc/sudoers.d" >&2
    exit 1
}}
exec sudo -n -- "$@"
"""


BY_SUDO = f"sh -c {shlex.quote(_SUDO)} sh "
"""Begins a command line that another one follows, which then runs as root."""


def as_root(user: str, line: str) -> str:
    """A command line that runs another one as root; the input passes through.

    ``line`` is a simple command without redirections. The sentence that says why ``sudo`` refuses
    is printed on the standard error output.
    """
    return line if user == ROOT else BY_SUDO + line


def refusal(user: str, errors: str) -> str | None:
    """Why ``sudo`` refused, from the standard error output of a command line; else None."""
    if user == ROOT or not errors.startswith(REFUSED):
        return None
    return errors.splitlines()[0].removeprefix("failed: ")
