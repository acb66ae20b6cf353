"""A cluster's machines and their network."""

from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from spec.hypervisor import FROZEN, Libvirt

DnsLabel = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=32)
]


class SpecError(ValueError):
    """Everything that is wrong with a spec, one sentence a line."""


class Networks(BaseModel):
    """The address ranges of a cluster."""

    model_config = FROZEN

    machines: IPv4Network

    @property
    def gateway(self) -> IPv4Address:
        """The first address: the host's own end of the machines' network."""
        return self.machines.network_address + 1


class Machine(BaseModel):
    """One machine at its fixed address."""

    model_config = FROZEN

    address: IPv4Address
    cpus: int = Field(default=1, ge=1, le=128)
    memory: int = Field(default=2048, ge=512)
    """MiB."""
    disk: int = Field(default=10, ge=4)
    """GiB."""


class BaseImage(BaseModel):
    """A distribution's cloud image that machines start from, in place of the one the lab builds."""

    model_config = FROZEN

    source: str
    """A URL, or a path on this host."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    sha512: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")] | None = None

    @model_validator(mode="after")
    def _is_pinned(self) -> Self:
        if not (self.sha256 or self.sha512):
            raise ValueError(
                "base_image has no digest, so anything could be booted; "
                "write the sha256 or sha512 that its maker publishes"
            )
        return self


class Cluster(BaseModel):
    """What a person wants."""

    model_config = FROZEN

    name: DnsLabel
    networks: Networks
    machines: dict[DnsLabel, Machine] = Field(min_length=1)
    base_image: BaseImage | None = None
    """What machines start from; left out, the lab builds a Debian with the artifacts inside."""
    hypervisor: Libvirt | None = None
    """Where the machines run; left out, the lab of this host offers it."""

    @model_validator(mode="after")
    def _addresses_fit(self) -> Self:
        taken: dict[IPv4Address, str] = {self.networks.gateway: "the gateway"}
        network = self.networks.machines
        for name, machine in self.machines.items():
            where = f"machines.{name}.address {machine.address}"
            if machine.address not in network:
                raise ValueError(
                    f"{where} is outside networks.machines {network}, so nothing would reach it; "
                    f"write an address between {network[2]} and {network[-2]}"
                )
            if machine.address in (network.network_address, network.broadcast_address):
                raise ValueError(f"{where} is reserved by the network; write another")
            if machine.address in taken:
                raise ValueError(
                    f"{where} is already used by {taken[machine.address]}, so one of them would "
                    "not answer; write a free one"
                )
            taken[machine.address] = name
        return self


def parse(value: Any, *, name: str) -> Cluster:
    """A cluster from the stack's configuration value; ``name`` is used where it gives none.

    Raises SpecError with one line for each mistake.
    """
    if not isinstance(value, dict):
        raise SpecError("hardway:cluster must be a mapping with networks and machines")
    try:
        return Cluster.model_validate({"name": name, **value})
    except ValidationError as error:
        lines = [
            ": ".join(
                filter(
                    None, [".".join(map(str, row["loc"])), row["msg"].removeprefix("Value error, ")]
                )
            )
            for row in error.errors()
        ]
        raise SpecError("\n".join(lines)) from error
