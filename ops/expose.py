"""The commands ``expose`` and ``open``: this computer's programs reach a Service of the cluster."""

import asyncio
import json
import os
import sys
import threading
import webbrowser
from base64 import b64decode
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lab import forwarder, namespace
from lab.paths import LabPaths, lab_paths
from lab.problem import Problem
from lab.process import output, run
from ops.display import option_of, progress, stdout
from ops.reach import Reached, opened
from ops.stacks import StackOption
from plan.addons.add_on import AddOn, Page
from plan.addons.catalogue import ADD_ONS, enabled
from probe.api import Api, ApiError
from spec.cluster import Cluster

SHIFT = 8000
"""Is added to a Service's port below 1024 for the first port to try on this computer."""

TOKEN_HOURS = 8
"""A token for a page's login ends after them: a working day."""

T = TypeVar("T")

Name = Annotated[str, typer.Argument(help="The Service's name.")]
Port = Annotated[
    str | None, typer.Argument(help="Its port, a number or a name; needed where it has several.")
]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", "-n", help="The Service's namespace in the cluster.")
]
OpenedNamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="The Service's namespace in the cluster, else default."),
]


def register(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command(rich_help_panel="A cluster")(expose)
    app.command("open", rich_help_panel="A cluster")(open_)


def expose(
    service: Name,
    port: Port = None,
    namespace: NamespaceOption = "default",
    stop: Annotated[bool, typer.Option("--stop", help="End what this command began.")] = False,
    stack: StackOption = "dev",
) -> None:
    """Make a port of a Service a port of this computer, until `down` or `--stop`.

    It listens on 127.0.0.1 only, has the same port each time where that is free, and leads to the
    Service's load balancer address, its node port or its cluster address, whichever it has first.
    Where this computer reaches the machines itself, it only says at which address.
    Run it again where the node that it leads through is gone. `./hardway status` lists what leads
    where. Only TCP.

    Examples: `./hardway expose web`, `./hardway expose kube-dns metrics --namespace kube-system`,
    `./hardway expose web --stop`, and `./hardway expose web 80 --stop` for one port of several
    """
    if stop:
        _stop(stack, namespace, service, port)
        return
    way = _exposed(stack, namespace, service, port)
    stdout.print(f"{namespace}/{service}: {way.address}", highlight=False)


def open_(
    service: Annotated[str, typer.Argument(help="An add-on's name, or the Service's.")],
    port: Port = None,
    namespace: OpenedNamespaceOption = None,
    print_only: Annotated[
        bool,
        typer.Option("--print", help="Print the URL, and what logs in there; open nothing."),
    ] = False,
    stack: StackOption = "dev",
) -> None:
    """Open an add-on or a Service in the browser: `expose`, and then its URL.

    A name of an add-on counts before that of a Service, unless a port or a namespace is named.
    Where there is no screen the URL is only printed. Where the page has a login, a token for it,
    good for eight hours, or the password is a line of its own: on a terminal, or with `--print`.

    Examples: `./hardway open web`, `./hardway open grafana https --namespace monitoring --print`
    """
    add_on = None if port or namespace else ADD_ONS.get(service.replace("-", "_"))
    if add_on:
        reached = opened(stack)
        page = _page(stack, reached.spec, add_on)
        url = page_url(stack, page)
        print(url)
        if page.account or page.password:
            _print_login(reached, service, page, is_asked=print_only)
    else:
        url = _exposed(stack, namespace or "default", service, port).url
        print(url)
    has_screen = sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if has_screen and not print_only and not webbrowser.open(url):
        progress().say("no browser starts here, so open the URL yourself")


def _print_login(reached: Reached, add_on: str, page: Page, *, is_asked: bool) -> None:
    """Print what logs in to an add-on's page, but unasked into no pipe and no file.

    The browser is not given it: what a URL or a command line has, others see and histories keep.
    """
    if page.account:
        kind, ask = "token", page_token
        hint = f"log in with this token, which is good for {TOKEN_HOURS} hours"
    else:
        kind, ask = "password", page_password
        hint = "log in with this password, under a name of your choice"
    if is_asked or _is_terminal():
        print(ask(reached, page))
        progress().say(hint)
    else:
        progress().say(
            f"the page asks for a {kind}, which "
            f"./hardway open{option_of(reached.stack.name)} {add_on} --print prints"
        )


def _is_terminal() -> bool:
    return sys.stdout.isatty()


# -- pages of add-ons ------------------------------------------------------------------------------


def page_url(stack: str, page: Page) -> str:
    """The URL at which this computer's browser reaches a page, from now on until ``down``."""
    if page.at:
        to = ServicePort(port=page.port, is_https=page.is_https, host=page.at, target=page.port)
        reached = opened(stack)
        entered = _entered(lab_paths(), reached)
        exposed = _led(reached, entered, page.namespace, page.service, to)
    else:
        exposed = _exposed(stack, page.namespace, page.service, str(page.port))
    return page.url(exposed.address)


def page_token(reached: Reached, page: Page) -> str:
    """A new token of a page's account, which the API takes for ``TOKEN_HOURS``.

    Raises a Problem where the API makes none.
    """
    path = f"/api/v1/namespaces/{page.namespace}/serviceaccounts/{page.account}/token"
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": TOKEN_HOURS * 3600},
    }
    answer = _answered(
        reached, _entered(lab_paths(), reached), lambda api: api.created(path, asked)
    )
    return str(answer["status"]["token"])


