"""A member of etcd, and the users and roles of the cluster's etcd."""

import json
import math
from dataclasses import replace

from certs.table import PEER
from plan import flannel, layout, reload, tls, turn
from plan.artifact import artifacts
from plan.model import Directory, File, Membership, Step, Turn, Unit
from plan.program import program
from spec.cluster import Cluster

PROGRAMS = ("etcd", "etcdctl", "etcdutl")
UNIT = "etcd.service"
USER = "etcd"

EVERYTHING = "root"
"""The role that etcd itself creates: it permits everything."""
ROLES = {
    # etcd demands this user. It has no password, and no certificate has this name, so nobody can
    # act as this user.
    "root": EVERYTHING,
    "kube-apiserver-etcd-client": EVERYTHING,
    "kube-etcd-healthcheck-client": EVERYTHING,
    "flannel": "flannel",
}
"""User to the user's role; the user is the common name of a client certificate."""

OPERATOR = (
    layout.MEMBER_AUTHORITY,
    layout.certificate("etcd-healthcheck-client"),
    layout.private_key("etcd-healthcheck-client"),
)
"""The files with which a member's machine sends requests to etcd: authority, certificate, key."""

PATIENT = {"heartbeat-interval": "500", "election-timeout": "5000"}
"""Flags for several members, in milliseconds. etcd's own values are 100 and 1000, with which
emulated machines do not keep up. A lone member keeps etcd's own values: it has no other member to
wait for, and it waits for its election timeout at every start."""
DEFAULT_ELECTION = "1000"
"""etcd's own election timeout, in milliseconds."""
HAND_OVER: File = program("hand-over")
NOTE_REMOVAL: File = program("note-removal")
STARTS = (
    f"AssertPathExistsGlob=|{layout.ETCD_DATA}/member/wal/*.wal",
    f"AssertPathExists=|{layout.ETCD_FIRST_START}",
)
"""A member may start if it has its data, or if its step allows a start without data. Without its
log, etcd would begin anew under its old identity (``wal.Exist`` in etcd's server): where no other
member answers, nothing refuses this, and writes that the member confirmed can be lost."""
STARTS_AGAIN = {
    "ExecCondition": f"+/bin/bash -c '[ ! -e {layout.ETCD_REMOVED} ] && "
    f'{{ compgen -G "{layout.ETCD_DATA}/member/wal/*.wal" >/dev/null || '
    f"[ -e {layout.ETCD_FIRST_START} ]; }}'"
}
"""Settings for several members. The condition checks the same as ``STARTS`` at an automatic
restart, when systemd checks no asserts (systemd 257), and also that the other members have not
removed this member. A removed member ends after each start, with exit status 0 or 1 by chance, and
each time reports to systemd that it is ready: neither a start limit nor an exit status identifies
it."""
QUOTA = 2 * 1024**3
"""The size of the database, in bytes, at which etcd refuses writes. The smallest disk has room for
it."""


def step(spec: Cluster, node: str) -> Step:
    """The step that makes a machine a healthy member of etcd, with etcd's users where needed."""
    programs = artifacts(spec, PROGRAMS)
    return Step(
        name="etcd",
        users=(USER,),
        artifacts=programs,
        directories=(Directory(path=layout.ETCD_DATA, mode=0o700, owner=f"{USER}:{USER}"),),
        files=(HAND_OVER, NOTE_REMOVAL) if len(spec.etcd_members) > 1 else (),
        links=tuple(program.command for program in programs),
        units=(unit(spec, node),),
        membership=membership(spec, node),
        turns=turns(spec, node),
        begin="storage-version",
        script="etcd",
        settings={
            "endpoint": _own_url(),
            "authority": OPERATOR[0],
            "certificate": OPERATOR[1],
            "private_key": OPERATOR[2],
            "members": " ".join(spec.etcd_members),
            **_version(spec, node),
            **_flannel(spec),
        },
        outcome=f"etcd {spec.versions.etcd}, healthy",
    )


def _version(spec: Cluster, node: str) -> dict[str, str]:
    """Settings for the script that lets etcd go back by a minor version."""
    (command,) = (program.command for program in artifacts(spec, ("etcd",)))
    elsewhere = (layout.etcd_url(spec, name) for name in spec.etcd_members if name != node)
    return {
        "version": spec.versions.etcd,
        "program": command.path,
        "planned": command.target,
        "data_directory": layout.ETCD_DATA,
        "endpoints": ",".join((_own_url(), *elsewhere)),
    }


