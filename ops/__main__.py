"""The command line: ``./hardway``."""

import importlib
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import typer

from lab.problem import Problem
from ops.display import stderr
from ops.exit_codes import failure


class Interrupted(BaseException):
    """Raised on Ctrl-C or another signal to end; unwinds the stack, so that no child remains."""


app = typer.Typer(
    name="hardway",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""
A Kubernetes cluster from its parts, as one typed Pulumi program.

**Start here:** `./hardway doctor` says what this machine has and lacks, `./hardway up` brings the
stack up, `./hardway status` shows what runs and `./hardway down` removes it.

Every change of a stack goes through Pulumi: edit `Pulumi.dev.yaml`, look at
`./hardway pulumi preview --diff`, then `./hardway up`. Tab completion:
`./hardway --install-completion`.
""",
)


MODULES = (
    "artifacts",
    "lifecycle",
    "pulumi",
    "preview",
    "validate",
    "drift",
    "hosts",
    "restart",
    "etcd_space",
    "backup",
    "restore",
    "recover",
    "images",
    "kubectl",
    "kubeconfig",
    "addons",
    "expose",
    "ssh",
    "diagnose",
    "doctor",
    "bench",
    "picture",
    "tests",
)
"""The modules of this package that have commands, in the order of the help.

Each adds its commands with its function ``register``.
"""

ELSEWHERE = {
    "up": "lifecycle",
    "down": "lifecycle",
    "etcd-space": "etcd_space",
    "status": "lifecycle",
    "env": "kubectl",
    "open": "expose",
    "test": "tests",
}
"""The commands that are not in a module of their name, to their modules."""


@app.callback()
def _group() -> None:
    """Keep the verb's name a word of the command line where one verb alone is loaded."""


def register(arguments: Sequence[str]) -> None:
    """Register the command of a command line, or all where it names none.

    To import all modules takes most of a second.
    """
    verb = next((argument for argument in arguments if not argument.startswith("-")), "")
    module = ELSEWHERE.get(verb, verb)
    for name in (module,) if module in MODULES else MODULES:
        importlib.import_module(f"ops.{name}").register(app)


def _interrupted(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Interrupted


def main() -> int:
    """Run the command line and return the exit code.

    Prints the sentence of a Problem or an OSError; the exit code is then ``exit_codes.failure``.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    arguments = sys.argv[1:]
    register(arguments)
    try:
        app(prog_name="hardway")
    except Problem as problem:
        stderr.print(f"[bold red]Error:[/] {_escaped(str(problem))}")
        return failure(arguments)
    except OSError as error:
        if error.errno is None:
            traceback.print_exc()
            return failure(arguments)
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        stderr.print(f"[bold red]Error:[/] {_escaped(what)}: mend that and run the same again.")
        return failure(arguments)
    except Interrupted:
        stderr.print("Interrupted; the same command goes on from here.")
        return 130
    except Exception:
        # Python's own exit code 1 would mean a broken cluster, but only this command failed.
        traceback.print_exc()
        return failure(arguments)
    return 0


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


if __name__ == "__main__":
    sys.exit(main())
