"""The passwords for registries, which a stack's configuration has as secrets beside the cluster."""

from collections.abc import Collection, Iterator
from typing import Any

from spec.cluster import Cluster
from spec.refusal import Refusal, SpecError, dotted
from spec.secret_values import not_secret

KEY = "passwords"
"""The key in the configuration, in the project's namespace: a mapping of registries to secrets."""

FULL_KEY = f"hardway:{KEY}"


def command(name: str) -> str:
    """The command that asks for the password of a registry and writes it."""
    return f"./hardway pulumi config set --secret --path '{FULL_KEY}[\"{name}\"]'"


def demand_passwords(spec: Cluster, names: Collection[str]) -> None:
    """Raise SpecError unless exactly the registries with a user have a password."""
    if refusals := list(_refusals(spec, names)):
        raise SpecError("\n".join(map(str, refusals)))


def _refusals(spec: Cluster, names: Collection[str]) -> Iterator[Refusal]:
    users = {name for name, registry in spec.registries.items() if registry.user is not None}
    for name in sorted(users - set(names)):
        yield Refusal(
            dotted(("registries", name, "user")),
            "has no password",
            "its registry would refuse every pull",
            f"run {command(name)}",
        )
    for name in sorted(set(names) - users):
        yield Refusal(
            dotted((FULL_KEY, name)),
            "belongs to no registry with a user",
            "no node would get it",
            f"write {dotted(('registries', name, 'user'))}, or leave the password out",
        )


def refused_plain(values: Any) -> Iterator[Refusal]:
    """The mistakes in the passwords as a stack's file has them: each must be a secret."""
    no_mapping = Refusal(
        FULL_KEY,
        "is no mapping of registries to secrets",
        "nobody can tell whose passwords these are",
        f"leave it out, and run {command('registry.example.org')}",
    )
    yield from not_secret(FULL_KEY, values, no_mapping, "change the password", command)
