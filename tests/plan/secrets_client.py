"""Writes and reads Secrets at a fixed rate, at whichever API server answers, until it is ended.

Its arguments are a folder, with a client certificate and an authority, and the API servers' URLs.
It writes its counts into the folder. In the end it reads back all that was confirmed.
"""

import json
import random
import signal
import ssl
import sys
import threading
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

import httpx

RATE = 10
"""Calls a second, a quarter of them writes."""
PATIENCE = 60
"""Seconds after which a call counts as failed that no API server answers."""


class SecretsClient:
    """Calls the API servers, the next one where a server does not answer or is about to end."""

    def __init__(self, folder: Path, urls: list[str]) -> None:
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        context.load_cert_chain(folder / "admin.pem")
        self._folder, self._urls = folder, urls
        self._http = httpx.Client(verify=context, timeout=10)
        self._turn = 0
        self.written: dict[str, str] = {}
        self.counts: dict[str, Any] = {
            "written": 0,
            "read": 0,
            "listed": 0,
            "failed": [],
            "unreadable": [],
            "lost": [],
            "retried": 0,
            "longest": 0.0,
        }

    def call(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        """The answer of any API server; None where none answered in time."""
        began, why = time.monotonic(), ""
        while time.monotonic() - began < PATIENCE:
            url = self._urls[self._turn % len(self._urls)]
            try:
                answer = self._http.request(method, f"{url}{path}", **more)
            except httpx.HTTPError as error:
                why = repr(error)
            else:
                if answer.status_code == 500:
                    # So answers an API server that lacks the key of a Secret.
                    self.counts["unreadable"].append(f"{url}{path}: {answer.text[:300]}")
                if answer.status_code in (200, 201, 404, 409):
                    self.counts["longest"] = max(self.counts["longest"], time.monotonic() - began)
                    return answer
                why = f"{answer.status_code} {answer.text[:200]}"
            self.counts["retried"] += 1
            self._turn += 1
            time.sleep(0.05)
        self.counts["failed"].append(f"{method} {path}: {why}")
        return None

    def write(self, number: int) -> None:
        name, value = f"s-{number}", f"value of {number}"
        body = {"metadata": {"name": name}, "stringData": {"v": value}}
        answer = self.call("POST", "/api/v1/namespaces/default/secrets", json=body)
        # It may have been made by a try whose answer was lost.
        if answer is not None and answer.status_code in (201, 409):
            self.written[name] = value
            self.counts["written"] += 1

    def read(self, name: str) -> None:
        answer = self.call("GET", f"/api/v1/namespaces/default/secrets/{name}")
        if answer is None:
            return
        if not _holds(answer, self.written[name]):
            self.counts["lost"].append(f"{name}: {answer.status_code} {answer.text[:200]}")
        self.counts["read"] += 1

    def list(self) -> None:
        answer = self.call("GET", "/api/v1/secrets")
        if answer is None:
            return
        there = {item["metadata"]["name"] for item in answer.json().get("items", ())}
        self.counts["lost"] += sorted(self.written.keys() - there)
        self.counts["listed"] += 1

    def note(self) -> None:
        draft = self._folder / "counts.new"
        draft.write_text(json.dumps(self.counts))
        draft.rename(self._folder / "counts.json")

    def run(self, over: threading.Event) -> None:
        number = 0
        began = time.monotonic()
        while not over.wait(max(0.0, began + number / RATE - time.monotonic())):
            # One server after the other, whether it answered or not.
            self._turn += 1
            if number % 4 == 0:
                self.write(number)
            elif number % 20 == 1:
                self.list()
            else:
                self.read(random.choice(list(self.written)))
            number += 1
            self.note()
        for name in self.written:
            self.read(name)
        self.note()


def _holds(answer: httpx.Response, value: str) -> bool:
    data = answer.json().get("data") or {} if answer.status_code == 200 else {}
    return b64decode(data.get("v", "")).decode() == value


def main() -> None:
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    SecretsClient(Path(sys.argv[1]), sys.argv[2:]).run(over)


if __name__ == "__main__":
    main()
