"""Downloads whose publishers say the digest: asked once, noted, and the same ever after."""

import datetime
import functools
import hashlib
import ipaddress
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from lab import download, published
from lab.architecture import architecture
from lab.artifacts import Store, StoredArtifact
from lab.bundle import export, import_bundle
from lab.cache import Cache
from lab.download import Damaged, SourceUnreachable, fetch
from lab.manifest import artifacts
from lab.problem import Problem
from lab.published import Published, digest_in
from lab.toolchain import DOWNLOADED, PLUGINS
from spec.artifacts import Runtime
from spec.downloads import Architecture, downloads_of
from spec.versions import versions_for
from tests.lab import world
from tests.lab.test_artifacts import run_to_be_killed
from tests.lab.world import VERSIONS, Notebook, StoreLab, archive_of, program

ARCH = architecture()
FILE = f"/{ARCH}/containerd.tgz"
LIST = f"{FILE}.sha256sum"
PROGRAMS = ("containerd", "ctr", "containerd-shim-runc-v2")


def release(origin: str) -> bytes:
    return archive_of({name: program(name, origin) for name in PROGRAMS})


def say(lab: StoreLab, content: bytes) -> None:
    """Have the publisher offer an archive and say its digest."""
    lab.site.files[FILE] = content
    digest = hashlib.sha256(content).hexdigest()
    lab.site.files[LIST] = f"{digest}  containerd.tgz\n".encode()


@pytest.fixture
def lab(small_lab: StoreLab) -> StoreLab:
    """A world in which a publisher says the digest of containerd, which nobody wrote down."""
    rows = [
        {
            "name": "containerd",
            "family": "containerd",
            "version": VERSIONS.containerd,
            "arch": ARCH,
            "url": small_lab.site.url + FILE,
            "checksums": small_lab.site.url + LIST,
            "members": {name: f"release/{name}" for name in PROGRAMS},
        }
    ]
    (small_lab.data / "published.yaml").write_text(yaml.safe_dump(rows))
    world.forget()
    say(small_lab, release("published"))
    return small_lab


def containerd(store: Store) -> StoredArtifact:
    wanted = next(a for a in artifacts(VERSIONS, store.architecture) if a.name == "containerd")
    return store.resolve(wanted)


def noted(lab: StoreLab) -> dict[str, str]:
    return dict(yaml.safe_load((lab.data / "pins.yaml").read_text()))


def afresh(lab: StoreLab, tmp_path: Path) -> Store:
    """The store of another computer with the same checkout."""
    lab.site.asked.clear()
    lab.notebook.messages.clear()
    return Store(Cache(tmp_path / "another"), lab.notebook, tmp_path / "logs")


def test_what_a_publisher_says_is_taken_noted_and_told(lab: StoreLab) -> None:
    stored = containerd(lab.store)
    digest = hashlib.sha256(lab.site.files[FILE]).hexdigest()
    assert stored.path.read_bytes() == program("containerd", "published")
    assert (stored.origin, stored.source) == ("official", lab.site.url + FILE)
    assert noted(lab) == {lab.site.url + FILE: digest}
    assert (
        f"noted in pins.yaml: {lab.site.url}{FILE} has the sha256 {digest}" in lab.notebook.messages
    )
    assert lab.built == []
    lab.site.asked.clear()
    assert containerd(lab.store) == stored
    assert lab.site.asked == []


def test_a_stack_whose_publishers_all_answer_compiles_only_what_nobody_publishes(
    lab: StoreLab,
) -> None:
    lab.store.fetch(VERSIONS)
    assert set(lab.built) == {"runc", "cni-plugins", "flannel", "pause"}, (
        "the world's other families"
    )


def test_another_checksum_than_the_noted_one_is_refused(lab: StoreLab, tmp_path: Path) -> None:
    containerd(lab.store)
    before = noted(lab)
    say(lab, release("changed"))
    store = afresh(lab, tmp_path)
    with pytest.raises(Problem, match=r"sha256sum says the sha256 \w+ of .* and .*pins\.yaml has"):
        containerd(store)
    assert lab.site.asked == [LIST], "the other file itself is not even asked for"
    assert store.cache.receipts() == []
    assert noted(lab) == before
    assert lab.built == []


def test_another_file_than_the_noted_one_is_refused_where_nobody_says_digests(
    lab: StoreLab, tmp_path: Path
) -> None:
    containerd(lab.store)
    say(lab, release("changed"))
    del lab.site.files[LIST]
    store = afresh(lab, tmp_path)
    with pytest.raises(Damaged, match=r"has the sha256 \w+, not"):
        containerd(store)
    assert lab.built == []


