"""The data that give access to a running cluster, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from spec.hypervisor import LoginSettings


@dataclass(frozen=True, kw_only=True)
class SshServer:
    """The address of an SSH server, who logs in, and the host key that identifies the server."""

    address: str
    host_key: str
    """Type and key as in ``known_hosts``, without the host's name."""
    user: str = "root"
    port: int = 22

    @property
    def host(self) -> str:
        """The server as messages name it."""
        return f"{self.address} port {self.port}"


@dataclass(frozen=True, kw_only=True)
class MachineAccess(SshServer):
    """The SSH server of a machine, and the jump host on the way to it."""

    bastion: SshServer | None = None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """The access in a stack's output or in a guard's login.

        An older program wrote only the address and the host key. Raises KeyError where one of these
        is missing.
        """
        via = values.get(VIA)
        return cls(**_server(values), bastion=SshServer(**_server(via)) if via else None)


VIA = "bastion"


def _server(values: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "address": str(values["address"]),
        "host_key": str(values["host_key"]),
    }
    if "user" in values:
        fields["user"] = str(values["user"])
    if "port" in values:
        fields["port"] = int(values["port"])
    return fields


def login_values(settings: LoginSettings) -> dict[str, Any]:
    """Those fields of a machine's access that are not as on a machine that this program made."""
    usual = LoginSettings()
    values: dict[str, Any] = {}
    if settings.user != usual.user:
        values["user"] = settings.user
    if settings.port != usual.port:
        values["port"] = settings.port
    if settings.bastion:
        values[VIA] = settings.bastion.model_dump(mode="json")
    return values


@dataclass(frozen=True, kw_only=True)
class Access:
    """Access to a cluster: its machines by name, their SSH key, the admin's kubeconfig."""

    machines: Mapping[str, MachineAccess]
    ssh_key: str = field(repr=False)
    """The private key, in OpenSSH's format; empty for the person's own keys (agent, ``~/.ssh``)."""
    kubeconfig: str | None = field(default=None, repr=False)
    """YAML; None until the cluster has been ready once."""

    @staticmethod
    def from_outputs(outputs: Mapping[str, Any]) -> "Access":
        """The access from a stack's outputs, with secrets decrypted.

        Raises KeyError where the outputs lack a value.
        """
        return Access(
            machines={name: MachineAccess.read(node) for name, node in outputs["nodes"].items()},
            ssh_key=outputs["ssh_private_key"],
            kubeconfig=outputs.get("kubeconfig"),
        )
