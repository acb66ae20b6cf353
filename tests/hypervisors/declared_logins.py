"""A program for the engine: a machine with a few steps, whose SSH keys turn over."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi import dynamic

from certs.tracked import Checked, TrackedAuthorities, TrackedBackupKeys, TrackedSshKeys
from components.machine import MachineArgs, MachineComponent
from components.remote import provider
from components.specification import Specification
from hypervisors.existing.machines import ExistingMachine
from hypervisors.port import ClusterKey, Seed, Subnet
from plan import identity
from plan.model import AuthorityKey, File, NodePlan, SecretFile, Step
from probe.access import login_values
from spec import resource_names
from spec.cluster import Machine, parse
from spec.hypervisor import Bastion, LoginSettings
from tests.hypervisors.history import READY, SERVICE

NAME = "m1"


class FirstBootProvider(Checked):
    """Lets in what a seed says, as cloud-init does at a machine's first boot and never again."""

    def diff(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        del id_, olds, news
        return dynamic.DiffResult(changes=False)

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        (root,) = yaml.safe_load(props["userData"])["users"]
        keys = Path(props["file"])
        keys.parent.mkdir(mode=0o700, exist_ok=True)
        keys.write_text("".join(f"{line}\n" for line in root["ssh_authorized_keys"]))
        keys.chmod(0o600)
        return dynamic.CreateResult(uuid.uuid4().hex, dict(props))


class FirstBoot(dynamic.Resource, module="test", name="FirstBoot"):
    """A machine that the program makes."""

    def __init__(self, name: str, props: Mapping[str, Any], opts: pulumi.ResourceOptions) -> None:
        super().__init__(FirstBootProvider(), name, dict(props), opts)


class MadeOrAttached:
    """Makes the machine, or attaches it where no file with root's keys is given."""

    def __init__(self, file: str | None, login: LoginSettings) -> None:
        self._file = file
        self._login = login

    def network(self, subnet: Subnet, parent: pulumi.Resource) -> pulumi.Output[str]:
        """Make nothing."""
        del parent
        return pulumi.Output.from_input(subnet.name)

    def machine(
        self,
        name: str,
        spec: Machine,
        *,
        domain: str,
        network: pulumi.Input[str],
        bridge: str | None = None,
        mac: str,
        seed: Seed,
        key: ClusterKey,
        others: Sequence[ClusterKey] = (),
        parent: pulumi.Resource,
    ) -> pulumi.CustomResource:
        """Make the machine."""
        del network, bridge, mac, domain
        if self._file:
            opts = pulumi.ResourceOptions(parent=parent, ignore_changes=["userData"])
            return FirstBoot(name, {"userData": seed.user_data, "file": self._file}, opts)
        access = {"address": str(spec.address), "host_key": self._login.host_key}
        return ExistingMachine(
            name,
            cluster="dev",
            access=access | login_values(self._login),
            key=key,
            others=others,
            opts=pulumi.ResourceOptions(parent=parent),
        )


def declare(values: Mapping[str, Any]) -> None:
    """Declare what ``values`` describe: a spec, and how the machine is reached."""
    spec = parse(values["spec"], name="dev")
    whole = pulumi.ComponentResource(
        "test:index:Group", "whole", None, pulumi.ResourceOptions(providers=[provider()])
    )
    specification = Specification(spec, pulumi.ResourceOptions(parent=whole))
    child = pulumi.ResourceOptions(parent=whole, depends_on=[specification])
    bastion = values["bastion"] and Bastion.model_validate(values["bastion"])
    login = LoginSettings(
        user=spec.login_of(NAME).user,
        port=values["port"],
        host_key=values["host_key"],
        bastion=bastion,
    )
    role = Step(name="role", files=(File(path="/etc/role/conf", content="a\n"),), units=(SERVICE,))
    steps = "ready role" if values["role"] else "ready"
    plan = NodePlan(
        node=NAME,
        steps=(
            replace(READY, settings={**READY.settings, "steps": steps}),
            Step(
                name="identity",
                secret_files=(SecretFile(path="/etc/x/key", source=AuthorityKey("kubernetes")),),
                logins=identity.step(spec, NAME).logins,
            ),
            *((role,) if values["role"] else ()),
        ),
    )
    machine = MachineComponent(
        NAME,
        MachineArgs(
            cluster="dev",
            spec=spec.machines[NAME].model_copy(update={"address": IPv4Address("127.0.0.1")}),
            login=login,
            plan=plan,
            certificates=(),
            network="none",
            addresses=spec.subnet_of(NAME),
            gateway=spec.networks.gateway_of(spec.subnet_of(NAME)),
            bridge=None,
            hypervisor=MadeOrAttached(values["file"], login),
            ssh_keys=TrackedSshKeys(resource_names.SSH_KEY, child, spec.ssh_key_numbers),
            authorities=TrackedAuthorities(resource_names.AUTHORITIES, child),
            passwords=pulumi.Output.secret("{}"),
            backup_keys=TrackedBackupKeys(resource_names.BACKUP_KEYS, child),
            bucket_key=pulumi.Output.secret("{}"),
            password_seed=pulumi.Output.secret(""),
        ),
        child,
    )
    if values["role"]:
        machine.step("role", after=[machine.identified], leaves=True)
    machine.guard(plan)
