"""Translates pydantic's errors into sentences for the author of the spec."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from ipaddress import IPv4Network
from typing import Any

from pydantic import ValidationError

from spec.part import Part
from spec.refusal import Refusal, called, dotted, key_text, listed, shown
from spec.shape import Spot, follow

AS_TEXT = "pulumi config set --path makes text of it with --type string"

RETIRED = {
    ("proxy_mode", "ipvs"): "is deprecated since Kubernetes 1.35 and will be switched off",
    ("proxy_mode", "userspace"): "is gone since Kubernetes 1.26",
    ("runtime", "dockershim"): "is gone since Kubernetes 1.24",
    ("flannel.backend", "udp"): "copies every packet through a program, for old kernels only",
}
"""Values that were once valid, with the reason why they no longer are."""


def translated(model: type[Part], error: ValidationError) -> Iterator[Refusal]:
    """A refusal for each field of a model that did not parse."""
    for row in error.errors(include_url=False):
        written, here = follow(model, row["loc"])
        if written and written[-1] == "[key]":
            yield _key(written[:-2], row["input"])
        elif row["type"] == "missing":
            yield _missing(dotted(written), here)
        elif row["type"] == "extra_forbidden":
            yield _unknown(model, row["loc"][:-1], row["loc"][-1])
        elif row["type"] == "invalid_key":
            yield _unknown(model, row["loc"][:-1], row["input"])
        else:
            yield _unreadable(dotted(written), here, row["input"])


def _key(parents: tuple[Any, ...], key: Any) -> Refusal:
    field = dotted((*parents, key_text(key)))
    if parents[-1] == "host_keys":
        return Refusal(
            field,
            "is no IPv4 address",
            "it belongs to no machine",
            "write the machine's address, such as 192.168.1.10",
        )
    return Refusal(
        field,
        "is not text to YAML",
        "it is another name than it looks like",
        f"write the name in quotes, such as {shown(key_text(key))}",
    )


def _missing(field: str, here: Spot | None) -> Refusal:
    expected = here.expected if here else "it"
    return Refusal(field, "is missing", "there is nothing to go by", f"write {expected}")


def _unknown(model: type[Part], path: tuple[Any, ...], key: object) -> Refusal:
    """The refusal of a key that the model at this path does not have."""
    parents, here = follow(model, path)
    if kind := _kind_with(model, path, key):
        return Refusal(
            dotted((*parents, key)),
            f"is a key of the kind {kind}",
            f"it would have no effect with the kind {path[-1]}",
            f"leave it out, or write kind: {kind} and the keys of that kind",
        )
    known = list(here.models[0].model_fields) if here else []
    near = get_close_matches(key_text(key), known, n=1)
    # A dot in an unknown key does not separate two keys, so such a key is quoted.
    quoted = shown(key) if "." in key_text(key) else called(key)
    return Refusal(
        ".".join(filter(None, (dotted(parents), quoted))),
        "is an unknown key",
        "it would have no effect",
        f"write {near[0]}" if near else f"write {listed(known)}",
    )


def _kind_with(model: type[Part], path: tuple[Any, ...], key: object) -> str | None:
    """The kind that has the key, where the model at this path is of another kind."""
    _, around = follow(model, path[:-1])
    if not path or around is None or around.of_kind(path[-1]) is None:
        return None
    kinds = zip(around.kinds, around.models, strict=True)
    return next((kind for kind, its in kinds if key in its.model_fields), None)


def _unreadable(field: str, here: Spot | None, value: Any) -> Refusal:
    wrong = "is empty" if value is None else f"is {shown(value)}"
    if here is None:
        return Refusal(field, wrong, "it cannot be used", "write a mapping")
    if len(here.models) > 1 and isinstance(value, Mapping):
        return _of_no_kind(field, here, value)
    instead = f"write {here.expected}"
    if here.choices and isinstance(value, str) and (why := RETIRED.get((field, value))):
        return Refusal(field, f"{value} {why}", "it is not offered", instead)
    if here.choices:
        return Refusal(field, wrong, "Hardway does not know how to do it", instead)
    items = here.of_each
    is_network = here.allowed is IPv4Network or (items and items.allowed is IPv4Network)
    if is_network and (network := _network_around(value)):
        return _no_network(field, str(value), network)
    if here.allowed is str and isinstance(value, bool | int | float):
        instead += f" ({AS_TEXT})"
    return Refusal(field, wrong, "it cannot be used", instead)


def _of_no_kind(field: str, here: Spot, value: Mapping[Any, Any]) -> Refusal:
    wrong = f"is {shown(value['kind'])}" if "kind" in value else "is missing"
    return Refusal(
        f"{field}.kind", wrong, "Hardway cannot tell what is meant", f"write {listed(here.kinds)}"
    )


def _network_around(value: Any) -> IPv4Network | None:
    """The network around an address with or without a prefix length; None if it is no address."""
    if not isinstance(value, str):
        return None
    try:
        return IPv4Network(value if "/" in value else f"{value}/{_likely_prefix(value)}", False)
    except ValueError:
        return None


def _likely_prefix(address: str) -> int:
    return 16 if address.endswith(".0.0") else 24


def _no_network(field: str, value: str, network: IPv4Network) -> Refusal:
    if "/" in value:
        return Refusal(
            field,
            f"{shown(value)} has bits set to the right of its prefix",
            "it is the address of a machine and not of a network",
            f"write {network}",
        )
    return Refusal(
        field,
        f"{shown(value)} has no prefix length",
        "it is a single address and not a network",
        f"write the network with its prefix length, such as {network}",
    )
