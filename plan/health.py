"""The wait for services that do not report their readiness to systemd (``Type=exec``)."""

from plan.model import File
from plan.program import program

WAIT: File = program("await-health")


def wait(url: str, authority: str = "") -> str:
    """An ``ExecStartPost`` line that ends when the service is healthy according to this URL.

    The unit's step must also have ``WAIT``, and systemd must not limit the time of the start.
    """
    return f"{WAIT.path} {url} {authority}".rstrip()