def test_the_noted_digest_serves_where_the_publisher_says_none_any_more(
    lab: StoreLab, tmp_path: Path
) -> None:
    stored = containerd(lab.store)
    del lab.site.files[LIST]
    again = containerd(afresh(lab, tmp_path))
    assert again.digest == stored.digest
    assert "pins.yaml has the digest of" in lab.notebook.text
    assert lab.built == []


def test_a_file_that_is_not_what_its_publisher_says_is_refused_and_not_noted(lab: StoreLab) -> None:
    lab.site.files[FILE] = release("other")
    with pytest.raises(Damaged, match=FILE):
        containerd(lab.store)
    assert not (lab.data / "pins.yaml").exists()
    assert lab.built == []


@pytest.mark.parametrize("content", [None, b"<html>", b"0" * 64 + b"  another.tgz\n"])
def test_without_a_checksum_the_programs_are_built_and_it_is_told(
    content: bytes | None, lab: StoreLab
) -> None:
    if content is None:
        del lab.site.files[LIST]
    else:
        lab.site.files[LIST] = content
    assert containerd(lab.store).origin == "built"
    assert LIST in lab.notebook.text
    assert "taking the next source" in lab.notebook.text
    assert FILE not in lab.site.asked
    assert not (lab.data / "pins.yaml").exists()


def test_a_file_that_is_gone_is_built_and_nothing_is_noted(lab: StoreLab) -> None:
    del lab.site.files[FILE]
    assert containerd(lab.store).origin == "built"
    assert not (lab.data / "pins.yaml").exists()


