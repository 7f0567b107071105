"""`kdexport completion`: what a shell needs to complete commands, options and model names."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print what completes commands and models in a shell.")
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print what completes commands, options and model names in SHELL.

    Shells read it from a file, which this makes:

    \b
    kdexport completion bash > ~/.local/share/bash-completion/completions/kdexport
    kdexport completion zsh > ~/.zfunc/_kdexport    (a folder of $fpath)
    kdexport completion fish > ~/.config/fish/completions/kdexport.fish
    """  # noqa: D301  # click reads the backspace
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root()
    click.echo(kind(root.command, {}, "kdexport", "_KDEXPORT_COMPLETE").source())


def complete_model(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of models that begin with `incomplete`; where there is none, files are offered."""
    from ..export.demo import DEMO_ADAPTERS, DEMO_MODELS
    from ..export.zoo import zoo

    names = [*DEMO_MODELS, *DEMO_ADAPTERS, *(f"zoo:{name}" for name in zoo())]
    names += [hub for entry in zoo().values() for hub in entry.hub]
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]
