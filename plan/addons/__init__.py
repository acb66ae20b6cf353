"""Objects of the cluster itself: access rights and add-ons, created once for all machines."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import yaml

from certs.table import ADMINS
from plan import layout, node_objects, objects, roll
from plan.addons import namespaces
from plan.addons.catalogue import enabled
from plan.declared import STEP, DeclaredObject
from plan.item import AS_KEPT
from plan.model import (
    Certificate,
    Directory,
    File,
    Filled,
    PrivateKey,
    SecretFile,
    Source,
    Step,
)
from plan.objects import Manifest
from plan.rbac import READ, binding, granted, group, rule, service_account, user
from spec.cluster import Cluster
from spec.refusal import listed

FOLDER = f"{layout.KUBERNETES}/addons"
NODES = f"{FOLDER}/nodes.yaml"

ADMIN = "super-admin"
"""The name of the certificate with which the objects are created."""
CERTIFICATE, PRIVATE_KEY = f"/run/hardway/{ADMIN}.crt", f"/run/hardway/{ADMIN}.key"
"""The paths of this certificate and its key. Both files are in memory, and ``admin.sh`` opens and
deletes them before it uses them."""

RECORD: Manifest = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "hardway-objects", "namespace": "kube-system"},
}
"""The object that lists the paths of all objects that the program has made in the API. An object
that is listed and no longer wanted is deleted (``scripts/add-ons.sh``)."""

LABELS = {"app.kubernetes.io/managed-by": "hardway"}
"""Labels of every object."""


def directory() -> Directory:
    """The directory of the manifests on the first control plane."""
    return Directory(path=FOLDER, mode=0o700)


def files(spec: Cluster) -> tuple[File, ...]:
    """The manifests as files of the first control plane, for people and for ``apply``."""
    return (*_files(wanted(spec)), _nodes(spec))


def apply(spec: Cluster) -> Step:
    """The step that brings the cluster's objects to the state in ``files``, with unlimited rights.

    The step also drains and removes nodes that the spec no longer names, so it runs before their
    machines are deleted. It needs only the API. Its data contain a digest of the manifests, so
    changed manifests make the step run again.
    """
    groups = wanted(spec)
    manifests, filled = _files(groups), tuple(map(_filled, _with_keys(groups)))
    text = "".join(file.content for file in manifests)
    return Step(
        name=STEP,
        admin=True,
        alone=False,
        secret_files=(*_ADMIN, *(file for _, file in filled)),
        script="add-ons",
        settings={
            **_api(spec),
            "manifests": " ".join(file.path for file in manifests),
            # A line for each: the object's path in the API, and the path of its file.
            "filled": "\n".join(f"{path} {file.path}" for path, file in filled),
            "recorded": objects.path(RECORD),
            "digest": hashlib.sha256(text.encode()).hexdigest(),
            "nodes": " ".join(spec.nodes),
            "namespaces": " ".join(_namespaces(spec)),
            **_authorities(spec),
        },
    )


def _authorities(spec: Cluster) -> dict[str, str]:
    """What the API must say of authorities that turn over, and the numbers of those trusted."""
    if spec.authorities is None:
        return {}
    rows = (
        ("kubernetes", spec.authorities.kubernetes),
        ("front proxy", spec.authorities.front_proxy),
    )
    return {
        "trusted": ", ".join(f"{name} {listed(sorted(row), 'and')}" for name, row in rows),
        "front_proxy": layout.FRONT_PROXY_AUTHORITY,
    }


def _namespaces(spec: Cluster) -> list[str]:
    """The namespaces of people that add-ons' objects need."""
    return sorted({name for add_on in enabled(spec) for name in add_on.namespaces(spec)})


