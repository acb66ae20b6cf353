"""How machines reach a registry of images."""

from typing import Annotated

from pydantic import StringConstraints

from spec.part import Expected, LeftOut, Part, Text, Truth

DEFAULT = "_default"
"""The name that stands for every registry that has no entry of its own."""

Endpoint = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^https?://[^\s]+[^/\s]$"),
    Expected("a http or https URL without a slash at its end"),
]


class Registry(Part):
    """Where nodes get the images of a registry, and whom they trust with that.

    A change reaches the next pull of an image. containerd is restarted with the first entry and
    after the last one only, and Docker where mirrors or ``insecure`` change; pods live on.
    """

    mirrors: Annotated[
        tuple[Endpoint, ...], LeftOut("the registry itself; with Docker of docker.io alone")
    ] = ()
    """Servers that are asked first, in this order, and the registry after them: URLs without user,
    query and fragment. A path goes before ``/v2``; a path with ``/v2/`` in it stays as it is."""
    authority: Annotated[
        Annotated[str, Expected("certificates in PEM, as text of several lines")] | None,
        LeftOut("those that the machine's distribution trusts"),
    ] = None
    """The certificates of the authorities that the registry's and its mirrors' must come from."""
    user: Annotated[Text | None, LeftOut("nodes show no password")] = None
    """As whom nodes pull, also through mirrors, with the password that the stack's configuration
    has as a secret, beside the cluster: ``hardway:passwords`` with the registry's name. Not for
    ``_default``. A change counts within five minutes. Pods may still name Secrets of their own."""
    insecure: Truth = False
    """Whether the mirrors' certificates are not checked, and they may be ``http``; without mirrors,
    whether the registry's own is not. Whoever is on the way can then have nodes run any image."""


Name = Annotated[Text, Expected("a registry's name in quotes, such as docker.io")]
