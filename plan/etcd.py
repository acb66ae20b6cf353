"""A member of etcd, and who may do what in it."""

import json
import math

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
"""The role that etcd itself makes: it may do everything."""
ROLES = {
    # Without a password and without a certificate of this name nobody is this user; etcd wants it.
    "root": EVERYTHING,
    "kube-apiserver-etcd-client": EVERYTHING,
    "kube-etcd-healthcheck-client": EVERYTHING,
    "flannel": "flannel",
}
"""User, the common name of a client certificate, to its role."""

OPERATOR = (
    layout.MEMBER_AUTHORITY,
    layout.certificate("etcd-healthcheck-client"),
    layout.private_key("etcd-healthcheck-client"),
)
"""With which a member's machine asks etcd: authority, certificate, key."""

PATIENT = {"heartbeat-interval": "500", "election-timeout": "5000"}
"""Of several members, in milliseconds. etcd's own values are 100 and 1000; emulated machines do not
keep up with them. A lone member is late for nobody, and waits its time-out at every start."""
DEFAULT_ELECTION = "1000"
"""etcd's own election timeout, in milliseconds."""
HAND_OVER: File = program("hand-over")
NOTE_REMOVAL: File = program("note-removal")
STARTS = (
    f"AssertPathExistsGlob=|{layout.ETCD_DATA}/member/wal/*.wal",
    f"AssertPathExists=|!{layout.ETCD_ANSWERED}",
    f"AssertPathExists=|{layout.ETCD_JOINS}",
)
"""A member starts with its data, before it has ever answered, or when it joins. Without its log
etcd begins anew under its old identity (``wal.Exist`` in etcd's server): where no other member
answers that is not refused, and what it had confirmed can be gone."""
STARTS_AGAIN = {
    "ExecCondition": f"+/bin/bash -c '[ ! -e {layout.ETCD_REMOVED} ] && "
    f'{{ compgen -G "{layout.ETCD_DATA}/member/wal/*.wal" >/dev/null || '
    f"[ ! -e {layout.ETCD_ANSWERED} ] || [ -e {layout.ETCD_JOINS} ]; }}'"
}
"""Of several members: the same for a start by systemd itself after an end, when it asks no assert
(systemd 257), and that the others have not removed the member. Such a member ends at each start,
with 0 or 1 by chance, and tells systemd each time that it is ready: neither a limit of starts nor
an exit code knows it."""
QUOTA = 2 * 1024**3
"""Bytes of the database, after which it can only be read: the smallest disk has room for them."""


def step(spec: Cluster, node: str) -> Step:
    """The member of a machine, healthy among the others, with its users where it has such."""
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
        script="etcd",
        settings={
            "endpoint": f"https://127.0.0.1:{layout.ETCD_CLIENT_PORT}",
            "authority": OPERATOR[0],
            "certificate": OPERATOR[1],
            "private_key": OPERATOR[2],
            "members": " ".join(spec.etcd_members),
            **_flannel(spec),
        },
        outcome=f"etcd {spec.versions.etcd}, healthy",
    )


def membership(spec: Cluster, node: str) -> Membership:
    """What tells a member that never ran from one that has lost its data."""
    (etcdctl,) = artifacts(spec, ("etcdctl",))
    return Membership(
        unit=UNIT,
        name=node,
        peer=_peer(spec, node),
        ready=f"{_metrics_url()}/readyz",
        data=layout.ETCD_DATA,
        marker=layout.ETCD_ANSWERED,
        once=layout.ETCD_JOINS,
        removed=layout.ETCD_REMOVED,
        program=etcdctl.store_path,
        trust=OPERATOR,
        others=tuple(layout.etcd_url(spec, one) for one in spec.etcd_members if one != node),
    )


def turns(spec: Cluster, node: str) -> tuple[Turn, ...]:
    """One member at a time is restarted, while all others are well.

    ``/readyz`` is false for a learner, which has no vote, and true for a member with an alarm,
    which is part of the quorum; ``/health`` says the opposite of both (etcd 3.6 and 3.7).
    """

    def health(member: str) -> str:
        return f"{layout.etcd_url(spec, member)}/readyz"

    return turn.turns(spec, node, UNIT, spec.etcd_members, health, OPERATOR)


