"""People who use a cluster while a test changes it."""

import subprocess
import threading
import time
from collections.abc import Callable

import yaml

from tests.machine.lab import Lab
from tests.plan.stored import stored


class Person:
    """Somebody with a kubeconfig of a moment, who asks the API again and again."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab = lab
        self.file = lab.folder / f"{name}.conf"
        self.file.touch(0o600)
        self.file.write_text(lab.hardway("kubeconfig").stdout)
        self.answers = 0
        self.longest = 0.0

    def trust(self, somebody: "Person") -> None:
        """Take over from somebody which authorities the API's certificate may be of."""
        own, theirs = (yaml.safe_load(person.file.read_text()) for person in (self, somebody))
        own["clusters"] = theirs["clusters"]
        self.file.write_text(yaml.safe_dump(own))

    def asks(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        kubectl = (str(stored("kubectl")), "--kubeconfig", str(self.file))
        return subprocess.run([*kubectl, *arguments], capture_output=True, text=True, check=False)

    def creates(self, name: str) -> bool:
        """Create a ConfigMap; whether the API has acknowledged it."""
        return self.asks("create", "configmap", name, "--request-timeout=30s").returncode == 0

    def ask(self, over: threading.Event) -> None:
        """Ask all the time, until it is over."""
        last = time.monotonic()
        while not over.is_set():
            done = self.asks("get", "--raw", "/api/v1/namespaces/default", "--request-timeout=10s")
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            if done.returncode == 0:
                self.answers += 1
                last = now
            time.sleep(0.5)


class ConfigMapWriter:
    """Somebody who creates a ConfigMap after another, and remembers what was acknowledged."""

    def __init__(self, create: Callable[[str], bool]) -> None:
        self._create = create
        self._number = 0
        self.acknowledged: list[str] = []
        self.refused = 0

    def write(self, over: threading.Event) -> None:
        """Write all the time, until it is over."""
        while not over.wait(1):
            self._number += 1
            name = f"written-{self._number}"
            if self._create(name):
                self.acknowledged.append(name)
            else:
                self.refused += 1

    def lost(self, lab: Lab) -> set[str]:
        """What was acknowledged, and is not there."""
        kept = {item["metadata"]["name"] for item in lab.objects("configmaps")["items"]}
        return {*self.acknowledged} - kept
