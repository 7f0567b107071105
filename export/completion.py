"""Repositories that hold a part of a pipeline, and what the zoo knows to complete them with."""

from __future__ import annotations

import warnings
from dataclasses import replace

from ..core.adapters import Adapter
from ..core.checkpoint import Checkpoint
from ..core.errors import CheckpointWarning
from ..core.options import ModelOptions
from .demo import DEMO_ADAPTERS
from .make import ADAPTER_FOLDER, made_of
from .zoo import zoo_match


def completed(model: str, revision: str | None, extra: ModelOptions) -> ModelOptions:
    """The options with what makes a pipeline of a model that is known to be a part of one.

    What the options already say stays, so that completing them again changes nothing.

    Args:
        model: What the user named: a Hub id, an adapter in the box, or anything else, which is left
            alone.
        revision: The commit or branch of it that the user asked for.
        extra: What the user said.
    """
    if model in DEMO_ADAPTERS:
        return _with_adapter(replace(extra, base=extra.base or "demo"), Adapter(model))
    known = zoo_match(model)
    if known is None or known.base is None or model not in known.hub:
        return extra
    options = replace(extra, base=extra.base or known.base, decoder=extra.decoder or known.decoder)
    if known.adapter is not None:
        options = _with_adapter(options, Adapter(model, revision=revision))
    if known.controlnet is not None:
        options = replace(options, controlnet=options.controlnet or model)
    if options != extra:
        warnings.warn(
            f"'{model}' is a part of a pipeline; '{options.base}' completes it.",
            CheckpointWarning,
            stacklevel=2,
        )
    return options


def is_add_on(model: str, extra: ModelOptions) -> bool:
    """Whether a model is itself an adapter or the ControlNet, so that its base gives the rest."""
    return extra.controlnet == model or any(each.model == model for each in extra.adapters)


def with_made_adapter(checkpoint: Checkpoint, extra: ModelOptions) -> ModelOptions:
    """The options with the adapter that kdexport made beside a pipeline of random weights."""
    folder = checkpoint.folder / ADAPTER_FOLDER
    if made_of(checkpoint.index) is None or not folder.is_dir():
        return extra
    return _with_adapter(extra, Adapter(str(folder)))


def _with_adapter(extra: ModelOptions, adapter: Adapter) -> ModelOptions:
    """The options with an adapter before all others, unless it is among them."""
    if any(each.model == adapter.model for each in extra.adapters):
        return extra
    return replace(extra, adapters=(adapter, *extra.adapters))
