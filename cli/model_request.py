"""Which model a command is about, and what is done to it before anything else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ..core.checkpoint import Checkpoint
from ..core.options import ModelOptions
from .common import hub_options, model_options
from .completion import complete_model
from .export_options import extra_options, fused_options

if TYPE_CHECKING:
    from ..export.hub import HubOptions


@dataclass(frozen=True)
class ModelRequest:
    """What the user named.

    Attributes:
        model: The model.
        extra: What is added to it, or replaced in it.
        revision: Branch, tag or commit of the Hub repository.
        token: Access token of the Hub.
        offline: Use only what the Hub's cache holds.
    """

    model: str
    extra: ModelOptions
    revision: str | None
    token: str | None
    offline: bool

    def hub(self) -> HubOptions:
        """How the Hub is reached."""
        from ..export.hub import HubOptions

        return HubOptions(self.revision, self.token, self.offline)

    def load(self) -> Checkpoint:
        """Finds the model; raises `CheckpointError` where that fails."""
        from ..export.load import load_checkpoint

        return load_checkpoint(self.model, self.hub(), self.extra)


def model_request(command: Callable[..., None]) -> Callable[..., None]:
    """Adds `MODEL` and the options about it, which become the argument `subject`."""

    @functools.wraps(command)
    def with_subject(
        model: str,
        control_scale: float | None,
        control_invert: bool | None,
        loras: tuple[str, ...],
        clip_skip: int | None,
        decoder: str | None,
        base: str | None,
        config: str | None,
        variant: str | None,
        controlnet: str | None,
        revision: str | None,
        token: str | None,
        offline: bool,
        **given: Any,
    ) -> None:
        extra = extra_options(
            decoder,
            base,
            config,
            variant,
            controlnet,
            loras,
            control_scale,
            control_invert,
            clip_skip,
        )
        command(subject=ModelRequest(model, extra, revision, token, offline), **given)

    wrapped: Callable[..., None] = with_subject
    for option in (hub_options, model_options, fused_options):
        wrapped = option(wrapped)
    return click.argument("model", shell_complete=complete_model)(wrapped)
