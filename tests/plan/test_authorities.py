"""Authorities turn over on real control planes, under a client that reads and writes."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs.table import Authority, common_name
from plan import apiserver, controller_manager, etcd, layout
from plan.condition import TrustedAuthorities
from plan.conditions import conditions
from probe.authorities import demand_authorities
from probe.failure import Unmet
from spec.cluster import API_PORT
from tests.engine.stack import eventually
from tests.machine.lab import at_length
from tests.plan.stored import as_root
from tests.plan.turning import LONE, THREE, Client, PlanesOf, TurningPlanes

STAGES = (1, 2), (2, 1), (2,)
"""The numbers of an authority that turns over, update by update."""
APPROVED = {"type": "Approved", "status": "True", "reason": "Test", "message": "a test"}
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


def unharmed(client: Client) -> dict[str, Any]:
    """What the client counted, all of whose calls had an answer, and who lost nothing."""
    counts = client.counts()
    assert counts["failed"] == counts["lost"] == []
    return counts


def names(authority: Authority, *numbers: int) -> list[str]:
    return [common_name(authority, number) for number in sorted(numbers)]


def in_pem(text: str) -> list[str]:
    """The common names of certificates in PEM, sorted."""
    return sorted(_common_name(it.subject) for it in x509.load_pem_x509_certificates(text.encode()))


def _common_name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def issuer(planes: TurningPlanes, plane: str, port: int) -> str:
    """The common name of the authority of the certificate that a server presents."""
    address = f"{planes.spec.machines[plane].address}:{port}"
    script = f"openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509"
    pem = planes.machines[plane].call("bash", "-c", script)
    return _common_name(x509.load_pem_x509_certificate(pem.encode()).issuer)


def config_map(planes: TurningPlanes, name: str) -> dict[str, str]:
    path = f"/api/v1/namespaces/kube-system/configmaps/{name}"
    data: dict[str, str] = planes.api(planes.names[0], path)["data"]
    return data


class AskedByCondition:
    """The API as the condition asks it."""

    def __init__(self, planes: TurningPlanes) -> None:
        self._planes = planes

    async def json(self, path: str, **query: str) -> Any:
        more = "&".join(f"{key}={value}" for key, value in query.items())
        return self._planes.api(self._planes.names[0], f"{path}?{more}")


def holds(planes: TurningPlanes) -> bool:
    """Whether the condition of a ready cluster holds."""
    (check,) = (
        entry.check
        for entry in conditions(planes.spec)
        if isinstance(entry.check, TrustedAuthorities)
    )
    try:
        asyncio.run(demand_authorities(check, cast(Any, AskedByCondition(planes))))
    except Unmet:
        return False
    return True


def signed_on_request(planes: TurningPlanes, name: str) -> str:
    """The common name of the authority that signs a request in the API."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    pem = request.public_bytes(Encoding.PEM)
    body = {
        "metadata": {"name": name},
        "spec": {
            "request": b64encode(pem).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        },
    }
    sent = ("--header", "Content-Type: application/json", "--data")
    made = planes.api("c1", REQUESTS, *sent, json.dumps(body))
    made["status"] = {"conditions": [APPROVED]}
    planes.api("c1", f"{REQUESTS}/{name}/approval", "--request", "PUT", *sent, json.dumps(made))

    def certificate() -> str:
        return str(planes.api("c1", f"{REQUESTS}/{name}")["status"].get("certificate", ""))

    eventually("the request is signed", lambda: bool(certificate()))
    return _common_name(x509.load_pem_x509_certificate(b64decode(certificate())).issuer)


def leave_behind(planes: TurningPlanes) -> None:
    """An API behind the API that nobody serves, of which kubectl warns whatever it is asked."""
    spec = {
        "group": "gone.example",
        "version": "v1",
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": {"name": "gone", "namespace": "default"},
    }
    body = {"metadata": {"name": "v1.gone.example"}, "spec": spec}
    sent = ("--header", "Content-Type: application/json", "--data", json.dumps(body))
    planes.api("c1", "/apis/apiregistration.k8s.io/v1/apiservices", *sent)


def trusts(planes: TurningPlanes, *numbers: int) -> None:
    """All machines trust exactly these, and present certificates of the first."""
    for plane in planes.names:
        machine = planes.machines[plane]
        for path, authority in (
            (layout.AUTHORITY, Authority.KUBERNETES),
            (layout.ETCD_AUTHORITY, Authority.ETCD),
            (layout.MEMBER_AUTHORITY, Authority.ETCD),
            (layout.FRONT_PROXY_AUTHORITY, Authority.FRONT_PROXY),
        ):
            assert in_pem(machine.read(path)) == names(authority, *numbers)
        signing = in_pem(machine.read(layout.SIGNING_AUTHORITY))
        assert signing == names(Authority.KUBERNETES, numbers[0])
        assert machine.path(layout.AUTHORITY_KEY).stat().st_mode & 0o777 == 0o600
        ports = {Authority.KUBERNETES: API_PORT, Authority.ETCD: layout.ETCD_CLIENT_PORT}
        for authority, port in ports.items():
            assert issuer(planes, plane, port) == common_name(authority, numbers[0])


