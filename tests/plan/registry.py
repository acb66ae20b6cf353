"""A real registry of images on this computer's loopback address, with TLS and a password."""

import json
import ssl
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from tests.engine.stack import PATIENCE, eventually
from tests.ops.archives import archive
from tests.ports import free_port

USER, PASSWORD = "puller", "right"
KNOWN = f"{USER}:$2b$05$abcdefghijklmnopqrstuu8xaCxxL82bnl.UY74PMksDxIJShppPC\n"
"""The user in the file of the registry: its password as bcrypt keeps it."""


@dataclass(frozen=True)
class RealRegistry:
    """A registry that runs."""

    host: str
    """Its address and port."""
    authority: str
    """The certificate that its own must come from, in PEM."""


def certificate(folder: Path, name: str = "IP:127.0.0.1") -> Path:
    """A certificate for a name, which is its own authority; its key is beside it."""
    folder.mkdir(parents=True)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=registry"]
    command += ["-addext", f"subjectAltName={name}"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "certificate.pem"


def unpack(folder: Path) -> None:
    """Unpack Debian's registry from its package. The test is skipped where no mirror answers."""
    folder.mkdir()
    fetched = subprocess.run(["apt-get", "download", "docker-registry"], cwd=folder, check=False)
    packages = list(folder.glob("*.deb"))
    if fetched.returncode or not packages:
        pytest.skip("no Debian mirror has docker-registry")
    subprocess.run(["dpkg", "--extract", *packages, folder], check=True)


@contextmanager
def serving(
    folder: Path, pem: Path, at: str, enter: Sequence[str] = ()
) -> Iterator[Callable[[], str]]:
    """Serve what ``folder`` has with this certificate; return what reads the registry's log.

    ``at`` is an address with its port, ``enter`` the command that leads to it.
    """
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
        "http": {
            "addr": at,
            "tls": {"certificate": str(pem), "key": str(pem.with_name("key.pem"))},
        },
        "auth": {"htpasswd": {"realm": "test", "path": str(folder / "users")}},
    }
    (folder / "users").write_text(KNOWN)
    (folder / "config.yml").write_text(json.dumps(settings))
    program = str(folder / "package/usr/bin/docker-registry")
    command = [*enter, program, "serve", str(folder / "config.yml")]
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield (folder / "log").read_text
    finally:
        server.terminate()
        server.wait(PATIENCE)


@contextmanager
def real_registry(folder: Path, image: Path | None = None) -> Iterator[RealRegistry]:
    """A registry that keeps all in ``folder``, with an image as ``shop:1`` and ``library/shop:1``.

    Without an archive of an image, the image is of no use but to be pulled.
    """
    folder.mkdir()
    unpack(folder / "package")
    pem = certificate(folder / "tls")
    host = f"127.0.0.1:{free_port()}"
    with (
        serving(folder, pem, host) as log,
        httpx.Client(
            base_url=f"https://{host}",
            verify=ssl.create_default_context(cafile=pem),
            auth=(USER, PASSWORD),
            trust_env=False,
        ) as client,
    ):

        def answers() -> bool:
            try:
                return client.get("/v2/").status_code == 200
            except httpx.TransportError:
                return False

        eventually("it answers", answers, reason=log)
        for name in ("shop", "library/shop"):
            _push(client, name, image or archive(folder / "shop.tar"))
        yield RealRegistry(host, pem.read_text())


def _push(client: httpx.Client, name: str, path: Path) -> None:
    """Give the only image of an archive to the registry, as version 1."""
    with tarfile.open(path) as tar:
        parts = {
            member.name: file.read()
            for member in tar
            if (file := tar.extractfile(member)) is not None
        }
    (listed,) = json.loads(parts["index.json"])["manifests"]
    manifest = parts[_blob(listed["digest"])]
    described = json.loads(manifest)
    for blob in (described["config"], *described["layers"]):
        begun = client.post(f"/v2/{name}/blobs/uploads/").raise_for_status()
        target = httpx.URL(urljoin(str(client.base_url), begun.headers["Location"]))
        target = target.copy_merge_params({"digest": blob["digest"]})
        client.put(target, content=parts[_blob(blob["digest"])]).raise_for_status()
    client.put(
        f"/v2/{name}/manifests/1",
        content=manifest,
        headers={"Content-Type": listed["mediaType"]},
    ).raise_for_status()


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
