"""The command line: `kdexport COMMAND`. Commands are imported when they are used."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from .. import __version__
from ..core.errors import CheckpointWarning, KdexportError
from .cancel import cancellable
from .common import show_warnings
from .completion import ASKED, answer_shells

COMMANDS: dict[str, str] = {
    "onnx": "onnx:onnx",
    "coreml": "coreml:coreml",
    "tensorrt": "tensorrt:tensorrt",
    "run": "run:run",
    "verify": "verify:verify",
    "bench": "bench:bench",
    "inspect": "inspect:inspect",
    "push": "push:push",
    "models": "models:models",
    "calibrate": "calibrate:calibrate",
    "sensitivity": "sensitivity:sensitivity",
    "quantize": "quantize:quantize",
    "demo": "demo:demo",
    "doctor": "doctor:doctor",
    "completion": "completion:completion",
}

_CANCELLED = 1


class _LazyGroup(click.Group):
    """Finds commands in `COMMANDS`, so that `kdexport run` never imports torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(f".{module}", __package__), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kdexport")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Export distilled diffusion models, and prove that they still draw the same picture.

    Exit status: 0 done, 1 an error, 2 wrong usage, 3 a parity gate failed.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; exits the process with the status of the command."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Their notes about optional packages are not about the user's model.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    if ASKED in os.environ:
        answer_shells()
    show_warnings(CheckpointWarning)
    try:
        with cancellable():
            status = cli.main(arguments, prog_name="kdexport", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        status = exit_.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Cancelled; nothing was written.", err=True)
        status = _CANCELLED
    except KdexportError as error:
        if "--debug" in arguments:
            raise
        click.secho(f"Error: {error}", fg="red", err=True)
        status = error.exit_code
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