def unit_starts(planes: TurningPlanes, plane: str) -> tuple[int, ...]:
    units = (etcd.UNIT, apiserver.UNIT)
    return tuple(planes.starts(plane, unit) for unit in units)


@as_root
@pytest.mark.timeout(1800)
def test_a_lone_control_plane_gets_other_authorities_and_forgets_the_first(
    planes_of: PlanesOf, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    planes = planes_of(LONE)
    planes.serve("c1")
    leave_behind(planes)
    starts = [unit_starts(planes, "c1")]
    for number, numbers in enumerate(STAGES):
        # With what people got in the update before.
        with planes.client(tmp_path / f"client{number}") as client:
            planes.trust(*numbers)
            planes.update()
            planes.serve("c1")
            planes.apply()
            trusts(planes, *numbers)
            assert holds(planes)
        record_property(f"{numbers}", unharmed(client))
        starts.append(unit_starts(planes, "c1"))
        of_pods = config_map(planes, "kube-root-ca.crt")["ca.crt"]
        assert in_pem(of_pods) == names(Authority.KUBERNETES, *numbers)
        behind = config_map(planes, "extension-apiserver-authentication")
        assert in_pem(behind["client-ca-file"]) == names(Authority.KUBERNETES, *numbers)
        proxies = in_pem(behind["requestheader-client-ca-file"])
        assert proxies == names(Authority.FRONT_PROXY, *numbers)
        signs = signed_on_request(planes, f"request-{number}")
        assert signs == common_name(Authority.KUBERNETES, numbers[0])
    begun = [tuple(b - a for a, b in zip(*two, strict=True)) for two in pairwise(starts)]
    assert begun == [(1, 1), (0, 0), (1, 1)], "nothing restarts where only another one signs"
    # What the first one signed is worth nothing.
    machine = planes.machines["c1"]
    machine.write("/root/old.pem", (tmp_path / "client0/admin.pem").read_text(), 0o600)
    call = ("curl", "--silent", "--cacert", layout.AUTHORITY, "--cert", "/root/old.pem")
    url = f"{layout.api_server_url(planes.spec, 'c1')}/api/v1/namespaces"
    assert '"code":401' in machine.call(*call, url).replace(" ", "")


@as_root
def test_a_second_one_is_refused_where_the_controller_manager_would_not_start_with_it(
    planes_of: PlanesOf,
) -> None:
    """An earlier program had it read the one that signs from the file with all of them."""
    planes = planes_of(LONE)
    machine, unit = planes.machines["c1"], f"{layout.UNITS}/{controller_manager.UNIT}"
    ours = machine.read(unit)
    machine.write(unit, ours.replace(layout.SIGNING_AUTHORITY, layout.AUTHORITY))
    planes.trust(1, 2)
    done = machine.run(planes.identity("c1"))
    assert done.returncode != 0
    assert "would not start with two authorities: write authorities.kubernetes" in done.stderr
    assert in_pem(machine.read(layout.AUTHORITY)) == names(Authority.KUBERNETES, 1)
    machine.write(unit, ours)
    planes.update()
    assert in_pem(machine.read(layout.AUTHORITY)) == names(Authority.KUBERNETES, 1, 2)


@as_root
@at_length
@pytest.mark.timeout(5400)
def test_they_turn_over_and_back_and_go_on_from_wherever_they_were_cut_off(
    planes_of: PlanesOf, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    planes = planes_of(THREE)

    def step(name: str, *numbers: int, cut: bool = False) -> None:
        """An update, under a client with what people got in the update before."""
        with planes.client(tmp_path / name) as client:
            planes.trust(*numbers)
            if cut:
                changed = in_pem_of(planes)
                assert planes.update_until(lambda: in_pem_of(planes) != changed)
            planes.update()
            trusts(planes, *numbers)
        record_property(name, unharmed(client))

    step("trusted", 1, 2, cut=True)
    step("given up", 1)
    step("trusted again", 1, 2)
    step("signs", 2, 1, cut=True)
    step("signs no more", 1, 2)
    step("signs again", 2, 1)
    step("alone", 2, cut=True)


def in_pem_of(planes: TurningPlanes) -> list[str]:
    """What machines have of authorities, in files that come early and late."""
    paths = (layout.AUTHORITY, layout.MEMBER_AUTHORITY, layout.SIGNING_AUTHORITY)
    return [planes.machines[plane].read(path) for plane in planes.names for path in paths]
