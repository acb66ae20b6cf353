"""The data that give access to a running cluster, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class MachineAccess:
    """The address of a machine's SSH server, and the host key that identifies it."""

    address: str
    host_key: str
    """Type and key as in ``known_hosts``, without the host's name."""
    user: str = "root"
    port: int = 22


@dataclass(frozen=True, kw_only=True)
class Access:
    """Access to a cluster: its machines by name, their SSH key, the admin's kubeconfig."""

    machines: Mapping[str, MachineAccess]
    ssh_key: str = field(repr=False)
    """The private key, in OpenSSH's format."""
    kubeconfig: str | None = field(default=None, repr=False)
    """YAML; None until the cluster has been ready once."""

    @staticmethod
    def from_outputs(outputs: Mapping[str, Any]) -> "Access":
        """The access from a stack's outputs, with secrets decrypted.

        Raises KeyError where the outputs lack a value.
        """
        return Access(
            machines={
                name: MachineAccess(address=node["address"], host_key=node["host_key"])
                for name, node in outputs["nodes"].items()
            },
            ssh_key=outputs["ssh_private_key"],
            kubeconfig=outputs.get("kubeconfig"),
        )
