"""Writes and reads Secrets, a quarter of its calls being writes.

In the end it reads back all that was confirmed.
"""

import random
from base64 import b64decode
from pathlib import Path

import httpx

from tests.plan.retrying_client import RetryingClient, main


class SecretsClient(RetryingClient):
    """Counts what cannot be read and what is lost."""

    def __init__(self, folder: Path, urls: list[str]) -> None:
        super().__init__(folder, urls)
        self.written: dict[str, str] = {}
        self.counts |= {"listed": 0, "unreadable": [], "lost": []}

    def see(self, url: str, path: str, answer: httpx.Response) -> None:
        if answer.status_code == 500:
            # So answers an API server that lacks the key of a Secret.
            self.counts["unreadable"].append(f"{url}{path}: {answer.text[:300]}")

    def step(self, number: int) -> None:
        if number % 4 == 0:
            self.write(number)
        elif number % 20 == 1:
            self.list()
        else:
            self.read(random.choice(list(self.written)))

    def end(self) -> None:
        for name in self.written:
            self.read(name)

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


def _holds(answer: httpx.Response, value: str) -> bool:
    data = answer.json().get("data") or {} if answer.status_code == 200 else {}
    return b64decode(data.get("v", "")).decode() == value


if __name__ == "__main__":
    main(SecretsClient)
