"""A small world for the store: data files with official downloads on loopback and quick recipes.

It stands in for what is slow or far away, the network and the Go compiler, and for nothing else.
"""

import io
import re
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tenacity
import yaml

import lab.artifacts
import lab.download
import lab.manifest
import lab.published
import lab.recipe
import spec.artifacts
import spec.downloads
from lab.architecture import architecture
from lab.artifacts import Store
from lab.cache import Cache, Receipt
from lab.problem import Problem
from lab.progress import Progress
from lab.recipe import Recipe
from spec.versions import versions_for

VERSIONS = versions_for("1.37.1")
ARCHIVED = {"etcd": ("etcd", "etcdctl", "etcdutl"), "coredns": ("coredns",)}
PLAIN = "kubernetes"


class Notebook:
    """A progress display that remembers what was said."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, text: str) -> None:
        self.messages.append(text)

    @contextmanager
    def task(self, title: str) -> Iterator["Notebook"]:
        self.messages.append(title)
        yield self

    def asking(self) -> AbstractContextManager[None]:
        return nullcontext()

    def note(self, text: str) -> None:
        del text

    @property
    def text(self) -> str:
        return "\n".join(self.messages)


class Site:
    """The web server with the official downloads."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.resumed: list[str] = []
        """The paths that were asked for from somewhere in their middle."""
        self.stalls_at: dict[str, int] = {}
        """Path to the number of bytes after which the answer stands still."""
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator["Site"]:
        site = self

        class SiteHandler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                content = site.files.get(self.path)
                start = self._start(len(content or b""))
                self.send_response(404 if content is None else 206 if start else 200)
                if start:
                    content_range = f"bytes {start}-{len(content or b'') - 1}/{len(content or b'')}"
                    self.send_header("Content-Range", content_range)
                self.send_header("Content-Length", str(len(content or b"") - start))
                self.end_headers()
                stop = site.stalls_at.get(self.path)
                self.wfile.write((content or b"")[start:stop])
                if stop is not None:
                    self.wfile.flush()
                    time.sleep(30)

            def _start(self, size: int) -> int:
                match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                site.resumed += [self.path] if match else []
                return int(match[1]) if match and int(match[1]) < size else 0

            def log_message(self, *_: object) -> None:
                pass

        class SiteServer(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        with SiteServer(("127.0.0.1", 0), SiteHandler) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            self.url = f"http://127.0.0.1:{server.server_port}"
            yield self
            server.shutdown()


@dataclass
class StoreLab:
    """A store over an empty cache, and the world that it gets things from."""

    data: Path
    cache: Cache
    site: Site
    notebook: Notebook

    @property
    def store(self) -> Store:
        return Store(self.cache, self.notebook, self.cache.root / "logs")

    @property
    def built(self) -> list[str]:
        """The families that were built."""
        messages = self.notebook.messages
        return [text.removeprefix("building ") for text in messages if text.startswith("building ")]


@contextmanager
def small_lab(directory: Path, patch: pytest.MonkeyPatch) -> Iterator[StoreLab]:
    """A world of its own under a directory, while the context lasts."""
    site = Site()
    with site.serving():
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            patch.delenv(variable, raising=False)
        patch.setenv("XDG_CACHE_HOME", str(directory / "home"))
        write_data(directory / "data", site)
        install(directory / "data", patch.setattr)
        yield StoreLab(directory / "data", Cache(), site, Notebook())
    forget()  # what is read again is the project's own: patch is undone before any other test


def program(name: str, origin: str) -> bytes:
    """What a program of this world is made of."""
    return f"#!/bin/sh\necho {name} {origin}\n".encode() + bytes(1000)


def archive_of(programs: dict[str, bytes]) -> bytes:
    """A release archive: the programs in a folder, between files nobody asked for."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in {"README": b"read me", **programs}.items():
            member = tarfile.TarInfo(f"./release/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_data(directory: Path, site: Site) -> None:
    """Write recipes for everything, and official rows for Kubernetes, etcd and CoreDNS."""
    recipes = directory / "recipes"
    recipes.mkdir(parents=True)
    programs: dict[str, list[str]] = {}
    versions: dict[str, str] = {}
    for row in yaml.safe_load(spec.artifacts.ARTIFACTS.read_text()):
        family = row.get("family", row["component"])
        programs.setdefault(family, []).append(row["name"])
        versions[family] = getattr(VERSIONS, row["component"])
    table = []
    for family, names in programs.items():
        (recipes / family).mkdir()
        (recipes / family / "go.mod").write_text(f"module {family}\n")
        table.append(
            {
                "family": family,
                "version": versions[family],
                "directory": family,
                "programs": {name: f"./{name}" for name in names},
            }
        )
    (recipes / "recipes.yaml").write_text(yaml.safe_dump(table))
    (directory / "official.yaml").write_text(yaml.safe_dump(_official(programs, versions, site)))
    (directory / "published.yaml").write_text("[]\n")


def _official(
    programs: dict[str, list[str]], versions: dict[str, str], site: Site
) -> list[dict[str, Any]]:
    rows = []
    for arch in ("amd64", "arm64"):
        for name in programs[PLAIN]:
            path = f"/{arch}/{name}"
            site.files[path] = program(name, f"official {arch}")
            rows.append(_row(name, PLAIN, versions[PLAIN], arch, path, site))
        for family, names in ARCHIVED.items():
            path = f"/{arch}/{family}.tar.gz"
            site.files[path] = archive_of({n: program(n, f"official {arch}") for n in names})
            row = _row(family, family, versions[family], arch, path, site)
            rows.append({**row, "members": {name: f"release/{name}" for name in names}})
    return rows


def _row(name: str, family: str, version: str, arch: str, path: str, site: Site) -> dict[str, Any]:
    return {
        "name": name,
        "family": family,
        "version": version,
        "arch": arch,
        "url": site.url + path,
        "sha256": sha256(site.files[path]).hexdigest(),
    }


def build(
    recipe: Recipe, cache: Cache, progress: Progress, logs: Path, *, stops_at: str | None = None
) -> Receipt:
    """Stand-in for the Go compiler; stands still in the middle of the family ``stops_at``."""
    del logs
    if recipe.family == "broken":
        raise Problem("the build failed", "mend it")
    progress.say(f"building {recipe.family}")
    with cache.work() as scratch:
        files = {}
        for number, name in enumerate(recipe.programs):
            (scratch / name).write_bytes(program(name, "built")[:20])
            if recipe.family == stops_at and number == len(recipe.programs) // 2:
                print("in the middle", flush=True)
                time.sleep(60)
            (scratch / name).write_bytes(program(name, "built"))
            files[name] = cache.add(scratch / name, executable=True)
    receipt = Receipt(
        key=recipe.key(architecture()),
        files=files,
        origin="built",
        source=f"lab/recipes, {recipe.family}",
        facts={"family": recipe.family, "version": recipe.version},
    )
    cache.record(receipt)
    return receipt


def install(
    directory: Path,
    put: Callable[[object, str, object], None] = setattr,
    *,
    stops_at: str | None = None,
) -> None:
    """Make the store's modules read this world's data; ``put`` can be monkeypatch's setattr."""
    put(spec.downloads, "OFFICIAL", directory / "official.yaml")
    put(lab.published, "PUBLISHED", directory / "published.yaml")
    put(lab.published, "PINS", directory / "pins.yaml")
    put(lab.recipe, "RECIPES", directory / "recipes")
    put(lab.artifacts, "build", partial(build, stops_at=stops_at))
    put(lab.download, "BACK_OFF", tenacity.wait_none())
    put(lab.download, "_unreachable", {})
    forget()


def forget() -> None:
    """Drop what the modules read from data files that are not there any more."""
    for function in (
        *(spec.downloads.downloads, lab.published.published),
        *(lab.manifest.manifest, lab.recipe.recipes),
    ):
        function.cache_clear()


if __name__ == "__main__":  # a run of its own, to be killed: DATA CACHE STOPS_AT
    install(Path(sys.argv[1]), stops_at=sys.argv[3])
    store = Store(Cache(Path(sys.argv[2])), Notebook(), Path(sys.argv[2]) / "logs")
    store.fetch(VERSIONS)
