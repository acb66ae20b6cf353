"""The fixtures of this tier."""

from tests.engine.session_libvirt import session_libvirt
from tests.engine.sshd import make_sshd, privilege_separation_directory, sshd
from tests.engine.stack import empty_stack, own_plugin, stack

__all__ = [
    "empty_stack",
    "make_sshd",
    "own_plugin",
    "privilege_separation_directory",
    "session_libvirt",
    "sshd",
    "stack",
]
