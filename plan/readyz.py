"""Services that must not start before the API is ready wait for it."""

from plan import layout
from plan.model import File
from plan.program import program
from spec.cluster import Cluster

WAIT: File = program("wait-for-api")


def wait(spec: Cluster, node: str) -> str:
    """An ``ExecStartPre`` line that ends when the API of this machine's components is ready.

    The step that has the unit also has ``WAIT``; systemd must not limit the start.
    """
    return f"{WAIT.path} {layout.local_api_url(spec, node)} {layout.AUTHORITY}"
