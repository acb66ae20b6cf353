"""kubeadm, and the container images that it needs, made from programs in the artifact store.

Only ``bench`` uses this module, to compare a cluster made by kubeadm with one made by this project.
Both clusters run the same programs, so that only the way of setting them up differs.
"""

import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import oci
from lab.architecture import architecture
from lab.artifacts import obtain
from lab.cache import Cache, Receipt, digest_of
from lab.debian_root import debian_root
from lab.problem import Problem, full_disk_told
from lab.process import output
from lab.progress import Progress
from plan import runtime
from spec.artifacts import artifact_row
from spec.cluster import Cluster
from spec.versions import Versions

NAME = "kubeadm"

PROXY = "kube-proxy"
PROXY_TOOLS = ("iptables", "nftables")
"""The Debian packages whose programs kube-proxy calls; all other images hold only one program."""

FOLDER = "/usr/local/bin/"
"""The folder of an image's program: kube-proxy's manifest names it, and PATH contains it."""

UNREAD = ("usr/share/", "var/")
"""Folders of packages that no program in a container reads."""


@dataclass(frozen=True)
class KubeadmImage:
    """An image archive in the store, with the name that kubeadm gives the image."""

    reference: str
    digest: str

    @property
    def name(self) -> str:
        """The name of the image's program."""
        return program_of(self.reference)


@dataclass(frozen=True)
class Kubeadm:
    """The files that a cluster made by kubeadm needs in addition to the base image."""

    digest: str
    """The sha256 of the program kubeadm."""
    images: tuple[KubeadmImage, ...]

    def reference(self, name: str) -> str:
        """The full name of the image of this program. Raises KeyError."""
        return {image.name: image.reference for image in self.images}[name]


def cluster_configuration(versions: Versions) -> dict[str, Any]:
    """The configuration for kubeadm, with the versions of the store's programs."""
    return {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "kubernetesVersion": f"v{versions.kubernetes}",
        "dns": {"imageTag": f"v{versions.coredns}"},
        "etcd": {"local": {"imageTag": f"{versions.etcd}-0"}},
    }


def program_of(reference: str) -> str:
    """The name of an image's program: the last part of the image's name."""
    return reference.rpartition("/")[2].partition(":")[0]


def kubeadm(spec: Cluster, cache: Cache, progress: Progress, logs: Path) -> Kubeadm:
    """The program kubeadm in the cluster's version and its images, from the cache or else made.

    Raises a Problem where there is no source for kubeadm, or where kubeadm needs an image for which
    the store has no program.
    """
    versions = spec.versions
    program = obtain(NAME, versions.kubernetes, cache, progress, logs)
    with cache.work() as scratch:
        wanted = references(cache.blob(program.files[NAME]), versions, scratch)
    return Kubeadm(
        digest=program.files[NAME],
        images=tuple(_image(reference, spec, cache, progress, logs) for reference in wanted),
    )


def references(program: Path, versions: Versions, scratch: Path) -> tuple[str, ...]:
    """The images that ``kubeadm config images list`` prints. Raises a Problem where it fails."""
    file = scratch / "kubeadm.json"
    file.write_text(json.dumps(cluster_configuration(versions)))
    answer = output([program, "config", "images", "list", "--config", file])
    if not answer:
        raise Problem(
            f"kubeadm {versions.kubernetes} does not say which images it wants",
            f"see what {program} config images list says here",
        )
    return tuple(answer.split())


