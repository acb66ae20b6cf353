"""Reads a snapshot of etcd: what it holds, and with which keys its Secrets are encrypted.

A snapshot is etcd's database, a bbolt file, with the sha256 of the database behind it. It is read
here before anything is stopped, also where no machine of the cluster has etcd any more.
"""

import hashlib
import mmap
import struct
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

MAGIC = 0xED0CDAED
"""Begins a meta page of bbolt (its db.go)."""
BRANCH, LEAF = 0x01, 0x02
"""Flags of pages of bbolt (its page.go)."""
BUCKET = 0x01
"""Flag of an entry that is a bucket."""
HEADER, ENTRY = 16, 16
"""Sizes of a page's header and of an entry's description, in bytes."""
SECTOR = 512
"""A database has whole sectors; the digest behind it makes a snapshot longer."""

TOMBSTONE = 18
"""The length of a revision that deletes its key: one byte longer than others (etcd's mvcc)."""

NODES = b"/registry/minions/"
"""Where API servers keep Node objects."""
ENCRYPTED = b"k8s:enc:"
"""Begins a value that an API server encrypted: provider, version and the key's name follow."""


class BadSnapshot(Exception):
    """A file is no usable snapshot; the text is one sentence without its full stop."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a snapshot holds."""

    revision: int
    keys: int
    """The number of keys that exist at that revision."""
    nodes: frozenset[str]
    """The names of the Node objects in it."""
    encrypted: Mapping[str, int]
    """Provider and key of encrypted values, such as ``secretbox key1``, to their number."""
    unreadable: Mapping[str, int]
    """Those of them that no given key decrypts, with their number."""
    has_digest: bool
    """Whether a digest stands behind the database. A member's own file has none."""
    version: str
    """The version of etcd whose format the data have, such as ``3.7.0``; empty before etcd 3.6,
    which first recorded it."""


def read(path: Path, encryption: str) -> Snapshot:
    """Read a snapshot.

    ``encryption`` is the API servers' EncryptionConfiguration. Raises BadSnapshot.
    """
    size = path.stat().st_size
    if size < 4 * SECTOR:
        raise BadSnapshot(f"{path} is too short for a snapshot of etcd")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        has_digest = _checked(path, data)
        try:
            return _read(data, _boxes(encryption), has_digest)
        except (struct.error, IndexError, KeyError, RecursionError) as error:
            raise BadSnapshot(f"{path} is no snapshot of etcd, or it is damaged") from error


def _checked(path: Path, data: mmap.mmap) -> bool:
    """Whether a digest stands behind the database, and is right. Raises BadSnapshot."""
    rest = len(data) % SECTOR
    if rest == 0:
        return False
    digest = hashlib.sha256()
    with memoryview(data) as view:
        for start in range(0, len(data) - 32, 1 << 20):
            with view[start : min(start + (1 << 20), len(data) - 32)] as part:
                digest.update(part)
    if rest != 32 or digest.digest() != data[-32:]:
        raise BadSnapshot(f"{path} is not whole, or it is damaged (its sha256 is wrong)")
    return True


def _boxes(encryption: str) -> dict[str, SecretBox]:
    """Name of each key of the provider secretbox to what decrypts with it."""
    resources = yaml.safe_load(encryption)["resources"]
    keys = [
        key
        for resource in resources
        for provider in resource["providers"]
        for key in provider.get("secretbox", {}).get("keys", ())
    ]
    return {key["name"]: SecretBox(b64decode(key["secret"])) for key in keys}


