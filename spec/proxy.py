"""The proxy through which machines reach what is outside."""

from typing import Annotated

from pydantic import StringConstraints

from spec.part import Expected, LeftOut, Part, Text

ProxyUrl = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^https?://[^\s/?#]+$"),
    Expected("a http or https URL without a path, such as http://proxy.example.org:3128"),
]


class Proxy(Part):
    """Through whom machines download images, Debian packages and what their base image lacks.

    Backups go to a bucket through it as well. A change restarts the container runtime; pods live on
    and have no proxy by this.
    """

    http: Annotated[ProxyUrl | None, LeftOut("http is asked directly")] = None
    """Who is asked for ``http`` URLs: a URL without a user."""
    https: Annotated[ProxyUrl | None, LeftOut("https is asked directly")] = None
    """Who is asked for ``https`` URLs: a URL without a user."""
    no_proxy: tuple[Annotated[Text, Expected("a host, such as .example.org")], ...] = ()
    """What is asked directly besides the cluster's own networks and names: hosts, domains with a
    dot before them, IPv4 addresses and networks."""