def _image(
    reference: str, spec: Cluster, cache: Cache, progress: Progress, logs: Path
) -> KubeadmImage:
    name = program_of(reference)
    try:
        row = artifact_row(name)
    except KeyError:
        raise Problem(
            f"kubeadm asks for the image {reference}, and no program of the store is called {name}",
            "add it to spec/artifacts.yaml, or compare with another version",
        ) from None
    source = obtain(row.family, row.version(spec.versions), cache, progress, logs)
    program = source.files[name]
    root = debian_root(cache, progress, logs, runtime.packages(spec)) if name == PROXY else None
    parts = ["kubeadm-image", oci.FORMAT, reference, program, root.name if root else ""]
    key = digest_of([*parts, PROXY_TOOLS, UNREAD])
    receipt = cache.usable(key, f"image archive {reference}", progress.say)
    if receipt is None:
        with cache.lock(key), full_disk_told(cache.root), cache.work() as scratch:
            beneath = scratch / "beneath"
            if root:
                write_packages(root, PROXY_TOOLS, beneath)
            oci.write_archive(
                cache.blob(program),
                scratch / name,
                name=name,
                reference=reference,
                architecture=architecture(),
                user=row.image.user if row.image else "0:0",
                folder="/" if row.image else FOLDER,
                beneath=(beneath,) if root else (),
            )
            files = {name: cache.add(scratch / name)}
            receipt = Receipt(key, files, source.origin, f"image archive of {source.source}")
            cache.record(receipt)
    return KubeadmImage(reference, receipt.files[name])


# -- Debian packages in an image -------------------------------------------------------------------


def write_packages(root: Path, packages: Sequence[str], target: Path) -> None:
    """Write a tar file with packages of a Debian root's archive and their dependencies."""
    with tarfile.open(root) as archive, oci.tar_file(target) as layer:
        members = {_plain(member.name): member for member in archive}

        def text(path: str) -> str:
            stream = archive.extractfile(members[path])
            assert stream is not None
            return stream.read().decode()

        lists = {
            path.rpartition("/")[2].removesuffix(".list").partition(":")[0]: path
            for path in members
            if path.startswith("var/lib/dpkg/info/") and path.endswith(".list")
        }
        closure = needed(text("var/lib/dpkg/status"), packages)
        listed = (line for name in closure for line in text(lists[name]).splitlines())
        held = {path for line in listed if (path := line.removeprefix("/")) in members}
        held |= set(_links(members, held))
        for path in sorted(path for path in held if not path.startswith(UNREAD)):
            member = members[path]
            stream = archive.extractfile(member) if member.isreg() or member.islnk() else None
            if stream is not None:
                size = members[_plain(member.linkname)].size if member.islnk() else member.size
                with stream:
                    oci.add_file(layer, path, stream, size, mode=member.mode)
            elif member.issym():
                link = tarfile.TarInfo(path)
                link.type, link.linkname, link.mode = tarfile.SYMTYPE, member.linkname, 0o777
                layer.addfile(link)


def needed(status: str, packages: Sequence[str]) -> tuple[str, ...]:
    """The packages and all their dependencies, according to dpkg's status file.

    Raises a Problem where one of ``packages`` is not installed.
    """
    depends = {
        fields["Package"]: f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}"
        for paragraph in status.split("\n\n")
        if (fields := dict(FIELD.findall(paragraph)))
    }
    if missing := [name for name in packages if name not in depends]:
        raise Problem(
            f"the Debian root has no package {' and no '.join(missing)}",
            "add it to the packages of lab/debian_root.py",
        )
    needed_packages, looked = list(packages), 0
    while looked < len(needed_packages):
        for alternatives in depends[needed_packages[looked]].split(","):
            # Takes the first alternative that is installed; a virtual package counts as none.
            names = (
                re.split(r"[ :(]", alternative.strip())[0]
                for alternative in alternatives.split("|")
            )
            name = next((name for name in names if name in depends), None)
            if name and name not in needed_packages:
                needed_packages.append(name)
        looked += 1
    return tuple(needed_packages)


FIELD = re.compile(r"^(Package|Depends|Pre-Depends): (.*)$", re.MULTILINE)


def _links(members: Mapping[str, tarfile.TarInfo], held: set[str]) -> Iterator[str]:
    """The links in no package's file list: /bin and the like, and Debian's alternatives."""
    yield from (path for path in ("bin", "lib", "lib64", "sbin") if path in members)
    for path, member in members.items():
        chosen = member.linkname.strip("/") if member.issym() else ""
        if not chosen.startswith("etc/alternatives/") or chosen not in members:
            continue
        if members[chosen].linkname.strip("/") in held:
            yield from (path, chosen)


def _plain(path: str) -> str:
    return path.removeprefix("./").rstrip("/")
