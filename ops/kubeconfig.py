"""``./hardway kubeconfig``: print it, or keep it as a context in the user's own kubeconfig.

Files are found and changed as kubectl does it (client-go, clientcmd). Where ``$KUBECONFIG`` lists
several files, an existing entry is changed in its file, and a new entry goes into the first file
that exists.
"""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
import yaml

from lab import forwarder
from lab.paths import lab_paths
from lab.problem import Problem
from ops.display import progress
from ops.kubeconfig_file import SECTIONS, Document, locked
from ops.reach import Reached, opened
from ops.stacks import StackOption


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster")(kubeconfig)


def kubeconfig(
    stack: StackOption = "dev",
    merge: Annotated[
        bool, typer.Option("--merge", help="Put it into your kubeconfig as a named context.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take that context, its cluster and user out again.")
    ] = False,
    context: Annotated[
        str | None, typer.Option(help="The context's name; else hardway-STACK.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Your kubeconfig; else $KUBECONFIG or ~/.kube/config.")
    ] = None,
    keep_current: Annotated[
        bool, typer.Option("--keep-current", help="Leave the current context as it is.")
    ] = False,
) -> None:
    """Print the admin's kubeconfig, or keep it as a context of your own: `--merge`, `--remove`.

    Everything else in your file stays, in its order; only its comments are lost when it is changed.
    Where the machines answer only in the lab's network namespace, it names a port of 127.0.0.1 that
    the lab forwards to the API, so any program of yours works from any shell.

    Examples: `./hardway kubeconfig --merge`, then `kubectl --context hardway-dev get nodes`;
    `./hardway kubeconfig --remove`; `./hardway kubeconfig > admin.conf` for another program
    """
    if merge and remove:
        raise Problem("--merge and --remove undo each other", "give one of them")
    name = context or f"hardway-{stack}"
    if remove:
        _say_removed(name, withdraw(places(os.environ, file)[0], name))
        return
    if not merge and (context or file or keep_current):
        raise Problem(
            "--context, --file and --keep-current say how your own kubeconfig is changed",
            "add --merge or --remove",
        )
    incoming = outside(opened(stack))
    if not merge:
        print(incoming, end="")
        return
    changed = merged(*places(os.environ, file), name, incoming, keep_current=keep_current)
    line = shlex.join(["kubectl", "--context", name, "get", "nodes"])
    done = f"is in {_listed(changed)}" if changed else "was there already, as it should be"
    progress().say(f"the context {name} {done}; use it: {line}")


def outside(reached: Reached) -> str:
    """The admin's kubeconfig for a program in this process's network namespace.

    Starts the stack's forwarder where the lab has a namespace of its own and none runs. Raises a
    Problem where it does not start.
    """
    text = reached.kubeconfig
    paths = lab_paths()
    if not forwarder.is_needed(paths, reached.stack):
        return text
    way_in = forwarder.start_to(paths, reached.stack.name, server(text))
    return forwarded(text, way_in.port)


def forwarded(incoming: str, port: int) -> str:
    """A kubeconfig whose current context asks a port of the loopback address.

    The server still has to show a certificate for its own name (``tls-server-name``).
    """
    whole = yaml.safe_load(incoming)
    current = next(c["context"] for c in whole["contexts"] if c["name"] == whole["current-context"])
    cluster = next(c["cluster"] for c in whole["clusters"] if c["name"] == current["cluster"])
    cluster["tls-server-name"] = urlsplit(cluster["server"]).hostname
    cluster["server"] = f"https://{forwarder.LOOPBACK}:{port}"
    return str(yaml.safe_dump(whole, sort_keys=False))


def _say_removed(name: str, changed: Sequence[Path]) -> None:
    if changed:
        progress().say(f"the context {name} is out of {_listed(changed)}")
    else:
        progress().say(f"there is no context {name}, so nothing was changed")


def _listed(paths: Sequence[Path]) -> str:
    return " and ".join(map(str, paths))


# -- which files ---------------------------------------------------------------------------------