def unit(spec: Cluster, node: str) -> Unit:
    """The daemon. A member alone of three is not ready before another one is: it may take long."""
    flags = {
        **_membership(spec, node),
        **_SECURITY,
        **_STORAGE,
        **(_EMULATED if spec.is_emulated(node) else {}),
    }
    found = reload.files("etcd", flags)
    return Unit(
        name=UNIT,
        description="etcd",
        program=artifacts(spec, ("etcd",))[0].command.path,
        flags=flags,
        before_stop=_hand_over(spec),
        after_stop=_note_removal(spec),
        needs=found.needs,
        reads=found.reads,
        asserts=STARTS,
        once=layout.ETCD_JOINS,
        service={
            **(STARTS_AGAIN if len(spec.etcd_members) > 1 else {}),
            "User": USER,
            "Group": USER,
            "TimeoutStopSec": str(
                patience_to_stop(int(flags.get("election-timeout", DEFAULT_ELECTION)))
            ),
            "LimitNOFILE": "65536",
            "OOMScoreAdjust": "-999",
            # Before whatever else the machine does: a heartbeat that comes late is an election.
            "CPUWeight": "1000",
            "NoNewPrivileges": "yes",
            "ProtectSystem": "full",
            "ProtectHome": "yes",
            "PrivateTmp": "yes",
        },
    )


def patience_to_stop(election: int) -> int:
    """Seconds that a member needs to stop, with an election timeout in milliseconds.

    It gives its clients' calls as long as it gives any call, 5 s and two election timeouts
    (``ReqTimeout`` of etcd's server/config), and waits so long for API servers, whose watches do
    not end. Only then does a leader hand over, with the same limit. The rest is for its database.
    """
    call = 5 + 2 * election / 1000
    return math.ceil(2 * call + 10)


def _hand_over(spec: Cluster) -> tuple[str, ...]:
    """Where there is another member: whatever stops this one, a step, a person or a shutdown."""
    if len(spec.etcd_members) == 1:
        return ()
    url = f"https://127.0.0.1:{layout.ETCD_CLIENT_PORT}"
    return (f"-{HAND_OVER.path} {url} {' '.join(OPERATOR)}",)


def _note_removal(spec: Cluster) -> tuple[str, ...]:
    """As root, who reads the journal: it says so to nobody else (etcdserver's run loop)."""
    if len(spec.etcd_members) == 1:
        return ()
    return (f"-+{NOTE_REMOVAL.path} {layout.ETCD_REMOVED}",)


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
        "initial-cluster": ",".join(f"{one}={_peer(spec, one)}" for one in spec.etcd_members),
        # For a cluster that is made now; a member that has its data does not look at it again.
        # A member that joins a running cluster reads that in ``layout.ETCD_JOINS``, at one start.
        "initial-cluster-state": "new",
        "initial-cluster-token": token(spec),
        "listen-metrics-urls": _metrics_url(),
        **(PATIENT if len(spec.etcd_members) > 1 else {}),
    }


def token(spec: Cluster) -> str:
    """What the IDs of cluster and members are made of: members of another one are refused.

    Data keep the IDs that they were made with, so a living cluster's do not follow the flag.
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
    # It knows its callers by a certificate of the server's own, not by theirs.
    "enable-grpc-gateway": "false",
}

_STORAGE = {
    "data-dir": layout.ETCD_DATA,
    "quota-backend-bytes": str(QUOTA),
    # The API server compacts every five minutes; this is for when none of them runs.
    "auto-compaction-mode": "periodic",
    "auto-compaction-retention": "8h",
    # What was compacted is used again, but the file does not shrink. A member puts that right when
    # it starts, one at a time, if that frees so much; ./hardway etcd-space does it at once.
    "bootstrap-defrag-threshold-megabytes": "100",
    "feature-gates": "InitialCorruptCheck=true",
    # Keeps the revisions of silent watches from being compacted away. An API server that must know
    # how far a watch is asks by itself (KEP-2340); five seconds for its 67 watches were three
    # quarters of all that an idle member sent.
    "watch-progress-notify-interval": "1m",
}


def _flannel(spec: Cluster) -> dict[str, str]:
    """What flannel finds in etcd, and users so that its certificate opens no other keys.

    Where it keeps nothing there, all clients are API servers or members, and there are no users.
    """
    if spec.flannel.store != "etcd":
        return {"users": ""}
    return {
        "users": " ".join(f"{user}={role}" for user, role in ROLES.items()),
        "flannel_prefix": f"{flannel.PREFIX}/",
        "flannel_network": json.dumps(flannel.network(spec), separators=(",", ":")),
    }


_EMULATED = {
    # There everything takes longer than etcd's 100 and 300 ms. With several lines for each request
    # the journal alone took an eighth of a processor from the members that it wrote about.
    "log-level": "warn",
    "warning-apply-duration": "5s",
    "warning-unary-request-duration": "5s",
}
"""What is not written down where processors are emulated."""
