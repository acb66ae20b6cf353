"""The time service of machines: systemd-timesyncd, where the spec names time servers.

It is part of systemd, asks several servers in turn and serves nobody, which is what a machine of a
cluster needs. Without time servers in the spec, machines keep time as they did before.
"""

from plan.model import File, Unit
from spec.cluster import Cluster

PACKAGE = "systemd-timesyncd"
"""Debian and Ubuntu have it apart from systemd, and allow only a single time service at once."""

CONFIG = "/etc/systemd/timesyncd.conf.d/90-hardway.conf"
UNIT = "systemd-timesyncd.service"


def packages(spec: Cluster) -> tuple[str, ...]:
    """The package of the time service; none where the spec names no time servers."""
    return (PACKAGE,) if spec.networks.time_servers else ()


def files(spec: Cluster) -> tuple[File, ...]:
    """The file with the time servers of the spec, which replace those of the distribution."""
    servers = spec.networks.time_servers
    content = f"[Time]\nNTP={' '.join(servers)}\nFallbackNTP=\n"
    return (File(path=CONFIG, content=content, mode=0o644),) if servers else ()


def units(spec: Cluster) -> tuple[Unit, ...]:
    """The service, whose unit replaces the distribution's of that name.

    So the plan says whether it runs, and a restart follows each change of its file. Once the spec
    names no servers any more, the distribution's unit is in force again.
    """
    if not spec.networks.time_servers:
        return ()
    service = Unit(
        name=UNIT,
        description="Network time",
        program="/usr/lib/systemd/systemd-timesyncd",
        needs=(CONFIG,),
        # It asks as soon as there is a network, and again where there was none.
        after=("systemd-sysusers.service",),
        wants=("time-set.target",),
        service={
            "User": "systemd-timesync",
            "AmbientCapabilities": "CAP_SYS_TIME",
            "CapabilityBoundingSet": "CAP_SYS_TIME",
            "RuntimeDirectory": "systemd/timesync",
            "StateDirectory": "systemd/timesync",
            "DeviceAllow": "char-rtc r",
            "NoNewPrivileges": "yes",
            "ProtectSystem": "strict",
            "ProtectHome": "yes",
            "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
            "WatchdogSec": "3min",
        },
    )
    return (service,)