def places(
    environment: Mapping[str, str], explicit: Path | None = None
) -> tuple[tuple[Path, ...], Path]:
    """The files that kubectl reads, in order of precedence, and the file for new entries."""
    if explicit is not None:
        return (explicit,), explicit
    listed = environment.get("KUBECONFIG", "").split(os.pathsep)
    files = tuple(dict.fromkeys(Path(path) for path in listed if path))
    if not files:
        files = (Path.home() / ".kube" / "config",)
    return files, next((file for file in files if file.exists()), files[-1])


# -- changes -------------------------------------------------------------------------------------


PREFERENCES = ("namespace", "extensions")
"""The fields of a context other than its cluster and user."""


def merged(
    files: Sequence[Path], default: Path, name: str, incoming: str, *, keep_current: bool = False
) -> list[Path]:
    """Write the current context of ``incoming`` as ``name`` to the files; return those changed.

    An earlier entry that this function wrote is replaced as a whole, so that no other way to trust
    the server, to reach it or to log in stays beside the new one. Only the context keeps its
    ``PREFERENCES``, which the user may have set. Raises a Problem and changes nothing where the
    user has another context, cluster or user of that name.
    """
    parts = _parts(incoming)
    with _documents([path for path in files if path.exists() or path == default]) as documents:
        _refuse_foreign(documents.values(), name)
        for section, value in parts.items():
            document = _holder(documents.values(), section, name) or documents[default]
            document.put(section, name, value)
        document = _holder(documents.values(), "contexts", name) or documents[default]
        document.put("contexts", name, {"cluster": name, "user": name}, keep=PREFERENCES)
        if not keep_current:
            documents[default].current = name
        return [path for path, document in documents.items() if document.save()]


def withdraw(files: Sequence[Path], name: str) -> list[Path]:
    """Remove the entries that ``merged`` wrote; return the files that were changed.

    A cluster or user stays that another context uses by now. Raises a Problem where the context was
    not written by ``merged``.
    """
    with _documents([path for path in files if path.exists()]) as documents:
        contexts = list(_contexts(documents.values()))
        if all(key != name for key, _ in contexts):
            return []
        _refuse_foreign(documents.values(), name)
        others = [parts for key, parts in contexts if key != name]
        for document in documents.values():
            document.drop("contexts", name)
            for section in ("clusters", "users"):
                if all(parts.get(SECTIONS[section]) != name for parts in others):
                    document.drop(section, name)
            if document.current == name:
                document.current = ""
        return [path for path, document in documents.items() if document.save()]


@contextmanager
def _documents(paths: Sequence[Path]) -> Iterator[dict[Path, Document]]:
    """Lock and read the files."""
    with ExitStack() as locks:
        for path in sorted(paths):  # always in the same order, so that two runs cannot deadlock
            locks.enter_context(locked(path))
        yield {path: Document(path) for path in paths}


def server(incoming: str) -> str:
    """The URL of the API server of a kubeconfig's current context."""
    return str(_parts(incoming)["clusters"]["server"])


def _parts(incoming: str) -> dict[str, dict[str, Any]]:
    """Section (``clusters``, ``users``) to the entry of a kubeconfig's current context."""
    whole = yaml.safe_load(incoming)
    named = {
        section: {entry["name"]: entry[inner] for entry in whole[section]}
        for section, inner in SECTIONS.items()
    }
    context = named["contexts"][whole["current-context"]]
    return {
        section: named[section][context[SECTIONS[section]]] for section in ("clusters", "users")
    }


def _holder(documents: Iterable[Document], section: str, name: str) -> Document | None:
    return next((document for document in documents if document.has(section, name)), None)


def _contexts(documents: Iterable[Document]) -> Iterator[tuple[str, dict[str, str]]]:
    return (context for document in documents for context in document.contexts())


def _refuse_foreign(documents: Iterable[Document], name: str) -> None:
    """Raise a Problem where entries with this name were not written by ``merged``."""
    contexts = list(_contexts(documents))
    own = [parts for key, parts in contexts if key == name]
    if any(set(parts.values()) != {name} for parts in own):
        what = f"your kubeconfig has a context {name} of another cluster or user"
    elif not own and (users := [key for key, parts in contexts if name in parts.values()]):
        what = f"the context {users[0]} of your kubeconfig uses a cluster or user named {name}"
    else:
        return
    raise Problem(what, "choose another name with --context")
