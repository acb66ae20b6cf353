"""The commands ``kubectl`` and ``env``, which give other programs access to a stack."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from lab.artifacts import Store
from lab.cache import Cache
from lab.manifest import artifacts
from lab.paths import lab_paths
from lab.problem import Problem
from ops.display import progress
from ops.kubeconfig import server
from ops.private import private_folder, write_private
from ops.reach import opened, reach
from ops.stacks import (
    PASSED_ON,
    StackOption,
    asks_help_of_program,
    asks_own_help,
    read_cluster,
)
from spec.cluster import Cluster


def register(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command(rich_help_panel="A cluster", context_settings=PASSED_ON)(kubectl)
    app.command(rich_help_panel="A cluster")(env)


def kubectl(
    context: typer.Context,
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed on as they are.")] = None,
    stack: StackOption = "dev",
) -> None:
    """Run `kubectl` as the stack's admin, where the API answers: `./hardway kubectl get nodes`.

    It is the one on your PATH, or the one of the cluster's own version, and asks the API past a
    proxy of your environment. Nothing is written into your kubeconfig; for that see
    `./hardway kubeconfig --merge`.

    Examples: `./hardway kubectl get pods --all-namespaces`, of another stack `./hardway kubectl
    --stack lab2 get nodes`; what kubectl itself can do says `./hardway kubectl help`, and of one of
    its commands `./hardway kubectl get --help`
    """
    if asks_own_help(arguments):
        typer.echo(context.get_help())
        return
    if asks_help_of_program(arguments):
        command = [str(program(read_cluster(stack))), *(arguments or [])]
        raise typer.Exit(subprocess.run(command, check=False).returncode)
    reached = reach(stack)
    with as_admin(reached.spec, reached.kubeconfig) as (name, environment):
        command = [name, *(arguments or [])]
        status = subprocess.run(command, env=environment, check=False).returncode
    raise typer.Exit(status)


@contextmanager
def as_admin(spec: Cluster, kubeconfig: str) -> Iterator[tuple[str, dict[str, str]]]:
    """``kubectl``, and the environment in which it is the admin of a cluster.

    Raises a Problem where there is no ``kubectl``.
    """
    with private_folder(lab_paths(), "kubectl") as folder:
        write_private(folder / "kubeconfig", kubeconfig)
        own = {"KUBECONFIG": str(folder / "kubeconfig")}
        environment = {**os.environ, **past_the_proxy(os.environ, kubeconfig), **own}
        yield str(program(spec)), environment


def past_the_proxy(environment: Mapping[str, str], kubeconfig: str) -> dict[str, str]:
    """The variables that exempt a kubeconfig's API server from the environment's proxy.

    A proxy cannot reach the machines. Programs differ in whether they read NO_PROXY or no_proxy
    first (Go: golang.org/x/net/http/httpproxy), so both get the hosts that either had.
    """
    host = urlsplit(server(kubeconfig)).hostname or ""
    exempted = [environment.get(name, "") for name in ("NO_PROXY", "no_proxy")]
    value = ",".join(dict.fromkeys([*filter(None, exempted), host]))
    return {"NO_PROXY": value, "no_proxy": value}


def program(spec: Cluster) -> Path:
    """The ``kubectl`` on PATH, else that of the store in the cluster's version.

    Raises a Problem where there is neither.
    """
    if installed := shutil.which("kubectl"):
        return Path(installed)
    store = Store(Cache(), progress(), lab_paths().logs)
    wanted = artifacts(spec.versions, spec.architecture, spec.runtime)
    stored = next((store.find(artifact) for artifact in wanted if artifact.name == "kubectl"), None)
    if stored is None:
        raise Problem(
            "there is no kubectl on PATH, and the store has none of the cluster's version",
            "install kubectl, or fetch it with ./hardway artifacts fetch",
        )
    return stored.path


def env(stack: StackOption = "dev") -> None:
    """Print what a plain `pulumi` needs to work on a stack: `eval "$(./hardway env)"`.

    It names the lab's tools, state, passphrase file and offer; there is nothing secret in it. With
    a private libvirt start the shell in its network namespace first, as the last line says.

    Example: `eval "$(./hardway env --stack lab2)"`, then `pulumi preview --diff`
    """
    ready = opened(stack).stack
    ours = ready.environment()
    for name, value in sorted(ours.items()):
        if os.environ.get(name) != value:
            print(f"export {name}={shlex.quote(value)}")
    if ready.enter:
        print(f"# the machines are reached from within: {shlex.join(ready.enter)} bash")