def declared(spec: Cluster) -> tuple[DeclaredObject, ...]:
    """The objects as ``apply`` leaves them in the API, the record of them last."""
    groups = wanted(spec)
    every = [
        *(row for _, manifests in sorted(groups.items()) for row in _readable(manifests)),
        *_with_keys(groups),
    ]
    paths = "".join(f"{objects.path(manifest)}\n" for manifest in every)
    record = _labelled({**RECORD, "data": {"objects": paths}})
    return tuple(
        DeclaredObject(path=objects.path(row), manifest=_replaced(row, lambda _: AS_KEPT))
        for row in (*every, record)
    )


def nodes(spec: Cluster) -> Step:
    """The step that gives nodes the spec's labels and taints, once all of them are registered."""
    return Step(
        name="add-ons-nodes",
        admin=True,
        alone=False,
        secret_files=_ADMIN,
        script="nodes",
        settings={
            **_api(spec),
            "record": NODES,
            "recorded": objects.path(node_objects.record(spec)),
            "given": node_objects.text(spec),
        },
    )


_ADMIN = (
    SecretFile(path=PRIVATE_KEY, source=PrivateKey(ADMIN)),
    SecretFile(path=CERTIFICATE, source=Certificate(ADMIN)),
)


def _api(spec: Cluster) -> dict[str, str]:
    """The API's address and the admin's credentials, as variables of the scripts."""
    return {
        "api": layout.local_api_url(spec, spec.control_planes[0]),
        "authority": layout.AUTHORITY,
        "admin_certificate": CERTIFICATE,
        "admin_key": PRIVATE_KEY,
    }


def wanted(spec: Cluster) -> Mapping[str, tuple[Manifest, ...]]:
    """The objects that must exist, by the name of their file."""
    of_add_ons = {
        add_on.group: tuple(_started_anew(row, spec) for row in add_on.objects(spec))
        for add_on in enabled(spec)
    }
    used = {
        manifest["metadata"].get("namespace")
        for manifests in of_add_ons.values()
        for manifest in manifests
    }
    return {
        # Before all others, whose namespaces are among it.
        "access": (*_access(), *_service_accounts(), *namespaces.manifests(used)),
        "rollout": roll.tickets(spec),
        **of_add_ons,
        **({"flannel": _flannel()} if spec.flannel.store == "kubernetes" else {}),
    }


def defined(spec: Cluster) -> frozenset[str]:
    """The kinds of objects that add-ons add to the API, such as ``gateways.example.org``."""
    return frozenset(
        manifest["metadata"]["name"]
        for manifests in wanted(spec).values()
        for manifest in manifests
        if manifest["kind"] == "CustomResourceDefinition"
    )


def _started_anew(manifest: Manifest, spec: Cluster) -> Manifest:
    """A workload whose pods start anew where other authorities are to be trusted.

    Programs read the authorities of the API once, at their start; client-go does so before 0.36.
    """
    trusted = sorted(spec.authority_numbers.kubernetes)
    of_pods = manifest.get("spec", {}).get("template", {})
    if trusted == [1] or not _has_authorities(of_pods.get("spec", {})):
        return manifest
    metadata = of_pods["metadata"]
    note = {"hardway/authorities": " ".join(map(str, trusted))}
    annotations = {**metadata.get("annotations", {}), **note}
    template = {**of_pods, "metadata": {**metadata, "annotations": annotations}}
    return {**manifest, "spec": {**manifest["spec"], "template": template}}


def _has_authorities(pod: Manifest) -> bool:
    """Whether a pod has the file with the API's authorities, with or without a token."""
    return pod.get("automountServiceAccountToken") or "kube-root-ca.crt" in str(pod.get("volumes"))


# -- access --------------------------------------------------------------------------------------


def _access() -> tuple[Manifest, ...]:
    return (
        binding("hardway:cluster-admins", "cluster-admin", group(ADMINS)),
        # The API server's client certificate has no organization since 1.37 (kubernetes#138957).
        binding(
            "hardway:kubelet-api-admin",
            "system:kubelet-api-admin",
            user("kube-apiserver-kubelet-client"),
        ),
    )


