"""A machine in a container as its guard observes and mends it."""

import asyncio
from collections.abc import Collection, Mapping

from components.guard import mended
from plan.contents import Contents
from plan.held import Difference
from probe.machines import Done
from probe.observation import drifted
from tests.plan.container import Container

NODE = "m"


class GuardedMachine:
    """A container in the place of a machine behind SSH.

    ``secrets`` maps the path of each secret file to its sha256.
    """

    def __init__(
        self, container: Container, contents: Contents, secrets: Mapping[str, str]
    ) -> None:
        self.container, self.contents, self.secrets = container, contents, secrets
        self.steps: list[str] = []
        """Those that ran since ``mend`` began."""

    async def run(
        self,
        node: str,
        script: str,
        *arguments: str,
        timeout: float,
        input: str | None = None,  # noqa: A002  # as the real one has it
    ) -> Done:
        del node
        self.steps += [step.name for step in self.contents.steps if step.data == input]
        program = ("bash", "--norc", "-euo", "pipefail", "-c", script, "probe", *arguments)
        child = self.container.start("timeout", f"{timeout:g}", *program)
        output, errors = child.communicate(input or "")
        return Done(status=child.returncode, stdout=output, stderr=errors)

    def drift(self) -> dict[str, Difference]:
        """What the guard sees to differ, by the key of the item."""
        differences = drifted(self, NODE, self.contents.items, self.secrets)  # type: ignore[arg-type]
        return {difference.item.key: difference for difference in asyncio.run(differences)}

    def observed(self) -> dict[str, str]:
        """The state of each item that differs."""
        return {key: difference.observed for key, difference in self.drift().items()}

    def mend(self, seen: Collection[str] = ()) -> None:
        """Repair what differs, as an update does after a refresh that has ``seen`` these items."""
        self.steps.clear()
        repair = mended(self, NODE, self.contents, self.secrets, seen)  # type: ignore[arg-type]
        asyncio.run(repair)

    def shell(self, text: str) -> None:
        """Do something to the machine by hand."""
        done = self.container.run(text)
        assert done.returncode == 0, done.stderr
