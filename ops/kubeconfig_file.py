"""Reads, changes and writes a kubeconfig file.

The file is edited as YAML nodes, so that every value, also of an unknown field, stays as it was
written; comments are lost. The lock file is the one that kubectl uses (client-go,
clientcmd/config.go).
"""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lab.problem import Problem
from spec.document import dump_yaml

# libyaml accepts tabs where kubectl does, and is fast: the lock is held a twentieth of the time.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

SECTIONS = {"clusters": "cluster", "users": "user", "contexts": "context"}
"""Each list of a kubeconfig to the field that holds the value of an entry, beside its name."""

LOCK_SECONDS = 10.0
"""Seconds to wait for another program's lock; kubectl needs a few milliseconds."""


class Document:
    """A kubeconfig as YAML nodes, to be changed and written back."""

    def __init__(self, path: Path) -> None:
        """Read the file; a missing or empty file is an empty kubeconfig.

        Raises a Problem where the file is not a kubeconfig.
        """
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        try:
            roots = list(yaml.compose_all(content, Loader=_LOADER))
        except (yaml.YAMLError, RecursionError) as error:
            message = " ".join(str(error).split())
            raise self._refusal(f"is not YAML ({message})") from error
        if not roots or _is_null(roots[0]):
            roots[:1] = [_nodes({"apiVersion": "v1", "kind": "Config"})]
        self.root = self._checked(roots[0])
        self._rest = roots[1:]
        """Further YAML documents in the file, which kubectl does not read."""
        self._before = self._written()

    def _refusal(self, what: str) -> Problem:
        return Problem(f"{self.path} {what}, so it was left alone", "mend it, or choose --file")

    def _checked(self, root: yaml.Node) -> yaml.MappingNode:
        if not isinstance(root, yaml.MappingNode):
            raise self._refusal("is no kubeconfig")
        keys = [key.value for key, _ in root.value]
        kind = _field(root, "kind")
        if len(set(map(str, keys))) != len(keys) or (kind is not None and kind.value != "Config"):
            raise self._refusal("is no kubeconfig")
        for section in SECTIONS:
            node = _field(root, section)
            if node is not None and not _is_null(node) and not _is_list_of_named(node):
                raise self._refusal(f"is no kubeconfig: its {section} are no list of names")
        return root

    def entries(self, section: str) -> list[yaml.MappingNode]:
        """The entries of a section, in order."""
        node = _field(self.root, section)
        return list(node.value) if isinstance(node, yaml.SequenceNode) else []

    def has(self, section: str, name: str) -> bool:
        return any(_text(_field(entry, "name")) == name for entry in self.entries(section))

    def put(
        self, section: str, name: str, value: Mapping[str, Any], keep: Iterable[str] = ()
    ) -> None:
        """Set the value of an entry; the fields ``keep`` of its old value stay.

        An entry that does not exist is added at the end of its section.
        """
        for entry in self.entries(section):
            if _text(_field(entry, "name")) == name:
                inner = _mapping(value)
                for field in keep:
                    if (kept := _field(_field(entry, SECTIONS[section]), field)) is not None:
                        _set(inner, field, kept)
                _set(entry, SECTIONS[section], inner)
                return
        node = _field(self.root, section)
        if not isinstance(node, yaml.SequenceNode):
            node = yaml.SequenceNode("tag:yaml.org,2002:seq", [], flow_style=False)
            _set(self.root, section, node)
        if not node.value:
            node.flow_style = self.root.flow_style  # an empty list was written as []
        node.value.append(_nodes({"name": name, SECTIONS[section]: dict(value)}))

    def drop(self, section: str, name: str) -> None:
        """Remove the entry of this name, if it exists."""
        node = _field(self.root, section)
        if isinstance(node, yaml.SequenceNode):
            node.value = [e for e in node.value if _text(_field(e, "name")) != name]
            if not node.value:
                node.flow_style = True

    def contexts(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Each context's name, and the names of its cluster and user."""
        for entry in self.entries("contexts"):
            inner = _field(entry, "context")
            parts = {} if inner is None else {k: _text(_field(inner, k)) for k in NAMED}
            yield _text(_field(entry, "name")), parts

    @property
    def current(self) -> str:
        return _text(_field(self.root, "current-context"))

    @current.setter
    def current(self, name: str) -> None:
        _set(self.root, "current-context", _nodes(name))

    def save(self) -> bool:
        """Write the file if the document was changed; return whether it was."""
        text = self._written()
        if text == self._before:
            return False
        _replace(self.path, text.encode())
        return True

    def _written(self) -> str:
        nodes = [self.root, *self._rest]
        text: str = yaml.serialize_all(nodes, Dumper=_DUMPER, allow_unicode=True, width=2**20)
        return text


NAMED = ("cluster", "user")
"""The fields of a context that name other entries."""


def _replace(path: Path, content: bytes) -> None:
    """Write a file with secrets atomically, readable by its owner only.

    A symbolic link stays, and its target is replaced.
    """
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            if target.exists() and os.geteuid() == 0:  # with sudo the file keeps its owner
                owner = target.stat()
                os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
        Path(name).rename(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold kubectl's lock file (clientcmd), so that neither kubectl nor another run writes.

    Raises a Problem where another program holds the lock for more than ``LOCK_SECONDS``.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = path.with_name(f"{path.name}.lock")
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0o600))
            break
        except FileExistsError:
            if time.monotonic() >= deadline:
                raise Problem(
                    f"another program is changing {path}, or died while it did",
                    f"run it again; if nothing changes it any more, remove {lock}",
                ) from None
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


# -- nodes ---------------------------------------------------------------------------------------


def _mapping(value: Mapping[str, Any]) -> yaml.MappingNode:
    node = _nodes(dict(value))
    assert isinstance(node, yaml.MappingNode)
    return node


def _nodes(value: Any) -> yaml.Node:
    node = yaml.compose(dump_yaml(value, sort_keys=False), Loader=_LOADER)
    assert node is not None
    return node


def _field(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == name), None)
    return None


def _set(node: yaml.MappingNode, name: str, value: yaml.Node) -> None:
    """Set the value of a field; append the field if it does not exist."""
    for index, (key, _) in enumerate(node.value):
        if key.value == name:
            node.value[index] = (key, value)
            return
    node.value.append((_nodes(name), value))


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) and not _is_null(node) else ""


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _is_list_of_named(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode) and all(_text(_field(e, "name")) for e in node.value)