def membership(spec: Cluster, node: str) -> Membership:
    """The data with which a member's step joins the others, or refuses to start.

    They distinguish a member that never ran from a member that has lost its data. Until
    ``founded`` says otherwise, the cluster is a new one, which all its members begin.
    """
    (etcdctl,) = artifacts(spec, ("etcdctl",))
    return Membership(
        unit=UNIT,
        name=node,
        peer=_peer(spec, node),
        ready=f"{_metrics_url()}/readyz",
        data=layout.ETCD_DATA,
        marker=layout.ETCD_ANSWERED,
        once=layout.ETCD_FIRST_START,
        removed=layout.ETCD_REMOVED,
        program=etcdctl.store_path,
        trust=OPERATOR,
        own=_own_url(),
        members={member: _peer(spec, member) for member in spec.etcd_members},
        founders=spec.etcd_members,
        others=tuple(
            layout.etcd_url(spec, member) for member in spec.etcd_members if member != node
        ),
    )


def turns(spec: Cluster, node: str) -> tuple[Turn, ...]:
    """The turn of a member: one member at a time restarts, while all others are ready.

    ``/readyz`` fails for a learner, which has no vote, and succeeds for a member with an alarm,
    which is part of the quorum; ``/health`` does the opposite in both cases (etcd 3.6 and 3.7).
    """

    def health(member: str) -> str:
        return f"{layout.etcd_url(spec, member)}/readyz"

    return turn.turns(spec, node, UNIT, spec.etcd_members, health, OPERATOR)


def unit(spec: Cluster, node: str) -> Unit:
    """The service; its start may take long, since one of three members alone is not ready."""
    flags = {
        **_membership(spec, node),
        **_SECURITY,
        **_STORAGE,
        **(_EMULATED if spec.is_emulated(node) else {}),
    }
    watched = reload.files("etcd", flags)
    return Unit(
        name=UNIT,
        description="etcd",
        program=artifacts(spec, ("etcd",))[0].command.path,
        flags=flags,
        before_stop=_hand_over(spec),
        after_stop=_note_removal(spec),
        needs=watched.needs,
        reads=watched.reads,
        asserts=STARTS,
        once=layout.ETCD_FIRST_START,
        service={
            **(STARTS_AGAIN if len(spec.etcd_members) > 1 else {}),
            "User": USER,
            "Group": USER,
            "TimeoutStopSec": str(
                patience_to_stop(int(flags.get("election-timeout", DEFAULT_ELECTION)))
            ),
            "LimitNOFILE": "65536",
            "OOMScoreAdjust": "-999",
            # etcd takes precedence over everything else on the machine: a late heartbeat causes an
            # election.
            "CPUWeight": "1000",
            "NoNewPrivileges": "yes",
            "ProtectSystem": "full",
            "ProtectHome": "yes",
            "PrivateTmp": "yes",
        },
    )


def patience_to_stop(election: int) -> int:
    """The seconds that a member may need to stop; ``election`` is its election timeout in ms.

    First the member waits for its clients' calls, for 5 s and two election timeouts (``ReqTimeout``
    of etcd's server/config). It waits that long where API servers are connected, since their
    watches do not end. Only then does a leader hand over, with the same time limit. The remaining
    seconds are for the database.
    """
    call = 5 + 2 * election / 1000
    return math.ceil(2 * call + 10)


def _hand_over(spec: Cluster) -> tuple[str, ...]:
    """``ExecStop`` lines that make a leader hand over to another member; empty for a lone member.

    They run whether a step, a person or a shutdown stops the member.
    """
    if len(spec.etcd_members) == 1:
        return ()
    return (f"-{HAND_OVER.path} {_own_url()} {' '.join(OPERATOR)}",)


def _note_removal(spec: Cluster) -> tuple[str, ...]:
    """``ExecStopPost`` lines that note where the other members have removed this one.

    They run as root to read the journal: etcd reports the removal nowhere else (etcdserver's run
    loop). Empty for a lone member.
    """
    if len(spec.etcd_members) == 1:
        return ()
    return (f"-+{NOTE_REMOVAL.path} {layout.ETCD_REMOVED}",)


def founded(step: Step, founders: tuple[str, ...]) -> Step:
    """A member's step in a cluster that only these members may begin."""
    if step.membership is None:
        return step
    return replace(step, membership=replace(step.membership, founders=founders))