def page_password(reached: Reached, page: Page) -> str:
    """The password of a page, as its Secret in the cluster has it.

    Raises a Problem where the API does not give it.
    """
    namespace_name, _, name = page.password.partition("/")
    path = f"/api/v1/namespaces/{namespace_name}/secrets/{name}"
    answer = _answered(reached, _entered(lab_paths(), reached), lambda api: api.json(path))
    return b64decode(answer["data"]["password"]).decode()


def page_forwarder(stack: str, page: Page) -> str:
    """The name of the forwarder to a page."""
    return _forwarder(stack, page.namespace, page.service, page.port)


def _page(stack: str, spec: Cluster, add_on: AddOn) -> Page:
    """The add-on's first page. Raises a Problem where it is off or has none."""
    if add_on not in enabled(spec):
        raise Problem(
            f"the add-on {add_on.name} is off",
            f"write {add_on.name}: true under addons in Pulumi.{stack}.yaml, and run "
            f"./hardway up{option_of(stack)}",
        )
    if not (pages := add_on.pages(spec)):
        raise Problem(
            f"the add-on {add_on.name} has no page to open",
            f"see ./hardway addons{option_of(stack)}; a Service of that name is opened with its "
            "--namespace",
        )
    return pages[0]


# -- which address ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ServicePort:
    """A TCP port of a Service, and where connections to it go from the machines' network."""

    port: int
    is_https: bool
    host: str
    """An address of the Service or of a node."""
    target: int
    """The port at that address."""
    through: str = ""
    """The address of the node behind which ``host`` is, where only nodes know ``host``."""


