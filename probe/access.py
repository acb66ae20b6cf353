"""How a running cluster is reached, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class MachineAccess:
    """Where a machine's SSH server is, and the key by which it is known."""

    address: str
    host_key: str
    """As in ``known_hosts``: type and key, without a host's name."""
    user: str = "root"
    port: int = 22


@dataclass(frozen=True, kw_only=True)
class Access:
    """What opens a cluster: its machines by name, the key for them, the admin's kubeconfig."""

    machines: Mapping[str, MachineAccess]
    ssh_key: str = field(repr=False)
    """The private key, in OpenSSH's format."""
    kubeconfig: str | None = field(default=None, repr=False)
    """YAML; None until the cluster has been ready once."""

    @staticmethod
    def from_outputs(outputs: Mapping[str, Any]) -> "Access":
        """From a stack's outputs with secrets shown. Raises KeyError for a stack without them."""
        return Access(
            machines={
                name: MachineAccess(address=node["address"], host_key=node["host_key"])
                for name, node in outputs["nodes"].items()
            },
            ssh_key=outputs["ssh_private_key"],
            kubeconfig=outputs.get("kubeconfig"),
        )
