"""The component of a machine that answers by SSH and has its artifacts and certificates."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any, TypeVar

import pulumi
import yaml

from certs.table import Row
from certs.tracked import (
    HostKey,
    TrackedAuthorities,
    TrackedBackupKeys,
    TrackedBundle,
    TrackedSshKeys,
)
from components.guard import Guard, login, secrets
from components.remote import Login, copied_scripts, remote_command
from hypervisors.port import ClusterKey, Hypervisor, Seed
from plan import etcd, render
from plan.contents import StepCommand, contents, step_command
from plan.material import kept_material
from plan.model import Material, NodePlan, Step
from probe.access import login_values
from spec import resource_names
from spec.cluster import Machine as MachineSpec
from spec.cluster import mac_address
from spec.hypervisor import LoginSettings, domain_name

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class MachineArgs:
    """A machine's spec and plan, and the resources that it shares with the cluster's others."""

    cluster: str
    spec: MachineSpec
    login: LoginSettings
    plan: NodePlan
    certificates: Sequence[Row]
    network: pulumi.Input[str]
    addresses: IPv4Network
    gateway: IPv4Address
    bridge: str | None
    """The bridge of the hypervisor's host that the machine is on, in place of the network."""
    hypervisor: Hypervisor
    ssh_keys: TrackedSshKeys
    authorities: TrackedAuthorities
    passwords: pulumi.Output[str]
    """Those of registries by their names, as JSON; secret."""
    backup_keys: TrackedBackupKeys
    bucket_key: pulumi.Output[str]
    """The halves of the access key of the bucket for backups by their names, as JSON; secret."""
    password_seed: pulumi.Output[str]
    """Secret: of passwords of the program's own making; empty where there are none."""


