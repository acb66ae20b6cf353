"""The wait of services that must not start before the API is ready."""

from plan import layout
from plan.model import File
from plan.program import program
from spec.cluster import Cluster

WAIT: File = program("wait-for-api")


def wait(spec: Cluster, node: str) -> str:
    """An ``ExecStartPre`` line that ends when the API that this machine's components use is ready.

    The unit's step must also have ``WAIT``, and systemd must not limit the time of the start.
    """
    return f"{WAIT.path} {layout.local_api_url(spec, node)} {layout.AUTHORITY}"