def _service_accounts() -> tuple[Manifest, ...]:
    """The default accounts, which give no token to pods that name no account (CIS 5.1.5)."""
    namespaces = ("default", "kube-node-lease", "kube-public", "kube-system")
    return tuple(
        service_account({"name": "default", "namespace": namespace}) for namespace in namespaces
    )


def _flannel() -> tuple[Manifest, ...]:
    """The rights that flanneld needs where Kubernetes is its store.

    The source is flannel's Documentation/kube-flannel.yml.
    """
    name = "hardway:flannel"
    rules = [rule("", ["nodes"], READ), rule("", ["nodes/status"], ["patch"])]
    return granted(user("system:flannel"), name, rules)


# -- files -----------------------------------------------------------------------------------------


def _files(groups: Mapping[str, tuple[Manifest, ...]]) -> tuple[File, ...]:
    """A file for each group, with those of its objects that have no keys."""
    return tuple(
        File(
            path=f"{FOLDER}/{name}.yaml",
            content=_documents(_readable(manifests)),
        )
        for name, manifests in sorted(groups.items())
    )


def _readable(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Those without keys: namespaces first, sorted by kind, namespace and name."""
    return sorted((_labelled(row) for row in manifests if not _marked(row)[1]), key=_identity)


def _with_keys(groups: Mapping[str, tuple[Manifest, ...]]) -> Iterator[Manifest]:
    """The objects among whose values are keys or certificates."""
    for _, manifests in sorted(groups.items()):
        yield from (_labelled(row) for row in manifests if _marked(row)[1])


def _filled(manifest: Manifest) -> tuple[str, SecretFile]:
    """The path of such an object in the API, and the file with it, which is in memory."""
    marked, values = _marked(manifest)
    name = f"{manifest['kind'].lower()}-{manifest['metadata']['name']}"
    template = json.dumps(marked, sort_keys=True)
    source = Filled(template=template, values=tuple(values.items()))
    return objects.path(manifest), SecretFile(path=f"/run/hardway/{name}.json", source=source)


def _marked(manifest: Manifest) -> tuple[Any, dict[str, Source]]:
    """The object with a mark for each value that is a key or a certificate, and these values."""
    values: dict[str, Source] = {}

    def mark(source: Source) -> str:
        name = f"<{len(values)}>"
        values[name] = source
        return name

    return _replaced(manifest, mark), values


def _replaced(value: Any, by: Callable[[Source], str]) -> Any:
    """A value with another one in the place of each key and certificate in it."""
    if isinstance(value, Mapping):
        return {key: _replaced(item, by) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, by) for item in value]
    return by(value) if isinstance(value, Source) else value


def _nodes(spec: Cluster) -> File:
    """The manifest of the record of what the spec gives to nodes; people can read it, too."""
    return File(path=NODES, content=_documents([_labelled(node_objects.record(spec))]))


def _documents(manifests: Iterable[Manifest]) -> str:
    """The manifests as YAML documents.

    A comment above each document has the object's path in the API, which ``admin.sh`` uses to apply
    the object.
    """
    return "".join(
        f"---\n# {objects.path(manifest)}\n{yaml.dump(manifest, Dumper=_Plain, sort_keys=True)}"
        for manifest in manifests
    )


class _Plain(yaml.SafeDumper):
    """Writes YAML for people: without aliases, and with line breaks as line breaks."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Plain.add_representer(str, _Plain.represent_str)


def _labelled(manifest: Manifest) -> Manifest:
    metadata = manifest["metadata"]
    return {
        **manifest,
        "metadata": {**metadata, "labels": {**metadata.get("labels", {}), **LABELS}},
    }


def _identity(manifest: Manifest) -> tuple[bool, str, str, str]:
    kind, metadata = manifest["kind"], manifest["metadata"]
    return kind != "Namespace", kind, metadata.get("namespace", ""), metadata["name"]
