"""A compressed model drawn without exporting it: weights and activations rounded in torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.compare import Difference, compare
from ..core.errors import RunError, listing
from ..core.formats import Format
from ..core.ranges import LayerRange, Ranges, require_ranges
from ..core.rounding import rounded, to_float8
from .loop import LoopModules
from .table import psnr_of

_WEIGHT = ".weight"
# Rounded weights that are kept for the next plan, in bytes: clustering takes longer than drawing.
_KEPT = 1 << 30


@dataclass(frozen=True)
class Simulated:
    """What a compressed model was found to draw.

    Attributes:
        error: Mean squared error of the pictures in 8-bit steps, not rounded to them.
        unet_psnr_db: Lowest PSNR of the U-Net's output at any call of the uncompressed loop; None
            where that was not asked for.
    """

    error: float
    unet_psnr_db: float | None

    @property
    def image_psnr_db(self) -> float:
        """PSNR of the pictures in dB."""
        return psnr_of(self.error)


class Simulation:
    """Draws some pictures with compressed weights and holds them against those without."""

    def __init__(self, modules: LoopModules, ranges: Ranges) -> None:
        """Draws the pictures without compression.

        Args:
            modules: What draws, and what.
            ranges: Of the activations; empty where no format needs them.
        """
        self._modules = modules
        self._ranges = ranges
        self._weights = dict(modules.unet.named_parameters())
        self._rounded: dict[tuple[str, str], Tensor] = {}
        self._drawn = [loop.draw(modules.unet) for loop in modules.loops]
        with torch.no_grad():
            self._pictures = [
                loop.decode(modules.vae, samples[-1])
                for loop, (samples, _) in zip(modules.loops, self._drawn, strict=True)
            ]

    def measure(self, plan: Mapping[str, Format], *, with_calls: bool = True) -> Simulated:
        """Draws with the formats of a plan.

        Args:
            plan: By name of the weight; those that are not named stay as they are.
            with_calls: Also compare the U-Net's outputs call by call.

        Raises:
            CalibrationError: The activations of a layer have no range.
            RunError: What is drawn is not finite.
        """
        modules, errors = self._modules, list[float]()
        differences: list[Difference] = []
        with self._compressed(plan), torch.no_grad():
            for loop, drawn, picture in zip(
                modules.loops, self._drawn, self._pictures, strict=True
            ):
                samples, _ = loop.draw(modules.unet)
                difference = loop.decode(modules.vae, samples[-1]) - picture
                errors.append(float(difference.double().square().mean()) * 127.5**2)
                if with_calls:
                    for index, output in enumerate(drawn[1]):
                        given = loop.call(modules.unet, drawn[0][index], index)
                        differences.append(compare(given.numpy(), output.numpy()))
        if not np.isfinite(errors).all() or not all(each.finite for each in differences):
            forms = listing(sorted({form.name for form in plan.values()}))
            raise RunError(
                f"The picture is NaN or infinite with weights stored as {forms}; leave those "
                "formats out."
            )
        lowest = min((each.psnr_db for each in differences), default=None)
        return Simulated(float(np.mean(errors)), lowest)

    @contextlib.contextmanager
    def _compressed(self, plan: Mapping[str, Format]) -> Iterator[None]:
        changed = {name: form for name, form in plan.items() if form.kind != "float"}
        layers = dict(self._modules.unet.named_modules())
        static = [_layer(name) for name, form in changed.items() if form.activations == "static"]
        require_ranges(self._ranges, static)
        kept = {name: self._weights[name].data for name in changed}
        handles = []
        try:
            for name, form in changed.items():
                self._weights[name].data = self._stored(name, form)
                if form.activations:
                    found = self._ranges.get(_layer(name))
                    hook = _rounding(form, found)
                    handles.append(layers[_layer(name)].register_forward_pre_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for name, weight in kept.items():
                self._weights[name].data = weight

    def _stored(self, name: str, form: Format) -> Tensor:
        """A weight after it was stored in a format."""
        key = name, form.name
        if key in self._rounded:
            return self._rounded[key]
        stored = torch.from_numpy(rounded(form, self._weights[name].detach().numpy()))
        if stored.nbytes + sum(each.nbytes for each in self._rounded.values()) <= _KEPT:
            self._rounded[key] = stored
        return stored


def _layer(weight: str) -> str:
    return weight.removesuffix(_WEIGHT)


def _rounding(form: Format, found: LayerRange | None) -> Any:
    """A hook that rounds what a layer takes, as signed integers where ranges are calibrated."""

    def round_input(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first, *others = inputs
        if form.kind == "float8":
            assert found is not None
            scale = found.input.float8
            values = torch.from_numpy(to_float8((first / scale).numpy())) * scale
        elif form.activations == "static":
            assert found is not None
            scale = found.input.signed
            values = torch.clamp(torch.round(first / scale), -128, 127) * scale
        else:
            low, high = min(float(first.min()), 0.0), max(float(first.max()), 0.0)
            scale = (high - low) / 255 or 1.0
            zero = round(-low / scale)
            values = (torch.clamp(torch.round(first / scale) + zero, 0, 255) - zero) * scale
        return (values, *others)

    return round_input
