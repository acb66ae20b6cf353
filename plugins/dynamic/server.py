"""The SDK's server of dynamic resources, with more threads, and with an ear for a cancelled update.

Guards wait for machines, and each of them keeps a thread. The engine asks for checks and
differences by the same threads: with the four threads that the SDK gives its server, and four
guards that wait, a whole update stands still. The SDK has no setting for it, and its server ignores
the engine's request to stop (``pulumi/dynamic/__main__.py``, 3.259).
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


sys.path[0] = str(Path.cwd())  # as for ``python -m``: providers are found by their modules' names


class _Cancellation(grpc.ServerInterceptor):
    """Passes the engine's request to stop on to the waits of the project's own providers."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        if details.method == "/pulumirpc.ResourceProvider/Cancel":
            # Imported here, since every preview starts this server and few are cancelled.
            from components.cancellation import CANCELLED

            CANCELLED.set()
        return continuation(details)


def _own(_: futures.ThreadPoolExecutor, **options: Any) -> grpc.Server:
    threads = futures.ThreadPoolExecutor(max_workers=THREADS)
    return _server(threads, interceptors=(_Cancellation(),), **options)


grpc.server = _own
runpy.run_module("pulumi.dynamic", run_name="__main__")