def service_port(
    service: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]],
    wanted: str | None,
    *,
    near: Collection[str] = (),
) -> ServicePort:
    """The port of a Service with this number or name, or its only one.

    ``service`` and ``nodes`` are objects of the API, and ``near`` are the nodes that run the
    Service's pods. Raises a Problem with one sentence for a
    Service that cannot be reached so.
    """
    name = service["metadata"]["name"]
    spec = service["spec"]
    ports = [port for port in spec.get("ports", ()) if port.get("protocol", "TCP") == "TCP"]
    chosen = [
        port for port in ports if wanted is None or wanted in (str(port["port"]), port.get("name"))
    ]
    if len(chosen) != 1:
        listed = ", ".join(
            f"{port['port']} ({port['name']})" if port.get("name") else str(port["port"])
            for port in ports
        )
        what = "several TCP ports" if len(chosen) > 1 else f"no TCP port {wanted or ''}".strip()
        raise Problem(
            f"the Service {name} has {what}",
            f"name one of its ports: {listed}" if listed else "expose another Service",
        )
    (port,) = chosen
    number = int(port["port"])
    is_https = number in (443, 8443) or str(
        port.get("appProtocol") or port.get("name") or ""
    ).endswith("https")
    balanced = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    for ingress in balanced:
        if "ip" in ingress:
            return ServicePort(port=number, is_https=is_https, host=ingress["ip"], target=number)
    # There the address of who asks is still its own, as network policies of the pods expect.
    node = _node_address(sorted(nodes, key=lambda node: node["metadata"]["name"] not in near))
    if "nodePort" in port:
        return ServicePort(port=number, is_https=is_https, host=node, target=int(port["nodePort"]))
    address = spec.get("clusterIP") or "None"
    if address == "None":
        raise Problem(
            f"the Service {name} has no address of its own",
            "use kubectl port-forward with one of its pods",
        )
    return ServicePort(port=number, is_https=is_https, host=address, target=number, through=node)


def _node_address(nodes: Sequence[Mapping[str, Any]]) -> str:
    """The address of the first node that is ready. Raises a Problem where none is."""
    for node in nodes:
        status = node["status"]
        conditions = {row["type"]: row["status"] for row in status.get("conditions", ())}
        addresses = {row["type"]: row["address"] for row in status.get("addresses", ())}
        if conditions.get("Ready") == "True" and "InternalIP" in addresses:
            return str(addresses["InternalIP"])
    raise Problem("no node is ready", "see ./hardway validate")


# -- the way there ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """Where programs of this computer reach a Service."""

    host: str
    port: int
    is_https: bool

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """For a browser."""
        return f"{'https' if self.is_https else 'http'}://{self.address}/"


def _exposed(stack: str, namespace_name: str, service: str, port: str | None) -> Exposed:
    reached = opened(stack)
    entered = _entered(lab_paths(), reached)
    to = _asked(reached, entered, namespace_name, service, port)
    return _led(reached, entered, namespace_name, service, to)


def _led(
    reached: Reached, entered: Path | None, namespace_name: str, service: str, to: ServicePort
) -> Exposed:
    """Lead a port of this computer to a Service's port, where this computer does not reach it."""
    paths = lab_paths()
    if entered is None:
        if to.through:
            raise Problem(
                f"only the cluster's own machines reach the Service {service}",
                "give it the type NodePort, or use kubectl port-forward",
            )
        return Exposed(host=to.host, port=to.target, is_https=to.is_https)
    if to.through:
        _routed(paths, to.host, to.through, reached)
    way_in = forwarder.start(
        paths,
        _forwarder(reached.stack.name, namespace_name, service, to.port),
        to.host,
        to.target,
        first=to.port if to.port >= 1024 else SHIFT + to.port,
    )
    return Exposed(host=forwarder.LOOPBACK, port=way_in.port, is_https=to.is_https)


def _entered(paths: LabPaths, reached: Reached) -> Path | None:
    """The network namespace in which the API answers; None where it answers here."""
    is_inside = forwarder.is_needed(paths, reached.stack)
    return namespace.namespace_path(paths) if is_inside else None


def _forwarder(stack: str, namespace_name: str, service: str, port: int) -> str:
    return forwarder.of_service(stack, f"{namespace_name}.{service}.{port}")


def _routed(paths: LabPaths, address: str, node: str, reached: Reached) -> None:
    """Route a Service's address through a node, whose kube-proxy knows it.

    Raises a Problem where the address leads to another cluster of the lab.
    """
    route = ["ip", "-n", paths.namespace, "-json", "route", "show", f"{address}/32"]
    for row in json.loads(output(route) or "[]"):
        if reached.spec.networks.subnet_of(IPv4Address(row["gateway"])) is None:
            raise Problem(
                f"{address} leads to a Service of another stack of this lab",
                "end that one with ./hardway expose --stop, or give this one the type NodePort",
            )
    run(
        ["ip", "-n", paths.namespace, "route", "replace", f"{address}/32", "via", node],
        log=paths.logs / "namespace.log",
        timeout=30,
        failure="the kernel refuses a route of the lab's network namespace",
    )


