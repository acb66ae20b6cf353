"""Somebody with a browser who logs in to JupyterHub and has a kernel compute: for tests.

As a program it reads the password from standard input, so that no command line has it:
``notebook_user.py URL AUTHORITY HOST NAME CODE`` prints what the code prints.
"""

import json
import ssl
import sys
import time
import uuid
from typing import Any

import httpx
import websocket

PATIENCE = 1500
"""Seconds until a server must have started; an emulated machine needs many of them."""


class NotebookUser:
    """A person with cookies of their own; ``host`` is the name for which the certificate is."""

    def __init__(self, url: str, authority: str, host: str, name: str) -> None:
        self.url, self.authority, self.host, self.name = url, authority, host, name
        self._port = url.rpartition(":")[2]
        self._client = httpx.Client(
            base_url=url,
            verify=ssl.create_default_context(cafile=authority),
            follow_redirects=True,
            headers={"Host": f"{host}:{self._port}"},
            timeout=120,
            trust_env=False,
        )

    def __enter__(self) -> "NotebookUser":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def asked(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The answer after all redirections."""
        extensions = {"sni_hostname": self.host}
        return self._client.request(method, path, extensions=extensions, **more)

    def _token(self, beneath: str) -> str:
        """What tells the pages below a path that it is a page of theirs that asks."""
        tokens = {row.path: row.value for row in self._client.cookies.jar if row.name == "_xsrf"}
        return str(tokens.get(beneath) or tokens["/hub/"])

    def logged_in(self, password: str) -> bool:
        """Whether the hub takes the password."""
        self.asked("GET", "/hub/login")
        form = {"username": self.name, "password": password, "_xsrf": self._token("/hub/")}
        # What comes next may be the page of a server that starts, or that cannot.
        self.asked("POST", "/hub/login", data=form)
        return self.asked("GET", "/hub/home").url.path == "/hub/home"

    def at(self, url: str) -> "NotebookUser":
        """The same person, cookies included, where the hub is reached at another URL."""
        self.url, self._port = url, url.rpartition(":")[2]
        self._client.base_url = url
        self._client.headers["Host"] = f"{self.host}:{self._port}"
        return self

    def new_api_token(self) -> str:
        """An API token of this person, made as the hub's page for that makes it."""
        headers = {"X-XSRFToken": self._token("/hub/")}
        path = f"/hub/api/users/{self.name}/tokens"
        made = self.asked("POST", path, headers=headers, json={"note": "mine"})
        made.raise_for_status()
        return str(made.json()["token"])

    def begin(self) -> None:
        """Ask for the own server, and wait until it answers as this person's."""
        self.asked("GET", "/hub/spawn")
        end = time.monotonic() + PATIENCE
        while True:
            self.asked("GET", f"/user/{self.name}/lab")
            answer = self.asked("GET", f"/user/{self.name}/api/status")
            if answer.status_code == 200 and "kernels" in answer.text:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"{answer.status_code}: {answer.text[:2000]}")
            time.sleep(2)

    def computed(self, code: str) -> str:
        """What a new kernel prints when it runs this code, by a WebSocket through the proxy."""
        own = f"/user/{self.name}/"
        token = self._token(own)
        made = self.asked("POST", f"{own}api/kernels", headers={"X-XSRFToken": token}, json={})
        made.raise_for_status()
        channel = websocket.create_connection(
            f"wss{self.url.removeprefix('https')}{own}api/kernels/{made.json()['id']}/channels"
            f"?_xsrf={token}",
            sslopt={"ca_certs": self.authority, "server_hostname": self.host},
            host=f"{self.host}:{self._port}",
            origin=f"https://{self.host}:{self._port}",
            cookie="; ".join(
                f"{row.name}={row.value}"
                for row in self._client.cookies.jar
                if own.startswith(row.path) and not (row.name == "_xsrf" and row.path == "/hub/")
            ),
            timeout=300,
            http_no_proxy=["*"],
        )
        header = {
            "msg_id": uuid.uuid4().hex,
            "session": uuid.uuid4().hex,
            "username": self.name,
            "msg_type": "execute_request",
            "version": "5.3",
            "date": "2026-01-01T00:00:00Z",
        }
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        channel.send(json.dumps({**message, "channel": "shell", "buffers": []}))
        printed = ""
        while True:
            heard = json.loads(channel.recv())
            if heard["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            if heard["msg_type"] == "stream":
                printed += heard["content"]["text"]
            if heard["msg_type"] == "error":
                raise AssertionError(heard["content"])
            if heard["msg_type"] == "status" and heard["content"]["execution_state"] == "idle":
                channel.close()
                return printed


def main() -> None:
    """Log in, start the server, compute."""
    url, authority, host, name, code = sys.argv[1:]
    with NotebookUser(url, authority, host, name) as person:
        assert person.logged_in(sys.stdin.readline().strip()), "the password is refused"
        person.begin()
        print(person.computed(code), end="")


if __name__ == "__main__":
    main()
