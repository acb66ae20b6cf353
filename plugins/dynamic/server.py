"""The SDK's server of dynamic resources, with more threads than the four that it gives itself.

Guards wait for machines, and each of them keeps a thread. The engine asks for checks and
differences by the same threads: with four guards that wait, a whole update stands still. The SDK
has no setting for it (``pulumi/dynamic/__main__.py``, 3.259).
"""

import runpy
import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

THREADS = 256
"""More than the engine does at once (``lab.stack.AT_ONCE``): there is always a thread for a check.
A thread is made when it is first needed."""

_server = grpc.server


def _with_threads(_: futures.ThreadPoolExecutor, **options: Any) -> grpc.Server:
    return _server(futures.ThreadPoolExecutor(max_workers=THREADS), **options)


grpc.server = _with_threads
sys.path[0] = str(Path.cwd())  # as for ``python -m``: providers are found by their modules' names
runpy.run_module("pulumi.dynamic", run_name="__main__")
