"""The conditions of a ready cluster, in the order in which they come true."""

from collections.abc import Iterator

from certs.renewal import key_name, pair_name
from certs.table import Authority, common_name
from plan import backup, layout
from plan.addons.catalogue import enabled
from plan.condition import (
    ApiServers,
    Backups,
    Check,
    Clocks,
    Condition,
    CurrentKeys,
    Members,
    Nodes,
    Services,
    Space,
    TrustedAuthorities,
    condition,
)
from plan.limits import CONDITIONS
from spec.cluster import Cluster
from spec.refusal import listed

FULL = 80
"""Per cent of etcd's quota above which a person should act: at 100 % etcd refuses all writes."""


def conditions(spec: Cluster) -> tuple[Condition, ...]:
    """The conditions of this cluster, in order; each depends on those before it."""
    return (
        *_of_machines(spec),
        *(its for add_on in enabled(spec) for its in add_on.conditions(spec)),
        *_of_backups(spec),
        _services(spec),
    )


def _services(spec: Cluster) -> Condition:
    """The last condition, since some services restart until others answer."""
    return _condition(
        name="services",
        waits_for="every service runs, and none is started again and again",
        check=Services(machines=tuple(sorted(spec.machines))),
    )


def _of_machines(spec: Cluster) -> Iterator[Condition]:
    version = f"v{spec.versions.kubernetes}"
    # First, since a wrong clock makes every other condition report something misleading.
    yield _condition(
        name="clocks",
        waits_for="the machines' clocks go as this computer's does",
        check=Clocks(machines=tuple(sorted(spec.machines))),
    )
    members = dict(zip(spec.etcd_members, layout.etcd_urls(spec), strict=True))
    yield _condition(
        name="members",
        waits_for="etcd has exactly the members of the spec and all are healthy",
        check=Members(members=members),
    )
    # This condition does not come true by itself: its limit is for members that answer slowly.
    yield _condition(
        name="space",
        waits_for=f"etcd has no alarm, and each member used at most {FULL} % of its quota",
        check=Space(members=members, percent=FULL),
    )
    yield _condition(
        name="api",
        waits_for=f"every API server is ready and is {version}",
        check=ApiServers(
            servers={name: layout.api_server_url(spec, name) for name in spec.control_planes},
            version=version,
        ),
    )
    key = key_name(spec.key_numbers.encryption)
    pair = pair_name(spec.key_numbers.service_accounts)
    yield _condition(
        name="keys",
        waits_for=f"{key} encrypts all Secrets, and {pair} signs service accounts' tokens"
        if spec.keys
        else "no key is in the middle of a change",
        check=CurrentKeys(
            members=members, planes=spec.control_planes, encryption=key, service_accounts=pair
        ),
    )
    if spec.authorities:
        kubernetes, front_proxy = (
            tuple(common_name(authority, number) for number in sorted(numbers))
            for authority, numbers in (
                (Authority.KUBERNETES, spec.authorities.kubernetes),
                (Authority.FRONT_PROXY, spec.authorities.front_proxy),
            )
        )
        yield _condition(
            name="authorities",
            waits_for="pods and programs behind the API trust "
            f"{listed((*kubernetes, *front_proxy), 'and')}, and no others",
            check=TrustedAuthorities(kubernetes=kubernetes, front_proxy=front_proxy),
        )
    yield _condition(
        name="nodes",
        waits_for=f"the nodes are those of the spec, all Ready, with kubelets {version}",
        check=Nodes(nodes=spec.nodes, version=version),
    )


def _of_backups(spec: Cluster) -> Iterator[Condition]:
    if (machine := backup.member(spec)) and spec.backup:
        yield _condition(
            name="backup",
            waits_for=f"etcd has a backup, made within twice {spec.backup.every}",
            check=Backups(machine=machine, seconds=backup.too_old(spec.backup)),
        )


def _condition(*, name: str, waits_for: str, check: Check) -> Condition:
    """A condition with its limit."""
    return condition(name=name, waits_for=waits_for, check=check, limit=CONDITIONS[name])
