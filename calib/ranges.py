"""The ranges of a U-Net's activations on calibration data, and what rounding them costs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..core.calibration import Calibration
from ..core.checkpoint import Checkpoint
from ..core.ranges import LayerRange, Ranges
from ..runtimes.control_ref import residual_arguments
from .histogram import Histogram, Noise
from .loop import load_drawing_modules, unet_arguments

Report = Callable[[str, float], None]


@dataclass(frozen=True)
class Activations:
    """What goes into a layer and what it gives, over all calibration data.

    Attributes:
        range: Their ranges.
        noise: Mean squared errors of the rounded input.
    """

    range: LayerRange
    noise: Noise


@dataclass
class _Counted:
    input: Histogram = field(default_factory=Histogram)
    output: Histogram = field(default_factory=Histogram)


def measure_activations(
    checkpoint: Checkpoint, calibration: Calibration, report: Report
) -> dict[str, Activations]:
    """Runs a U-Net on calibration data and counts the inputs and outputs of its layers.

    Args:
        checkpoint: The pipeline.
        calibration: Inputs of its U-Net.
        report: Told what is being done and how far it is, 0 to 1.

    Returns:
        What was found, by name of each convolution and linear layer.

    Raises:
        CalibrationError: The data has NaN or infinite values, or makes some.
    """
    report("activations", 0.0)
    unet, _ = load_drawing_modules(checkpoint)
    counted: dict[str, _Counted] = {}
    total = calibration.record.components["unet"].samples
    with _counting(unet, counted), torch.no_grad():
        for index, feed in enumerate(calibration.samples("unet")):
            run_unet(unet, feed)
            report("activations", (index + 1) / total)
    return {name: _activations(each) for name, each in counted.items()}


def ranges_of(activations: Mapping[str, Activations]) -> Ranges:
    """The ranges alone."""
    return {name: each.range for name, each in activations.items()}


def run_unet(unet: nn.Module, feed: Mapping[str, NDArray[Any]]) -> Tensor:
    """The output of a U-Net that is fed what a bundle's is, the residuals of a ControlNet too."""
    arrays = {name: torch.from_numpy(np.asarray(array)) for name, array in feed.items()}
    output: Tensor = unet(
        arrays["sample"],
        arrays["timestep"],
        return_dict=False,
        **unet_arguments(arrays),
        **residual_arguments(arrays),
    )[0]
    return output


def _activations(counted: _Counted) -> Activations:
    entering, noise = counted.input.range()
    leaving, _ = counted.output.range()
    return Activations(LayerRange(entering, leaving), noise)


@contextlib.contextmanager
def _counting(module: nn.Module, counted: dict[str, _Counted]) -> Iterator[None]:
    """Counts what every layer takes and gives for as long as the context is open."""
    handles = [
        layer.register_forward_hook(_counter(name, counted.setdefault(name, _Counted())))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _counter(name: str, counted: _Counted) -> Callable[[nn.Module, Any, Tensor], None]:
    def count(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counted.input.add(inputs[0].numpy(), name)
        counted.output.add(output.numpy(), name)

    return count
