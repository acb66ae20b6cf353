"""The forms of names that Kubernetes, DNS and certificates accept."""

import re
from ipaddress import IPv4Address

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_DNS_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
"""A last label that makes a resolver read the whole name as an address (inet_aton(3))."""
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

LONGEST_LABEL = 63
LONGEST_DNS_NAME = 253
LONGEST_MACHINE_NAME = 64 - len("system:node:")
"""A kubelet's common name is ``system:node:<name>`` and may have 64 characters (RFC 5280)."""


def is_dns_label(text: str) -> bool:
    """Whether this is a single label of a DNS name in lower case (RFC 1123)."""
    return len(text) <= LONGEST_LABEL and bool(_DNS_LABEL.fullmatch(text))


def is_dns_name(text: str) -> bool:
    """Whether this is a DNS name in lower case; an address is none (RFC 1123)."""
    labels = text.split(".")
    fits = len(text) <= LONGEST_DNS_NAME and all(len(label) <= LONGEST_LABEL for label in labels)
    return fits and bool(_DNS_NAME.fullmatch(text)) and not _NUMBER.fullmatch(labels[-1])


def is_address(text: str) -> bool:
    """Whether this is an IPv4 address."""
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def is_label_value(text: str) -> bool:
    """Whether Kubernetes accepts this as the value of a label or taint; it may be empty."""
    return text == "" or (len(text) <= LONGEST_LABEL and bool(_QUALIFIED.fullmatch(text)))


def is_qualified_name(text: str) -> bool:
    """Whether Kubernetes accepts this as the key of a label or taint, ``[prefix/]name``."""
    prefix, slash, name = text.rpartition("/")
    fits = len(name) <= LONGEST_LABEL and bool(_QUALIFIED.fullmatch(name))
    in_dns = len(prefix) <= LONGEST_DNS_NAME and bool(_DNS_NAME.fullmatch(prefix))
    return fits and (not slash or in_dns)


def as_dns_label(text: str, otherwise: str, longest: int = LONGEST_LABEL) -> str:
    """The DNS label that the text probably means, or ``otherwise`` where no character is usable."""
    kept = re.sub(r"[^a-z0-9]+", "-", text.lower())[:longest].strip("-")
    return kept or otherwise
