"""kubeadm's images are those that it asks for, and hold the very programs that our machines run."""

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

import lab.kubeadm
from lab.architecture import architecture
from lab.artifacts import obtain
from lab.cache import Cache, Receipt
from lab.kubeadm import Kubeadm, kubeadm, needed, program_of, references, write_packages
from lab.manifest import recipe_of
from lab.oci import add_file, tar_file
from lab.problem import Problem
from lab.progress import Silence
from spec.artifacts import artifact_row
from spec.cluster import Cluster, parse
from spec.versions import versions_for

VERSIONS = versions_for()

STATUS = """\
Package: iptables
Status: install ok installed
Depends: libc6 (>= 2.38), libxtables12 (= 1.8.11-2), netbase-of-old | netbase

Package: nftables
Pre-Depends: init-system-helpers
Depends: libc6, virtual-package

Package: libc6
Architecture: amd64

Package: libxtables12
Depends: libc6:any (>= 2.38)

Package: netbase

Package: init-system-helpers

Package: bash
Depends: libc6
"""
LISTS = {
    "iptables": "/.\n/usr\n/usr/sbin\n/usr/sbin/iptables-nft\n/usr/share/doc/iptables\n",
    "nftables": "/usr/sbin/nft\n/etc/nftables.conf\n",
    "libc6:amd64": "/usr/lib/libc.so.6\n/usr/lib/libm.so.6\n",
    "libxtables12:amd64": "/usr/lib/libxtables.so\n/usr/lib/libxtables.so.12\n",
    "netbase": "/etc/protocols\n/etc/gone\n",
    "init-system-helpers": "/usr/bin/deb-systemd-helper\n",
    "bash": "/usr/bin/bash\n",
}
LINKS = {
    "lib": "usr/lib",
    "sbin": "usr/sbin",
    "usr/lib/libxtables.so": "libxtables.so.12",
    "usr/sbin/iptables": "/etc/alternatives/iptables",
    "etc/alternatives/iptables": "/usr/sbin/iptables-nft",
    "usr/bin/editor": "/etc/alternatives/editor",
    "etc/alternatives/editor": "/usr/bin/vi",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The archive of a Debian root, as small as one can be."""
    archive = tmp_path / "root.tar"
    with tar_file(archive) as tar:
        files = {f"./var/lib/dpkg/info/{name}.list": text for name, text in LISTS.items()}
        files["./var/lib/dpkg/status"] = STATUS
        for path in {line for text in LISTS.values() for line in text.splitlines()}:
            if path.count("/") > 1 and path not in ("/usr/sbin", "/etc/gone"):
                files[f".{path}"] = path
        for path, text in files.items():
            if path[2:] not in LINKS:
                add_file(tar, path, io.BytesIO(text.encode()), len(text), mode=0o755)
        for path, target in LINKS.items():
            link = tarfile.TarInfo(f"./{path}")
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    return archive


def test_a_package_comes_with_all_that_it_needs() -> None:
    assert needed(STATUS, ("iptables", "nftables")) == (
        *("iptables", "nftables", "libc6", "libxtables12", "netbase", "init-system-helpers"),
    )


def test_a_package_that_the_root_lacks_is_named() -> None:
    with pytest.raises(Problem, match="no package ipset"):
        needed(STATUS, ("iptables", "ipset"))


def test_the_tools_are_found_where_they_are_looked_for(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "layer.tar"
    write_packages(root, ("iptables", "nftables"), target)
    with tarfile.open(target) as layer:
        members = {member.name: member for member in layer}
        assert {member.mtime for member in layer} == {0}
    files = {name for name, member in members.items() if member.isreg()}
    assert files == {
        *("usr/sbin/iptables-nft", "usr/sbin/nft", "etc/nftables.conf", "usr/lib/libc.so.6"),
        *("usr/lib/libm.so.6", "usr/lib/libxtables.so.12", "etc/protocols"),
        "usr/bin/deb-systemd-helper",
    }
    links = {name: member.linkname for name, member in members.items() if member.issym()}
    assert links == {name: LINKS[name] for name in LINKS if "editor" not in name}
    first = target.read_bytes()
    write_packages(root, ("iptables", "nftables"), target)
    assert target.read_bytes() == first


# -- images ----------------------------------------------------------------------------------------

ASKED = (
    f"registry.example/kube-apiserver:v{VERSIONS.kubernetes}",
    f"registry.example/kube-proxy:v{VERSIONS.kubernetes}",
    f"registry.example/coredns/coredns:v{VERSIONS.coredns}",
)


@pytest.fixture
def spec() -> Cluster:
    described = {
        "networks": {"machines": "192.168.1.0/24"},
        "machines": {"master": {"address": "192.168.1.10", "roles": "ai"}},
    }
    return parse(described, name="test")


@pytest.fixture
def cache(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A store with a program of each name, and a kubeadm that asks for three of them."""
    cache = Cache(tmp_path / "cache")

    def has(family: str, version: str, *rest: object) -> Receipt:
        names = {"kubernetes": ("kube-apiserver", "kube-proxy")}.get(family, (family,))
        files = {}
        for name in names:
            with cache.work() as scratch:
                line = "echo " + " ".join(ASKED) if name == "kubeadm" else f"# {version}"
                (scratch / name).write_text(f"#!/bin/sh\n# {name}\n{line}\n")
                files[name] = cache.add(scratch / name, executable=True)
        return Receipt(f"{family} {version}", files, "built", family)

    monkeypatch.setattr(lab.kubeadm, "obtain", has)
    monkeypatch.setattr(lab.kubeadm, "debian_root", lambda *_: root)
    return cache


def made(spec: Cluster, cache: Cache, tmp_path: Path) -> Kubeadm:
    return kubeadm(spec, cache, Silence(), tmp_path)


def layers(archive: Path) -> tuple[str, list[list[str]]]:
    """The image's name, and the paths in each of its layers."""
    with tarfile.open(archive) as tar:

        def read(path: str) -> bytes:
            stream = tar.extractfile(path)
            assert stream is not None
            return stream.read()

        (image,) = json.loads(read("manifest.json"))
        (reference,) = image["RepoTags"]
        paths = []
        for layer in image["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(read(layer))) as inner:
                paths.append(inner.getnames())
        return reference, paths


def test_each_image_has_the_name_that_kubeadm_asks_for_and_the_digest_of_its_bytes(
    spec: Cluster, cache: Cache, tmp_path: Path
) -> None:
    result = made(spec, cache, tmp_path)
    assert tuple(image.reference for image in result.images) == ASKED
    for image in result.images:
        archive = cache.blob(image.digest)
        assert sha256(archive.read_bytes()).hexdigest() == image.digest
        reference, paths = layers(archive)
        assert reference == image.reference
        path = "coredns" if image.name == "coredns" else f"usr/local/bin/{image.name}"
        assert paths[-1] == [path]
        assert len(paths) == (2 if image.name == "kube-proxy" else 1), "kube-proxy calls others"
    assert result.reference("coredns") == ASKED[-1]
    assert cache.blob(result.digest).is_file()


def test_what_was_made_once_is_taken_from_the_store(
    spec: Cluster, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(spec, cache, tmp_path)
    monkeypatch.setattr("lab.oci.write_archive", None)
    assert made(spec, cache, tmp_path) == first


def test_an_image_that_is_none_of_ours_is_named(
    spec: Cluster, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (*ASKED, "registry.example/sidecar:1")
    monkeypatch.setattr(lab.kubeadm, "references", lambda *_: asked)
    with pytest.raises(Problem, match=r"registry\.example/sidecar:1, and no program .* sidecar"):
        made(spec, cache, tmp_path)


def test_a_kubeadm_that_asks_for_nothing_is_a_problem(tmp_path: Path) -> None:
    program = tmp_path / "kubeadm"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(Problem, match="does not say which images"):
        references(program, VERSIONS, tmp_path)


# -- the real one ----------------------------------------------------------------------------------


def test_the_default_stack_can_be_compared() -> None:
    """kubeadm is built from the Go module of our own programs, and says their version."""
    recipe = recipe_of("kubeadm", VERSIONS.kubernetes)
    ours = recipe_of("kubernetes", VERSIONS.kubernetes)
    assert recipe is not None
    assert ours is not None
    assert recipe.ldflags == ours.ldflags
    for directory in (recipe.path, ours.path):
        pinned = (directory / "go.mod").read_text().split()
        assert pinned[pinned.index("k8s.io/kubernetes") + 1] == f"v{VERSIONS.kubernetes}"


def test_the_real_kubeadm_asks_for_our_programs_in_our_versions(tmp_path: Path) -> None:
    recipe = recipe_of("kubeadm", VERSIONS.kubernetes)
    assert recipe is not None
    cache = Cache()
    if cache.receipt(recipe.key(architecture())) is None:
        pytest.skip("no kubeadm in the store yet: ./hardway bench --peer kubeadm builds it")
    receipt = obtain("kubeadm", VERSIONS.kubernetes, cache, Silence(), tmp_path)
    asked = references(cache.blob(receipt.files["kubeadm"]), VERSIONS, tmp_path)
    names = {program_of(reference): reference.rpartition(":")[2] for reference in asked}
    assert set(names) == {
        *("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"),
        *("coredns", "etcd", "pause"),
    }
    for name, tag in names.items():
        if name != "pause":  # whose version kubeadm alone decides
            assert tag.strip("v").removesuffix("-0") == artifact_row(name).version(VERSIONS)