def _own_url() -> str:
    return f"https://127.0.0.1:{layout.ETCD_CLIENT_PORT}"


def _metrics_url() -> str:
    return f"http://127.0.0.1:{layout.ETCD_METRICS_PORT}"


def _membership(spec: Cluster, node: str) -> dict[str, str]:
    address = spec.machines[node].address
    client = f"https://{address}:{layout.ETCD_CLIENT_PORT}"
    return {
        "name": node,
        "listen-client-urls": f"{client},https://127.0.0.1:{layout.ETCD_CLIENT_PORT}",
        "advertise-client-urls": client,
        "listen-peer-urls": _peer(spec, node),
        "initial-advertise-peer-urls": _peer(spec, node),
        # Only a start without data reads this flag and the token. The list of the first members is
        # in ``layout.ETCD_FIRST_START`` for that start (``starts_once`` of member.sh), with another
        # state where the member joins a running cluster.
        "initial-cluster-state": "new",
        "initial-cluster-token": token(spec),
        "listen-metrics-urls": _metrics_url(),
        **(PATIENT if len(spec.etcd_members) > 1 else {}),
    }


def initial_cluster(spec: Cluster) -> str:
    """All members with their peer URLs, as etcd reads them where it begins a cluster."""
    return ",".join(f"{member}={_peer(spec, member)}" for member in spec.etcd_members)


def token(spec: Cluster) -> str:
    """The token from which etcd derives the IDs of the cluster and its members.

    Members refuse members with another cluster ID. The data keep the IDs with which they were
    created, so a later change of the flag does not change the IDs of a living cluster.
    """
    generation = spec.etcd.generation
    return spec.name if generation == 1 else f"{spec.name}-{generation}"


def _peer(spec: Cluster, node: str) -> str:
    return f"https://{spec.machines[node].address}:{layout.ETCD_PEER_PORT}"


_SECURITY = {
    "cert-file": layout.certificate("etcd-server"),
    "key-file": layout.private_key("etcd-server"),
    "trusted-ca-file": layout.MEMBER_AUTHORITY,
    "client-cert-auth": "true",
    "peer-cert-file": layout.certificate("etcd-peer"),
    "peer-key-file": layout.private_key("etcd-peer"),
    "peer-trusted-ca-file": layout.MEMBER_AUTHORITY,
    "peer-client-cert-auth": "true",
    "peer-cert-allowed-cn": PEER,
    "tls-min-version": tls.ETCD_MINIMUM,
    "cipher-suites": ",".join(tls.CIPHER_SUITES),
    # The gateway identifies all of its callers by the server's own certificate, not by theirs.
    "enable-grpc-gateway": "false",
}

_STORAGE = {
    "data-dir": layout.ETCD_DATA,
    "quota-backend-bytes": str(QUOTA),
    # API servers compact every five minutes; etcd's own compaction is for when none of them runs.
    "auto-compaction-mode": "periodic",
    "auto-compaction-retention": "8h",
    # etcd reuses the space of compacted revisions, but the file does not shrink. A member
    # defragments at its start, one member at a time, if that frees so many megabytes;
    # ./hardway etcd-space does it at once.
    "bootstrap-defrag-threshold-megabytes": "100",
    "feature-gates": "InitialCorruptCheck=true",
    # The notifications keep revisions of silent watches from being compacted away. An API server
    # that must know the progress of a watch requests it (KEP-2340); with an interval of five
    # seconds, the notifications for its 67 watches were three quarters of all that an idle member
    # sent.
    "watch-progress-notify-interval": "1m",
}


def _flannel(spec: Cluster) -> dict[str, str]:
    """Settings for flannel's network in etcd, and for users that limit flannel to its own keys.

    Where flannel keeps nothing in etcd, all clients are API servers or members, and etcd needs no
    users.
    """
    if spec.flannel.store != "etcd":
        return {"users": ""}
    return {
        "users": " ".join(f"{user}={role}" for user, role in ROLES.items()),
        "flannel_prefix": f"{flannel.PREFIX}/",
        "flannel_network": json.dumps(flannel.network(spec), separators=(",", ":")),
    }


_EMULATED = {
    # On emulated machines every request takes longer than etcd's thresholds of 100 and 300 ms. With
    # several log lines for each request, the journal alone took an eighth of a processor.
    "log-level": "warn",
    "warning-apply-duration": "5s",
    "warning-unary-request-duration": "5s",
}
"""Flags that reduce the log where processors are emulated."""
