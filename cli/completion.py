"""`kdexport completion`: what a shell needs to complete commands, options and model names."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

# What click sets where a shell asks; see `completion`.
ASKED = "_KDEXPORT_COMPLETE"
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
    click.echo(kind(root.command, {}, "kdexport", ASKED).source())


class _Bash(BashComplete):
    """bash breaks words at colons, and puts its answer in the place of what follows the last."""

    _before = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        words = split_arg_string(os.environ["COMP_WORDS"])
        index = int(os.environ["COMP_CWORD"])
        typed = [*words[:index], words[index] if index < len(words) else ""]
        joined = join_at_colons(typed)
        incomplete = joined[-1]
        if len(joined) < len(typed):
            self._before = incomplete[: incomplete.rfind(":") + 1]
        return joined[1:-1], incomplete

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{item.value.removeprefix(self._before)}"


def join_at_colons(words: Sequence[str]) -> list[str]:
    """Puts together what bash has broken: `zoo`, `:`, `bk` are one word."""
    joined: list[str] = []
    for index, word in enumerate(words):
        after = index > 1 and words[index - 1] == ":"
        if index > 0 and (word == ":" or after):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def answer_shells() -> None:
    """Has click answer bash as bash asks."""
    add_completion_class(_Bash, "bash")


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
