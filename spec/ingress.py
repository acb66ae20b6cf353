"""The way into the cluster by http and https that the add-on ``ingress`` is."""

from typing import Annotated

from spec.part import Address, Expected, LeftOut, Part, Port, Text, Truth

HTTP_PORT, HTTPS_PORT = 80, 443
"""The ports at which the cluster answers: of a load balancer's address, or of each node."""


class DefaultBackend(Part):
    """The Service that answers what no Ingress wants."""

    namespace: Text
    """Its namespace."""
    service: Text
    """Its name."""
    port: Annotated[Port, Expected("a port from 1 to 65535")]
    """Its port, by number, at which it answers by http."""


class Ingress(Part):
    """Leads requests by http and https to Services, as objects of the kind Ingress say.

    Traefik does it, as the class `traefik`, which an Ingress has that names none.
    """

    certificate_names: tuple[Text, ...] = ()
    """DNS names, such as `shop.example.org` or `*.example.org`, for which its own certificate is,
    of the cluster's authority; it is also for ``address``, or on nodes' ports for the addresses of
    nodes that are no control planes. An Ingress may name a Secret with another certificate."""
    address: Annotated[Address | None, LeftOut("any of them")] = None
    """The address at which it answers, of ``addons.load_balancer.addresses``: only with that."""
    namespaces: Annotated[tuple[Text, ...], LeftOut("all")] = ()
    """The only namespaces whose Ingresses, Services and Secrets it has the right to read, with
    ``gateway`` also their routes and ConfigMaps. One that is missing is made; none is deleted."""
    default_backend: Annotated[DefaultBackend | None, LeftOut("404")] = None
    """Who answers what no Ingress wants."""
    gateway: Truth = False
    """Whether objects of the Gateway API, such as HTTPRoutes, lead requests as well: the API then
    knows its kinds, and the Gateway `traefik` of the namespace `hardway-gateway` takes routes of
    all namespaces, by http and https. Switched off, these kinds go, with all objects of them."""
