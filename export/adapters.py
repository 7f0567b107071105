"""Adapters fused into weights while these are streamed: one tensor at a time, in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.checkpoint import Checkpoint
from ..core.errors import WeightsError, listing
from .adapter_keys import read_updates
from .adapter_tensors import LowRank
from .tensors import ReadableTensor
from .weights import Weights


@dataclass(frozen=True)
class FusedTensor:
    """A weight to which the update of an adapter is added when it is read.

    Attributes:
        base: The weight, stored or itself fused.
        update: What is added to it.
        scale: The factor of the update, its own times the user's.
    """

    base: ReadableTensor
    update: LowRank
    scale: float

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, so that a float16 checkpoint does not round the sum."""
        return np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""
        return self.base.shape

    def read(self) -> NDArray[Any]:
        """Reads the weight and adds the update, in float32."""
        weight = self.base.read().astype(np.float32, copy=False)
        update = self.update.product()
        update *= np.float32(self.scale)
        update = update.reshape(self.shape)
        update += weight
        return update


def fuse_adapters(checkpoint: Checkpoint, weights: Mapping[str, Weights]) -> dict[str, Weights]:
    """Fuses the adapters of a checkpoint into its opened weights.

    Args:
        checkpoint: The pipeline and its adapters.
        weights: The opened weights of every component.

    Returns:
        The weights, in which what the adapters update is fused when it is read.

    Raises:
        CheckpointError: An adapter cannot be read or is of a kind that cannot be fused.
        WeightsError: An adapter changes nothing, or has tensors that fit no module; the message
            names them.
    """
    fused = {component: dict(opened.tensors) for component, opened in weights.items()}
    for source in checkpoint.adapters:
        adapter = source.adapter
        found: list[LowRank] = []
        unused: list[str] = []
        for file in source.files:
            updates, left = read_updates(file, checkpoint)
            found += updates
            unused += left
        placed = [(update, _weight_name(update, weights)) for update in found]
        _require_fit(adapter.model, checkpoint.model, placed, unused, weights)
        for update, name in placed:
            tensors = fused[update.component]
            tensors[str(name)] = FusedTensor(
                tensors[str(name)], update, update.scale * adapter.scale
            )
    return {component: Weights(tensors) for component, tensors in fused.items()}


def _weight_name(update: LowRank, weights: Mapping[str, Weights]) -> str | None:
    """The weight of the updated module; transformers begins its names with `text_model` or not."""
    path = update.path
    candidates = (path, f"text_model.{path}", path.removeprefix("text_model."))
    names = (f"{candidate}.weight" for candidate in candidates)
    return next((name for name in names if name in weights[update.component].tensors), None)


def _require_fit(
    adapter: str,
    model: str,
    placed: Sequence[tuple[LowRank, str | None]],
    unused: Sequence[str],
    weights: Mapping[str, Weights],
) -> None:
    lost = [update.down.key for update, name in placed if name is None] + list(unused)
    reshaped = []
    for update, name in placed:
        shape = weights[update.component].tensors[name].shape if name else None
        if shape and not update.fits(shape):
            factors = f"{list(update.down.shape)} and {list(update.up.shape)}"
            reshaped.append(f"{update.down.key} {factors} for a weight {list(shape)}")
    problems = [
        f"{len(names)} {what} ({listing(names, most=4)})"
        for names, what in ((lost, "that no module takes"), (reshaped, "of another shape"))
        if names
    ]
    if problems:
        raise WeightsError(
            f"The adapter '{adapter}' does not fit '{model}': tensors {'; '.join(problems)}; use "
            "an adapter that was trained for this architecture."
        )
    # Stops at the first that is not zero: adapters begin their training with zeros on one side.
    if not any(update.up.read().any() and update.down.read().any() for update, _ in placed):
        what = "all its updates are zero" if placed else "it holds no tensors"
        raise WeightsError(f"The adapter '{adapter}' changes nothing: {what}; leave it out.")
