"""Asks for tokens of a service account and calls the API with them, with the first one as well.

A token in its folder, ``old.token``, is the first one it got. Every new token is shown to every API
server that answers.
"""

import json
import time
from base64 import urlsafe_b64decode
from pathlib import Path

import httpx

from tests.plan.retrying_client import PATIENCE, RetryingClient, main

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
LIFE = 7 * 24 * 3600
"""Seconds for which a token is valid."""
ACCEPTED = (200, 403)
"""Answers to a token that counts: an API server that has just begun knows no rights yet."""


class TokensClient(RetryingClient):
    """Counts tokens that are refused, and which keys sign."""

    def __init__(self, folder: Path, urls: list[str]) -> None:
        super().__init__(folder, urls)
        self._first = folder / "old.token"
        self._newest = ""
        self._bearer = httpx.Client(verify=str(folder / "ca.pem"), timeout=10)
        self.counts |= {"refused": [], "signers": []}

    def step(self, number: int) -> None:
        if number % 10 == 0:
            self.ask()
            return
        self.use(self._first.read_text() if number % 2 else self._newest)

    def ask(self) -> None:
        """Get a new token, from any API server, and show it to all of them."""
        if not self._newest:
            self.call("POST", ACCOUNTS, json={"metadata": {"name": "robot"}})
        answer = self.call(
            "POST", f"{ACCOUNTS}/robot/token", json={"spec": {"expirationSeconds": LIFE}}
        )
        if answer is None:
            return
        self._newest = str(answer.json()["status"]["token"])
        if not self._first.exists():
            self._first.write_text(self._newest)
        if (signer := key_of(self._newest)) not in self.counts["signers"]:
            self.counts["signers"].append(signer)
        self.counts["written"] += 1
        for _ in self.urls:
            self.turn += 1
            self.show(self._newest)

    def use(self, token: str) -> None:
        """Call the API with a token until a server answers."""
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE:
            if self.show(token):
                self.counts["read"] += 1
                self.counts["longest"] = max(self.counts["longest"], time.monotonic() - began)
                return
            self.counts["retried"] += 1
            self.turn += 1
            time.sleep(0.05)
        self.counts["failed"].append("no API server answers")

    def show(self, token: str) -> bool:
        """Whether an API server answers to a token; a refusal is counted."""
        url = self.urls[self.turn % len(self.urls)]
        try:
            answer = self._bearer.get(
                f"{url}/version", headers={"Authorization": f"Bearer {token}"}
            )
        except httpx.HTTPError:
            return False
        if answer.status_code == 401:
            self.counts["refused"].append(f"{url}: {key_of(token)}")
        return answer.status_code in (*ACCEPTED, 401)


def key_of(token: str) -> str:
    """The name of the key that signed a token (RFC 7515, ``kid``)."""
    head = token.partition(".")[0]
    return str(json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"])


if __name__ == "__main__":
    main(TokensClient)