def _read(data: mmap.mmap, boxes: Mapping[str, SecretBox], has_digest: bool) -> Snapshot:
    """What a database holds.

    ``etcdutl snapshot restore --bump-revision`` writes a record without a key, which the API
    never shows and compactions keep (etcd 3.7.1).
    """
    latest: dict[bytes, bytes | None] = {}
    revision = 0
    for number, text in _bucket(data, b"key"):
        revision = max(revision, struct.unpack(">Q", number[:8])[0])
        key, value = _pair(text)
        if not key:
            continue
        kept = value if value.startswith(ENCRYPTED) else b""
        latest[key] = None if len(number) == TOMBSTONE else kept
    present = {key: value for key, value in latest.items() if value is not None}
    encrypted: dict[str, int] = {}
    unreadable: dict[str, int] = {}
    for value in filter(None, present.values()):
        _, _, provider, _, name, secret = value.split(b":", 5)
        label = f"{provider.decode()} {name.decode()}"
        encrypted[label] = encrypted.get(label, 0) + 1
        if provider != b"secretbox" or not _opens(boxes.get(name.decode()), secret):
            unreadable[label] = unreadable.get(label, 0) + 1
    return Snapshot(
        revision=revision,
        keys=len(present),
        nodes=frozenset(
            key.removeprefix(NODES).decode() for key in present if key.startswith(NODES)
        ),
        encrypted=encrypted,
        unreadable=unreadable,
        has_digest=has_digest,
        version=dict(_bucket(data, b"meta")).get(b"storageVersion", b"").decode(),
    )


def _opens(box: SecretBox | None, secret: bytes) -> bool:
    if box is None:
        return False
    try:
        box.decrypt(secret)
    except (CryptoError, ValueError):
        return False
    return True


# -- bbolt -----------------------------------------------------------------------------------------


def _bucket(data: mmap.mmap, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a bucket of the database, in order. Raises KeyError where there is none."""
    size, root = _meta(data)
    for _, key, value in _entries(data, size, root * size):
        if key == name:
            (page,) = struct.unpack("<Q", value[:8])
            # A small bucket is a page inside of the entry.
            here, start = (data, page * size) if page else (value, HEADER)
            entries = _entries(here, size, start)
            yield from ((inner, text) for _, inner, text in entries)
            return
    raise KeyError(name)


def _meta(data: mmap.mmap) -> tuple[int, int]:
    """The size of pages, and the page of the root bucket, at the last transaction.

    Raises IndexError where the file ends before the last page in use, as a copy that broke off.
    """
    metas = []
    # The second meta page is behind the first one, whose size is not known yet.
    for start in (0, *(1 << power for power in range(9, 17))):
        if len(data) < start + HEADER + 64:
            break
        magic, _, size, _, root, _, _, pages, last, total = struct.unpack_from(
            "<IIIIQQQQQQ", data, start + HEADER
        )
        body = data[start + HEADER : start + HEADER + 56]
        if magic == MAGIC and start in (0, size) and _fnv(body) == total:
            metas.append((last, size, root, pages))
    if not metas:
        raise KeyError("meta")
    _, size, root, pages = max(metas)
    if len(data) < pages * size:
        raise IndexError(pages)
    return size, root


def _fnv(data: bytes) -> int:
    """The 64-bit FNV-1a hash, which is a meta page's checksum."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) % (1 << 64)
    return value


def _entries(data: mmap.mmap | bytes, size: int, start: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Flags, key and value of the entries below a page, in order."""
    _, kind, count, _ = struct.unpack_from("<QHHI", data, start)
    for number in range(count):
        at = start + HEADER + number * ENTRY
        if kind & BRANCH:
            _, _, page = struct.unpack_from("<IIQ", data, at)
            yield from _entries(data, size, page * size)
        elif kind & LEAF:
            flags, offset, key_size, value_size = struct.unpack_from("<IIII", data, at)
            key = at + offset
            value = key + key_size
            yield flags, bytes(data[key:value]), bytes(data[value : value + value_size])
        else:
            raise KeyError(kind)


# -- etcd's KeyValue, in protobuf ------------------------------------------------------------------


def _pair(text: bytes) -> tuple[bytes, bytes]:
    """The key and the value of an etcd KeyValue: the fields 1 and 5."""
    fields, at = {1: b"", 5: b""}, 0
    while at < len(text):
        tag, at = _varint(text, at)
        length, at = _varint(text, at)
        if tag & 7 == 2:
            fields[tag >> 3] = text[at : at + length]
            at += length
    return fields[1], fields[5]


def _varint(text: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = text[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
