"""What the hub's container runs: it takes away what a former password gave, and becomes the hub.

JupyterHub's database outlives the hub with its claim, and with it every token that people made and
every running server. Another password ends them all before JupyterHub opens the database; people
themselves, their claims and homes stay. It may be cut off anywhere and run again: the mark of the
password comes last.

Where there is no database, no hub would ever end the servers that run, so they end as well.
"""

import hashlib
import hmac
import json
import os
import sqlite3
import ssl
import sys
import time
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

SECRETS, DATA = Path("/run/jupyterhub"), Path("/srv/jupyterhub")
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

DATABASE, MARK = "jupyterhub.sqlite", "password-mark"
SERVERS = "component=singleuser-server"
"""The label of people's servers, which kubespawner gives them."""
GRACE = 1
"""Seconds that a server has to end, as kubespawner gives it."""
PATIENCE = 120
"""Seconds until servers must be gone; later their nodes are taken to be away."""

FORGOTTEN = (
    # Tokens that people made, and those of servers and of browsers at servers.
    "DELETE FROM api_tokens",
    "DELETE FROM oauth_codes",
    "DELETE FROM share_codes",
    # What a server is to the hub: its secret, and where people are led.
    "DELETE FROM oauth_clients WHERE identifier IN (SELECT oauth_client_id FROM spawners)",
    "DELETE FROM servers WHERE id IN (SELECT server_id FROM spawners)",
    # Else the former password's cookies were good again where its number comes back.
    "UPDATE users SET cookie_id = lower(hex(randomblob(16)))",
)
"""Of the tables of JupyterHub 6.1.1, all that gives access."""


class Refused(Exception):
    """The API did not do what it was asked for."""


class ServerPods:
    """The pods of the hub's namespace, by the rights of the hub's own account."""

    def __init__(self, account: Path, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._token = (account / "token").read_text().strip()
        self._context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        namespace = (account / "namespace").read_text().strip()
        self._path = f"/api/v1/namespaces/{namespace}/pods"

    def servers(self) -> list[str]:
        """The names of people's servers, also of those that are ending."""
        listed = self._asked("GET", f"{self._path}?labelSelector={SERVERS}", (200,))
        return [item["metadata"]["name"] for item in listed["items"]]

    def delete(self, name: str) -> None:
        """Have a pod end; one that is gone is none to end."""
        path = f"{self._path}/{name}?gracePeriodSeconds={GRACE}"
        self._asked("DELETE", path, (200, 202, 404))

    def _asked(self, method: str, path: str, wanted: tuple[int, ...]) -> Any:
        connection = HTTPSConnection(self._host, self._port, timeout=60, context=self._context)
        with closing(connection):
            try:
                connection.request(method, path, headers={"Authorization": f"Bearer {self._token}"})
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, HTTPException) as error:
                raise Refused(f"the API does not answer {method} {path}: {error}") from error
        if answer.status not in wanted:
            raise Refused(f"the API answers {method} {path} with {answer.status}: {text[:1000]!r}")
        return json.loads(text)


def end_servers(pods: ServerPods) -> None:
    """Have all people's servers end, and wait until they are gone.

    The servers of a node that is away are ended by its kubelet once it is back: the API keeps that
    they are to end, and by then nobody is led to them and the hub knows no token of theirs.
    """
    left = pods.servers()
    for name in left:
        print(f"Ending {name}.", flush=True)
        pods.delete(name)
    end = time.monotonic() + PATIENCE
    while left and time.monotonic() < end:
        time.sleep(1)
        left = pods.servers()
    if left:
        print(f"Still ending, on nodes that are away: {', '.join(left)}.", flush=True)


def forget(database: Path) -> None:
    """Take out of the database what gives access, all at once.

    A table that is missing is an error, but in a database that has none: a hub that ended as it
    began left that.
    """
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=60)) as opened:
        # So that no row points at what is gone.
        opened.execute("PRAGMA foreign_keys = ON")
        if not opened.execute("SELECT 1 FROM sqlite_master").fetchone():
            return
        with opened:
            for statement in FORGOTTEN:
                opened.execute(statement)


def mark_of(secret: str) -> str:
    """What tells a password from another one, and says nothing of it."""
    return hmac.digest(secret.encode(), b"last started with", hashlib.sha256).hex()


def prepare(data: Path, mark: str, pods: ServerPods) -> None:
    """See to it that nothing of a former password, or of a former database, gives access.

    ``mark`` is that of the password now.

    A database without a mark is of a hub before there were marks. Its password may have been
    another one, so it counts as that. Raises Refused where the API does not do its part.
    """
    database, kept = data / DATABASE, data / MARK
    is_there = database.exists()
    if is_there and kept.exists() and kept.read_text() == mark:
        return
    end_servers(pods)
    if is_there:
        forget(database)
    new = kept.with_suffix(".new")
    with new.open("w") as file:
        file.write(mark)
        file.flush()
        os.fsync(file.fileno())
    new.replace(kept)


def main() -> None:
    """Prepare, then run the command that is given instead of this program."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    try:
        mark = mark_of((SECRETS / "password").read_text().strip())
        prepare(DATA, mark, ServerPods(ACCOUNT, host, int(port)))
    except (OSError, Refused, sqlite3.Error) as error:
        sys.exit(f"The hub does not start: {error}")
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606, it becomes the hub


if __name__ == "__main__":
    main()