def _stop(stack: str, namespace_name: str, service: str, port: str | None) -> None:
    paths = lab_paths()
    whole = f"{namespace_name}/{service}"
    ports = exposed_ports(forwarder.of_stack(paths, stack), stack, namespace_name, service)
    if port is not None and not port.isdecimal():
        # Forwarders are named by numbers, and a person may have named the port.
        reached = opened(stack)
        entered = _entered(paths, reached)
        port = str(_asked(reached, entered, namespace_name, service, port).port)
    if port is not None and port not in ports:
        listed = ", ".join(ports)
        raise Problem(
            f"port {port} of {whole} is not exposed",
            f"name one that is, by its number: {listed}" if ports else "see ./hardway status",
        )
    forwarder.stop(paths, [ports[port]] if port else ports.values())
    state = "is no longer exposed" if ports else "was not exposed, so nothing was changed"
    progress().say(f"{whole}{f' port {port}' if port else ''} {state}")


def exposed_ports(
    forwarders: Iterable[str], stack: str, namespace_name: str, service: str
) -> dict[str, str]:
    """Each port of a Service that a forwarder leads to, and the forwarder's name."""
    beginning = forwarder.of_service(stack, f"{namespace_name}.{service}.")
    return {name.removeprefix(beginning): name for name in forwarders if name.startswith(beginning)}


def _asked(
    reached: Reached, entered: Path | None, namespace_name: str, service: str, port: str | None
) -> ServicePort:
    """A Service's port, as the API has it; asked from a network namespace, if any.

    Raises a Problem where the API gives no answer, or there is no such Service.
    """

    async def whole(api: Api) -> tuple[dict[str, Any], ...]:
        namespaced = f"namespaces/{namespace_name}"
        return (
            await api.json(f"/api/v1/{namespaced}/services"),
            await api.json("/api/v1/nodes"),
            await api.json(
                f"/apis/discovery.k8s.io/v1/{namespaced}/endpointslices",
                labelSelector=f"kubernetes.io/service-name={service}",
            ),
        )

    services, nodes, slices = _answered(reached, entered, whole)
    named = [row for row in services["items"] if row["metadata"]["name"] == service]
    if not named:
        listed = ", ".join(row["metadata"]["name"] for row in services["items"]) or "none"
        raise Problem(
            f"the namespace {namespace_name} has no Service {service} (it has {listed})",
            f"name another one, or its namespace: ./hardway kubectl{option_of(reached.stack.name)} "
            "get services --all-namespaces",
        )
    near = {
        endpoint.get("nodeName", "")
        for row in slices["items"]
        for endpoint in row.get("endpoints") or ()
    }
    return service_port(named[0], nodes["items"], port, near=near)


def _answered(reached: Reached, entered: Path | None, ask: Callable[[Api], Awaitable[T]]) -> T:
    """What the API answers, asked from a network namespace, if any.

    Raises a Problem where it gives no answer.
    """
    answers: list[T] = []
    refused: list[ApiError | OSError] = []

    async def whole() -> None:
        async with Api(reached.kubeconfig) as api:
            answers.append(await ask(api))

    def within() -> None:
        try:
            # Only this thread enters the namespace: a forwarder has to begin outside of it.
            namespace.enter(entered)
            asyncio.run(whole())
        except (ApiError, OSError) as error:
            refused.append(error)

    thread = threading.Thread(target=within)
    thread.start()
    thread.join()
    if refused:
        raise Problem(str(refused[0]), "see ./hardway validate")
    return answers[0]
