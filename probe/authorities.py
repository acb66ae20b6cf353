"""Checks which authorities pods, and programs behind the API, are told to trust."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from plan.condition import TrustedAuthorities
from probe.api import Api
from probe.failure import demand
from spec.refusal import listed

OF_PODS, BEHIND = "kube-root-ca.crt", "extension-apiserver-authentication"
"""The ConfigMaps that say it: of each namespace to its pods, and to programs behind the API."""


async def demand_authorities(check: TrustedAuthorities, api: Api) -> None:
    """Raises Unmet where one of the objects names other authorities; ApiError without an answer."""
    namespaces, behind = await asyncio.gather(
        api.json("/api/v1/configmaps", fieldSelector=f"metadata.name={OF_PODS}"),
        api.json(f"/api/v1/namespaces/kube-system/configmaps/{BEHIND}"),
    )
    demand([*_of_pods(check, namespaces["items"]), *_behind(check, behind)])


def _of_pods(check: TrustedAuthorities, items: list[Mapping[str, Any]]) -> Iterator[str]:
    for item in items:
        if wrong := _wrong(item, "ca.crt", check.kubernetes):
            yield f"pods of {item['metadata']['namespace']} {wrong}"


def _behind(check: TrustedAuthorities, item: Mapping[str, Any]) -> Iterator[str]:
    for key, names in (
        ("client-ca-file", check.kubernetes),
        ("requestheader-client-ca-file", check.front_proxy),
    ):
        if wrong := _wrong(item, key, names):
            yield (
                f"programs behind the API {wrong} (API servers make that anew after ./hardway "
                f"kubectl --namespace kube-system delete configmap {BEHIND})"
            )


def _wrong(item: Mapping[str, Any], key: str, names: tuple[str, ...]) -> str:
    """How the certificates of an object differ from these; empty where they do not."""
    text = item.get("data", {}).get(key, "")
    try:
        there = {_name(certificate) for certificate in _certificates(text)}
    except ValueError:
        return "get what is no certificate"
    if there == {*names}:
        return ""
    trusted = f"trust {listed(sorted(there), 'and')}" if there else "trust no authority"
    return f"{trusted} and not {listed(names, 'and')}"


def _certificates(text: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(text.encode()) if "-----BEGIN" in text else []


def _name(certificate: x509.Certificate) -> str:
    """The common name, or the whole subject of a certificate that has none or several."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) == 1:
        return str(names[0].value)
    return certificate.subject.rfc4514_string() or "an authority without a name"
