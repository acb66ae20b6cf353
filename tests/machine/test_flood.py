"""A node joins while a program in the cluster asks the API for more than it can answer."""

import base64
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.machine.lab import Lab, at_length, brought_up, meanwhile
from tests.machine.people import ConfigMapWriter, Person

pytestmark = [pytest.mark.machine, pytest.mark.timeout(5400), at_length]

MASTER, MINION = "master", "minion1"
MACHINES: dict[str, Any] = {
    MASTER: {"address": "192.168.1.10", "roles": "ai", "cpus": 2},
    MINION: {"address": "192.168.1.11"},
}
ALONE: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {MASTER: MACHINES[MASTER]},
}
BOTH = {**ALONE, "machines": MACHINES}

OBJECTS, SIZE = 200, 16 * 1024
"""How many ConfigMaps there are, and how many bytes each has: a list of all has 3 MiB."""

CLIENTS, LIMIT = 16, 1800
"""How many lists are asked for at a time, and for how many seconds at most."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtflood", ALONE, tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


class Greedy:
    """A service account that may list ConfigMaps, and does so as often as it gets answers."""

    def __init__(self, lab: Lab) -> None:
        lab.kubectl("create", "serviceaccount", "greedy")
        lab.kubectl("create", "clusterrole", "greedy", "--verb=list", "--resource=configmaps")
        bound = ("--clusterrole=greedy", "--serviceaccount=default:greedy")
        lab.kubectl("create", "clusterrolebinding", "greedy", *bound)
        token = lab.kubectl("create", "token", "greedy", "--duration=2h").strip()
        (entry,) = yaml.safe_load(lab.hardway("kubeconfig").stdout)["clusters"]
        self._authority = base64.b64decode(entry["cluster"]["certificate-authority-data"]).decode()
        self._url = f"{entry['cluster']['server']}/api/v1/configmaps"
        self._headers = {"Authorization": f"Bearer {token}"}
        self.answers: Counter[int | str] = Counter()
        """How often an HTTP status, or an error of the connection, was the answer."""

    def ask(self, over: threading.Event) -> None:
        """Ask all the time, by a connection of its own, for ``LIMIT`` seconds at most."""
        end = time.monotonic() + LIMIT
        # A context for each thread: httpx changes it before each connection.
        context = ssl.create_default_context(cadata=self._authority)
        client = httpx.Client(verify=context, headers=self._headers, timeout=60, trust_env=False)
        with client:
            while not over.is_set() and time.monotonic() < end:
                try:
                    answer: int | str = client.get(self._url).status_code
                except httpx.TransportError as error:
                    answer = type(error).__name__
                self.answers[answer] += 1
                if answer != httpx.codes.OK:
                    over.wait(1)


def test_a_node_joins_a_cluster_whose_api_is_flooded_with_lists(
    lab: Lab, record_property: Callable[[str, object], None]
) -> None:
    lab.hardway("validate", "--wait", "1200")
    text = "x" * SIZE
    items = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"large-{number}"},
            "data": {"text": text},
        }
        for number in range(OBJECTS)
    ]
    file = lab.folder / "large.yaml"
    file.write_text(yaml.safe_dump_all(items))
    lab.kubectl("create", "--filename", str(file))
    greedy, writer = Greedy(lab), ConfigMapWriter(Person(lab, "writer").creates)
    before = lab.on(MASTER, "systemctl show --property NRestarts --value kube-apiserver etcd")
    lab.describe(BOTH)
    began = time.monotonic()
    with meanwhile(greedy.ask, threads=CLIENTS), meanwhile(writer.write):
        lab.hardway("up")
        seconds = time.monotonic() - began
        lab.kubectl("wait", "--for=condition=Ready", f"node/{MINION}", "--timeout=600s")
    record_property("seconds", round(seconds))
    record_property("answers", dict(greedy.answers))
    record_property("written", len(writer.acknowledged))
    record_property("refused writes", writer.refused)
    print(f"up {seconds:.0f} s; lists: {dict(greedy.answers)}; written: {writer.acknowledged[-1:]}")
    assert greedy.answers[httpx.codes.OK] > CLIENTS, greedy.answers
    lab.hardway("validate", "--wait", "1200")
    assert writer.acknowledged, "people can write meanwhile"
    assert not writer.lost(lab)
    after = lab.on(MASTER, "systemctl show --property NRestarts --value kube-apiserver etcd")
    assert after == before, "no component was killed by the flood"
    lab.pulumi("preview", "--expect-no-changes")
