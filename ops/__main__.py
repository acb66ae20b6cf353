"""The command line: ``./hardway``."""

import signal
import sys
from types import FrameType

import typer

from lab.problem import Problem
from ops.display import stderr


class Interrupted(BaseException):
    """Ctrl-C or a request to end: unwinds everything, so that no child process is left."""


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


def _register() -> None:
    from ops import (
        artifacts,
        bench,
        diagnose,
        doctor,
        drift,
        kubeconfig,
        kubectl,
        lifecycle,
        picture,
        preview,
        ssh,
        tests,
        validate,
    )

    app.add_typer(artifacts.app, name="artifacts", rich_help_panel="Offline and mirrors")
    lifecycle.register(app)
    for verb in (preview, validate, drift, kubectl, kubeconfig, ssh, diagnose):
        verb.register(app)
    doctor.register(app)
    bench.register(app)
    picture.register(app)
    tests.register(app)


def _interrupted(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Interrupted


def main() -> int:
    """Run the command line; a Problem becomes its sentence and exit code 1."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    _register()
    try:
        app(prog_name="hardway")
    except Problem as problem:
        stderr.print(f"[bold red]Error:[/] {_escaped(str(problem))}")
        return 1
    except OSError as error:
        if error.errno is None:
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        stderr.print(f"[bold red]Error:[/] {_escaped(what)}: mend that and run the same again.")
        return 1
    except Interrupted:
        stderr.print("Interrupted; the same command goes on from here.")
        return 130
    return 0


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


if __name__ == "__main__":
    sys.exit(main())