def test_a_download_that_was_cut_off_goes_on_from_there(lab: StoreLab) -> None:
    content = archive_of({name: bytes(range(256)) * 4000 + name.encode() for name in PROGRAMS})
    say(lab, content)
    lab.site.stalls_at[FILE] = len(content) // 2
    child = run_to_be_killed(lab)
    parts = lab.cache.root / "downloads"
    while not any(p.stat().st_size >= len(content) // 2 for p in parts.glob("*.part")):
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert not (lab.data / "pins.yaml").exists()
    lab.site.stalls_at.clear()
    assert containerd(lab.store).origin == "official"
    assert lab.site.resumed == [FILE]
    assert len(noted(lab)) == 1


def test_what_is_built_already_stays_where_a_digest_becomes_known(lab: StoreLab) -> None:
    """Other programs would restart the services of a living cluster."""
    del lab.site.files[LIST]
    stored = containerd(lab.store)
    say(lab, release("published"))
    digest = hashlib.sha256(lab.site.files[FILE]).hexdigest()
    (lab.data / "pins.yaml").write_text(f"{lab.site.url}{FILE}: '{digest}'\n")
    assert containerd(lab.store) == stored


def test_a_checkout_that_cannot_be_written_builds(
    lab: StoreLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere but to what is mounted without.
    monkeypatch.setattr(os, "access", lambda folder, _: folder != lab.data)
    assert containerd(lab.store).origin == "built"
    assert "cannot be written to note the digest" in lab.notebook.text


def test_a_mistake_in_the_notes_is_one_sentence(lab: StoreLab) -> None:
    (lab.data / "pins.yaml").write_text(f"{lab.site.url}{FILE}: 12\n")
    with pytest.raises(Problem, match=r"pins\.yaml is not what \./hardway writes there"):
        containerd(lab.store)


def test_two_runs_note_each_digest_once(lab: StoreLab, tmp_path: Path) -> None:
    children = [run_to_be_killed(lab) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert len(noted(lab)) == 1


def test_a_bundle_brings_the_digest_to_a_checkout_that_has_not_noted_it(
    lab: StoreLab, tmp_path: Path
) -> None:
    stored = containerd(lab.store)
    bundle = tmp_path / "stack.tar"
    export(bundle, lab.store, VERSIONS, Notebook(), "containerd")
    before = noted(lab)
    (lab.data / "pins.yaml").unlink()
    lab.site.files.clear()
    store = afresh(lab, tmp_path)
    import_bundle(bundle, store, lab.notebook, digest=None)
    assert containerd(store).digest == stored.digest
    assert noted(lab) == before
    assert lab.site.asked == []


def test_a_bundle_with_another_file_than_the_noted_one_is_refused(
    lab: StoreLab, tmp_path: Path
) -> None:
    containerd(lab.store)
    bundle = tmp_path / "stack.tar"
    export(bundle, lab.store, VERSIONS, Notebook(), "containerd")
    (lab.data / "pins.yaml").write_text(f"{lab.site.url}{FILE}: '{'0' * 64}'\n")
    store = afresh(lab, tmp_path)
    with pytest.raises(Problem, match="what is to be noted says the sha256"):
        import_bundle(bundle, store, lab.notebook, digest=None)
    assert store.cache.receipts() == []


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (f"{'a' * 64}  tool.tgz\n{'b' * 64}  other.tgz\n", "a" * 64),
        (f"{'A' * 64} *tool.tgz\n", "a" * 64),
        (f"{'a' * 64}  ./out/tool.tgz", "a" * 64),
        (f"{'a' * 64}\n", "a" * 64),
        (f"{'a' * 63}  tool.tgz\n", None),
        (f"{'a' * 128}  tool.tgz\n", None),
        (f"{'b' * 64}  other.tgz\n", None),
        ("", None),
        (json.dumps({"assets": [{"name": "tool.tgz", "digest": f"sha256:{'a' * 64}"}]}), "a" * 64),
        (json.dumps({"assets": [{"name": "other.tgz", "digest": f"sha256:{'a' * 64}"}]}), None),
        (json.dumps({"assets": [{"name": "tool.tgz", "digest": None}]}), None),
        (json.dumps({"assets": [{"name": "tool.tgz", "digest": f"sha512:{'a' * 64}"}]}), None),
        (json.dumps({"message": "rate limit exceeded"}), None),
        ('{"assets": 3}', None),
        ("{", None),
    ],
)
def test_a_digest_is_found_in_what_publishers_say(text: str, digest: str | None) -> None:
    assert digest_in(text, "tool.tgz") == digest


def test_the_project_s_own_rows_are_encrypted_and_stand_nowhere_else() -> None:
    rows = published.published()
    assert len({row.url for row in rows}) == len(rows) > 0
    for row in rows:
        assert row.url.startswith("https://")
        assert row.checksums.startswith("https://")
        assert urlsplit(row.checksums).hostname in ("github.com", "api.github.com")
        assert row.version in row.url
        assert row.version in row.checksums
        assert not downloads_of(row.family, row.version, row.arch), "spec/official.yaml has it"


def test_a_default_stack_has_an_official_source_for_all_but_what_is_built_on_purpose() -> None:
    for arch in get_args(Architecture):
        every = (artifacts(versions_for(), arch, runtime) for runtime in get_args(Runtime))
        for artifact in chain.from_iterable(every):
            official = [source for source in artifact.sources if source.origin == "official"]
            assert official or artifact.name == "pause", artifact
        # The published plugin libvirt can leave an update without an answer.
        for plugin in PLUGINS.keys() - {"libvirt"}:
            assert published.published_of(f"pulumi-resource-{plugin}", PLUGINS[plugin], arch)
        assert downloads_of("pulumi", DOWNLOADED, arch)


@pytest.mark.parametrize("field", ["url", "checksums"])
def test_what_is_not_encrypted_is_no_row(field: str) -> None:
    row = published.published()[0].model_dump()
    with pytest.raises(ValidationError):
        Published(**{**row, field: row[field].replace("https:", "http:")})


# -- over TLS ------------------------------------------------------------------------------------


def _certificate(folder: Path) -> Path:
    """A key and its certificate for loopback, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "loopback.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None], pem: Path | None) -> Iterator[str]:
    class PublisherHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), PublisherHandler) as server:
        if pem:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http{'s' if pem else ''}://127.0.0.1:{server.server_port}/"
        server.shutdown()


def _content(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "7")
    handler.end_headers()
    handler.wfile.write(b"content")


def _redirecting(handler: BaseHTTPRequestHandler, target: str) -> None:
    handler.send_response(302)
    handler.send_header("Location", target)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_redirection_does_not_lead_out_of_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    pem = _certificate(tmp_path)
    monkeypatch.setattr(download, "_authorities", lambda: ssl.create_default_context(cafile=pem))
    monkeypatch.setattr(download, "_unreachable", {})
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with answering(_content, pem if encrypted else None) as target:
        with answering(functools.partial(_redirecting, target=target), pem) as url:
            if encrypted:
                fetch(url, tmp_path / "file")
                assert (tmp_path / "file").read_bytes() == b"content"
            else:
                with pytest.raises(SourceUnreachable, match="which is not encrypted"):
                    fetch(url, tmp_path / "file")
                assert not (tmp_path / "file").exists()