class MachineComponent(pulumi.ComponentResource):
    """A machine with a fixed address and its own SSH host key.

    It has the artifacts and certificates of its plan, and runs no part of Kubernetes yet.
    """

    host_key: pulumi.Output[str]
    access: dict[str, Any]
    """The fields of ``probe.access.MachineAccess``, with the host key as an output."""
    identified: pulumi.Resource
    """The last of the machine's own steps. The steps of its roles depend on it."""

    def __init__(
        self, name: str, args: MachineArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("hardway:index:Machine", name, None, opts)
        self.args = args
        self._done: dict[str, pulumi.Resource] = {}
        self._commands: dict[str, tuple[str, str]] = {}
        """Step to its command line and data, of the steps without secrets that run here."""
        child = pulumi.ResourceOptions(parent=self)
        key = args.ssh_keys.host(name)
        given = args.login.host_key
        self.host_key = pulumi.Output.from_input(given) if given else key.public
        self._login = Login(
            address=args.spec.address,
            private_key=args.ssh_keys.private,
            host_key=self.host_key,
            settings=args.login,
        )
        self.access: dict[str, Any] = {
            "address": str(args.spec.address),
            "host_key": self.host_key,
            **login_values(args.login),
        }
        self.resource = self._made(name, key)
        self.certificates = TrackedBundle(
            resource_names.part(name, resource_names.KEYS),
            args.certificates,
            args.authorities,
            child,
        )
        self._scripts = copied_scripts(
            resource_names.part(name, resource_names.SCRIPTS),
            login=self._login,
            machine=self.resource,
            parent=self,
        )
        ready = self.step("ready")
        self.identified = self.step("identity", bundle=self.certificates, after=[ready])
        self.register_outputs({"host_key": self.host_key})

    def _made(self, name: str, key: HostKey) -> pulumi.CustomResource:
        args = self.args
        first, *others = (
            ClusterKey(public=pair.public, private=pair.private) for pair in args.ssh_keys.keys
        )
        domain = domain_name(args.cluster, name)
        mac = mac_address(args.cluster, args.spec.address)
        return args.hypervisor.machine(
            name,
            args.spec,
            domain=domain,
            network=args.network,
            bridge=args.bridge,
            mac=mac,
            seed=Seed(
                user_data=pulumi.Output.secret(
                    pulumi.Output.all(key.private, key.public, args.ssh_keys.lines).apply(
                        lambda keys: user_data(name, *keys)
                    )
                ),
                meta_data=yaml.safe_dump({"instance-id": domain, "local-hostname": name}),
                network_config=network_config(args.spec, args.addresses, args.gateway, mac),
            ),
            key=first,
            others=others,
            parent=self,
        )

    def step(
        self,
        name: str,
        *,
        parent: pulumi.Resource | None = None,
        after: Sequence[pulumi.Input[pulumi.Resource]] = (),
        bundle: TrackedBundle | None = None,
        leaves: bool = False,
        founders: pulumi.Output[tuple[str, ...]] | None = None,
    ) -> pulumi.Resource:
        """Run a step of the machine's plan. Raises KeyError where the plan has no such step."""
        step = self.args.plan.step(name)
        return self.run(
            step, parent=parent, after=after, bundle=bundle, leaves=leaves, founders=founders
        )

    def run(
        self,
        step: Step,
        *,
        parent: pulumi.Resource | None = None,
        after: Sequence[pulumi.Input[pulumi.Resource]] = (),
        bundle: TrackedBundle | None = None,
        leaves: bool = False,
        founders: pulumi.Output[tuple[str, ...]] | None = None,
    ) -> pulumi.Resource:
        """Run a step on this machine.

        The data of a step with secrets include certificates and keys of the bundle. ``leaves`` says
        whether the deletion of the step takes away what it brought to a machine that stays.
        ``founders`` are the members of etcd that may begin the cluster, for the step of a member.
        """
        line = render.command(step)
        data: pulumi.Input[str]
        if bundle:
            data = self._with_secrets(step, bundle)
        else:
            data = render.text(step)
            self._commands[step.name] = (line, data)
            if founders:
                data = founders.apply(lambda names: render.text(etcd.founded(step, names)))
        done = self._done[step.name] = remote_command(
            resource_names.part(self.args.plan.node, step.name),
            line,
            data,
            seconds=render.limit(step),
            login=self._login,
            machine=self.resource,
            parent=parent or self,
            after=[self._scripts, *after],
            secret=step.secret,
            leaving=render.leaving(step.name) if leaves else None,
        )
        return done

    @property
    def digest(self) -> str:
        """Changes with the machine's steps, except those that have secrets."""
        texts = (
            text for step in self.args.plan.steps for text in self._commands.get(step.name, ())
        )
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]

    def guard(self, plan: NodePlan) -> Guard:
        """Compare the machine with a plan, after all steps of the plan have run on the machine."""
        return Guard(
            resource_names.part(plan.node, resource_names.GUARD),
            login=self.login,
            contents=self._made_of(self.certificates, lambda made: contents(plan, made)),
            secrets=self._made_of(self.certificates, lambda made: secrets(plan, made)),
            opts=pulumi.ResourceOptions(
                parent=self,
                deleted_with=self.resource,
                replacement_trigger=self.resource.id,
                depends_on=[self._scripts, *(self._done[step.name] for step in plan.steps)],
            ),
        )

    @property
    def login(self) -> pulumi.Output[str]:
        """The login with which a guard runs a step again here."""
        return together(
            lambda ssh_key, host_key: login(
                self.args.plan.node, {**self.access, "host_key": host_key}, ssh_key
            ),
            self.args.ssh_keys.private,
            self.host_key,
        )

    def command(self, step: Step, bundle: TrackedBundle) -> pulumi.Output[StepCommand]:
        """A step with secrets of the bundle, as a guard runs it again here."""
        return self._made_of(bundle, lambda made: step_command(step, made))

    def _with_secrets(self, step: Step, bundle: TrackedBundle) -> pulumi.Output[str]:
        return self._made_of(bundle, lambda made: render.text(step, made))

    def _made_of(self, bundle: TrackedBundle, make: Callable[[Material], T]) -> pulumi.Output[T]:
        """A value that is made from the keys in a bundle and passwords, once all are known."""

        def made(
            authorities: str,
            kept: str,
            passwords: str,
            backups: str,
            bucket: str,
            logins: str,
            seed: str,
        ) -> T:
            return make(
                kept_material(
                    self.args.cluster,
                    authorities,
                    kept,
                    json.loads(passwords),
                    backups,
                    json.loads(bucket),
                    logins,
                    seed,
                )
            )

        return together(
            made,
            self.args.authorities.kept,
            bundle.kept,
            self.args.passwords,
            self.args.backup_keys.kept,
            self.args.bucket_key,
            self.args.ssh_keys.lines,
            self.args.password_seed,
        )


def together(function: Callable[..., T], *outputs: pulumi.Output[str]) -> pulumi.Output[T]:
    """The result of the function, once all outputs are known."""
    return pulumi.Output.all(*outputs).apply(lambda texts: function(*texts))


def user_data(name: str, host_private: str, host_public: str, user_lines: str) -> str:
    """The ``#cloud-config`` document: the hostname, the host key and the keys for root's login."""
    document = {
        "hostname": name,
        "manage_etc_hosts": True,
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_genkeytypes": [],
        "ssh_keys": {"ed25519_private": host_private, "ed25519_public": host_public},
        "users": [{"name": "root", "ssh_authorized_keys": user_lines.splitlines()}],
    }
    return "#cloud-config\n" + yaml.safe_dump(document, sort_keys=True)


def network_config(
    spec: MachineSpec, addresses: IPv4Network, gateway: IPv4Address, mac: str
) -> str:
    """A static address, matched by MAC and independent of any DHCP lease (netplan version 2)."""
    primary = {
        "match": {"macaddress": mac},
        "dhcp4": False,
        "addresses": [f"{spec.address}/{addresses.prefixlen}"],
        "routes": [{"to": "0.0.0.0/0", "via": str(gateway)}],
    }
    return yaml.safe_dump({"version": 2, "ethernets": {"primary": primary}})
