"""Checks whether a machine has restarted."""

from plan.condition import Restarted
from probe import pods
from probe.api import Api
from probe.failure import Unmet
from probe.machines import Machines, Unreachable

BOOT = "cat /proc/sys/kernel/random/boot_id"
"""Prints a text that each boot of a machine makes anew (random(4))."""

SECONDS = 30
"""Time limit of the question."""


async def boot(machines: Machines, machine: str) -> str:
    """The identifier of a machine's present boot. Raises Unreachable."""
    done = await machines.run(machine, BOOT, timeout=SECONDS)
    if done.status != 0:
        raise Unreachable(f"{machine} does not say which boot it is in ({done.reason})")
    return done.stdout.strip()


async def demand_restarted(check: Restarted, machines: Machines, api: Api | None) -> None:
    """Raises Unmet, ApiError or Unreachable where the machine is not back yet."""
    present = await boot(machines, check.machine)
    if present == check.before:
        raise Unmet(f"{check.machine} has not begun to reboot")
    if api is None:
        return
    status = (await api.json(f"/api/v1/nodes/{check.machine}")).get("status", {})
    # Until the kubelet runs again, the API has what it said before the reboot.
    if status.get("nodeInfo", {}).get("bootID") != present:
        raise Unmet(f"the kubelet of {check.machine} has not reported since the reboot")
    if pods.condition(status, "Ready").get("status") != "True":
        raise Unmet(f"the node {check.machine} is not Ready yet")
