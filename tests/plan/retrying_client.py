"""A client that calls API servers at a fixed rate and counts, until it is ended.

The arguments of its program are a folder, with a client certificate and an authority, and the API
servers' URLs. It writes its counts into the folder.
"""

import json
import signal
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

RATE = 10
"""Steps a second."""
PATIENCE = 60
"""Seconds after which a call counts as failed that no API server answers."""


class RetryingClient:
    """Calls the API servers, the next one where a server does not answer or is about to end."""

    def __init__(self, folder: Path, urls: list[str]) -> None:
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        context.load_cert_chain(folder / "admin.pem")
        self._folder, self.urls = folder, urls
        self.http = httpx.Client(verify=context, timeout=10)
        self.turn = 0
        self.counts: dict[str, Any] = {
            "written": 0,
            "read": 0,
            "failed": [],
            "retried": 0,
            "longest": 0.0,
        }

    def call(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        """The answer of any API server; None where none answered in time."""
        began, why = time.monotonic(), ""
        while time.monotonic() - began < PATIENCE:
            url = self.urls[self.turn % len(self.urls)]
            try:
                answer = self.http.request(method, f"{url}{path}", **more)
            except httpx.HTTPError as error:
                why = repr(error)
            else:
                self.see(url, path, answer)
                if answer.status_code in (200, 201, 404, 409):
                    self.counts["longest"] = max(self.counts["longest"], time.monotonic() - began)
                    return answer
                why = f"{answer.status_code} {answer.text[:200]}"
            self.counts["retried"] += 1
            self.turn += 1
            time.sleep(0.05)
        self.counts["failed"].append(f"{method} {path}: {why}")
        return None

    def see(self, url: str, path: str, answer: httpx.Response) -> None:
        """Count an answer that must not be."""

    def step(self, number: int) -> None:
        """Make a call, or some that belong together."""
        raise NotImplementedError

    def end(self) -> None:
        """What is done after the last step."""

    def note(self) -> None:
        draft = self._folder / "counts.new"
        draft.write_text(json.dumps(self.counts))
        draft.rename(self._folder / "counts.json")

    def run(self, over: threading.Event) -> None:
        number = 0
        began = time.monotonic()
        while not over.wait(max(0.0, began + number / RATE - time.monotonic())):
            # One server after the other, whether it answered or not.
            self.turn += 1
            self.step(number)
            number += 1
            self.note()
        self.end()
        self.note()


def main(kind: type[RetryingClient]) -> None:
    """Run a client of this kind until a signal ends it."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    kind(Path(sys.argv[1]), sys.argv[2:]).run(over)
