"""When a service counts as started that does not tell systemd so itself (``Type=exec``)."""

from plan.model import File
from plan.program import program

WAIT: File = program("await-health")


def wait(url: str, authority: str = "") -> str:
    """An ``ExecStartPost`` line that ends when the service says at this URL that it is well.

    The step that has the unit also has ``WAIT``; systemd must not limit the start.
    """
    return f"{WAIT.path} {url} {authority}".rstrip()
