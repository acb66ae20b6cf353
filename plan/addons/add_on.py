"""What the program knows of an add-on. Each one is a module of this package."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from certs.table import Row
from plan.condition import Condition
from plan.objects import Manifest
from spec.artifacts import artifact_rows
from spec.cluster import Cluster


@dataclass(frozen=True, kw_only=True)
class Page:
    """A Service of an add-on that people open in a browser or with another client."""

    namespace: str
    service: str
    port: int
    path: str = "/"
    """The path at which a browser begins."""
    is_https: bool = False
    at: str = ""
    """An address of the machines' network that has the port as well; empty where only the Service
    has it."""
    account: str = ""
    """The service account of the same namespace with whose token people log in; empty where the
    page has no such login."""
    password: str = ""
    """Namespace and name of the Secret whose ``password`` people log in with, under a name that
    they choose; empty where the page has no such login."""

    def url(self, address: str) -> str:
        """For a browser, where the page's port is at this address."""
        return f"{'https' if self.is_https else 'http'}://{address}{self.path}"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A Deployment or a DaemonSet of an add-on."""

    namespace: str
    selector: Mapping[str, str]
    """The labels of its pods."""


def _nothing(_spec: Cluster) -> tuple[()]:
    return ()


@dataclass(frozen=True, kw_only=True)
class AddOn:
    """A program that runs on the cluster itself, in pods, and what belongs to it.

    Its settings are the field of the same name of ``spec.description.Addons``: a truth value, or a
    model that ``true`` fills with defaults.
    """

    name: str
    """The field of ``addons`` in the spec."""
    about: str
    """What it is for: a few words that complete "it ...s"."""
    rights: Callable[[Cluster], tuple[Manifest, ...]]
    """Its service accounts, and the roles and bindings that give them rights."""
    manifests: Callable[[Cluster], tuple[Manifest, ...]]
    """All its other objects. A value that is a key or a certificate is a source of one
    (``plan.model.Source``), in base64 in the object."""
    conditions: Callable[[Cluster], Iterable[Condition]]
    """The conditions under which it works, in the order in which they come true."""
    certificates: Callable[[Cluster], tuple[Row, ...]] = _nothing
    """Those that its objects have, beside their keys; no machine holds them."""
    data: str = ""
    """What becomes of its data where it is switched off; empty where it has none."""
    pages: Callable[[Cluster], tuple[Page, ...]] = _nothing
    """The ways in which people reach it."""

    namespaces: Callable[[Cluster], tuple[str, ...]] = _nothing
    """Those of people that its objects need. Where one is missing it is made, and none is ever
    deleted."""

    @property
    def group(self) -> str:
        """The name of the file with its objects."""
        return self.name.replace("_", "-")

    @property
    def images(self) -> tuple[str, ...]:
        """The names of its images in ``spec/artifacts.yaml``."""
        return tuple(row.name for row in artifact_rows() if row.addon == self.name and row.image)

    def objects(self, spec: Cluster) -> tuple[Manifest, ...]:
        """Everything that it needs in the cluster."""
        return (*self.rights(spec), *self.manifests(spec))

    def workloads(self, spec: Cluster) -> tuple[Workload, ...]:
        """What runs its pods."""
        return tuple(
            Workload(
                namespace=manifest["metadata"]["namespace"],
                selector=manifest["spec"]["selector"]["matchLabels"],
            )
            for manifest in self.manifests(spec)
            if manifest["kind"] in ("Deployment", "DaemonSet")
        )
