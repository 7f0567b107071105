"""`--quantize` and `--calibration`: weights of few bits, for every exporting command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.checkpoint import Checkpoint
from ..core.errors import CalibrationError
from ..core.formats import FORMATS, Format
from ..core.manifest import Manifest
from ..core.quantization import CALIBRATED, Quantization
from ..core.ranges import Ranges
from ..core.recipe import PRESETS, Recipe, preset_formats, preset_recipe, read_recipe
from .common import FOLDER
from .progress import Report

if TYPE_CHECKING:
    from ..export.weights import Weights

# What a preset is about; a recipe file may speak of any component.
_PRESET_ROLES = ("unet", "controlnet")


@dataclass(frozen=True)
class QuantizeRequest:
    """What the user asked for.

    Attributes:
        what: A format, another preset, or a recipe file.
        calibration: Calibration data, or a sensitivity table that has ranges; None where no format
            needs them.
    """

    what: str
    calibration: Path | None

    def formats(self) -> tuple[Format, ...]:
        """The formats that it names, each once.

        Raises:
            OptionError: There is no such preset.
            RecipeError: The recipe cannot be read.
        """
        names: set[str | None] = set(preset_formats(self.what)) if self.is_preset else set()
        if not self.is_preset:
            rules = read_recipe(Path(self.what)).components.values()
            names = {name for each in rules for name in (*each.layers.values(), each.default)}
        return tuple(form for name, form in FORMATS.items() if name in names)

    @property
    def is_preset(self) -> bool:
        """Whether it is a preset, not a file."""
        return self.what in PRESETS or not Path(self.what).suffix

    def resolve(
        self, checkpoint: Checkpoint, report: Report, activations: str = "unsigned"
    ) -> Quantization:
        """Reads the recipe, holds it against the model, and finds the ranges of activations.

        Args:
            checkpoint: The pipeline.
            report: Told what is being done and how far it is.
            activations: See `Quantization`.

        Raises:
            RecipeError: The recipe cannot be read, or is for another model.
            OptionError: There is no such format.
            CalibrationError: Ranges are needed and missing, or the data is damaged or of another
                model.
        """
        recipe = self._preset(checkpoint) if self.is_preset else read_recipe(Path(self.what))
        if recipe.architecture:
            recipe.require_architecture(_architecture(checkpoint), checkpoint.model)
        ranges = self._ranges(recipe, checkpoint, report)
        name = self.what if self.is_preset else Path(self.what).name
        return Quantization(name, recipe, ranges, activations)

    def _preset(self, checkpoint: Checkpoint) -> Recipe:
        static = any(form.activations == "static" for form in self.formats())
        # Of which only the U-Net's are calibrated.
        roles = (CALIBRATED,) if static else _PRESET_ROLES
        shapes = {
            role: {name: tensor.shape for name, tensor in weights.tensors.items()}
            for role, weights in _weights(checkpoint, roles).items()
        }
        return preset_recipe(self.what, shapes)

    def _ranges(self, recipe: Recipe, checkpoint: Checkpoint, report: Report) -> Ranges | None:
        """The ranges of the U-Net's activations, where the recipe needs them."""
        rules = recipe.components.get(CALIBRATED)
        named = {*rules.layers.values(), rules.default} if rules else set()
        needed = any(FORMATS[name].activations == "static" for name in named if name is not None)
        if not needed or self.calibration is None:
            return None
        if self.calibration.suffix == ".json":
            return read_ranges(self.calibration, checkpoint)
        from ..calib.ranges import measure_activations, ranges_of
        from ..core.calibration import Calibration
        from ..export.description import describe_pipeline

        unet = describe_pipeline(checkpoint, 1).manifest.component(CALIBRATED)
        with Calibration.open(self.calibration) as calibration:
            of_unet = {CALIBRATED: _architecture(checkpoint, (CALIBRATED,))[CALIBRATED]}
            calibration.require_model(of_unet, checkpoint.model)
            ports = {each.name: each.shape for each in unet.inputs}
            calibration.require_ports(CALIBRATED, ports)
            return ranges_of(measure_activations(checkpoint, calibration, report))


def quantize_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds `--quantize` and `--calibration`, which become the argument `quantize` (or None)."""

    @functools.wraps(command)
    def with_request(quantize: str | None, calibration: Path | None, **given: Any) -> None:
        request = None if quantize is None else QuantizeRequest(quantize, calibration)
        if request is None and calibration is not None:
            raise click.UsageError("--calibration is for --quantize; name a format or recipe.")
        command(quantize=request, **given)

    for option in (
        click.option(
            "--calibration",
            type=FOLDER,
            help="What `kdexport calibrate` recorded, for formats that quantize activations.",
        ),
        click.option(
            "--quantize",
            metavar="FORMAT|RECIPE.json",
            help="Store weights of U-Net and ControlNet in few bits: a format for all layers, "
            "hybrid, or a recipe that `kdexport quantize` made.",
        ),
    ):
        with_request = option(with_request)
    return with_request


def read_ranges(file: Path, checkpoint: Checkpoint) -> Ranges:
    """The ranges of activations that a sensitivity table has.

    Raises:
        RecipeError: It is no table, or of another U-Net.
        CalibrationError: It was made without calibration data.
    """
    from ..calib.table import read_table

    table = read_table(file)
    table.require_architecture(_architecture(checkpoint, (CALIBRATED,)), checkpoint.model)
    if not table.ranges:
        raise CalibrationError(
            f"The sensitivity table '{file}' has no ranges of activations; make it with "
            "--calibration, or name the calibration data."
        )
    return table.ranges


def print_coverage(bundle: Path, manifest: Manifest) -> None:
    """Prints which layers ONNX Runtime computes in integers, where a file asks for it."""
    from ..runtimes.ort_coverage import measure_coverage

    for component in manifest.components:
        formats = (component.compression or {}).get("formats", {})
        if any(FORMATS[name].activations for name in formats):
            coverage = measure_coverage(bundle / component.file)
            click.echo(f"ONNX Runtime on this CPU, {component.role}: {coverage.describe()}")


def _architecture(checkpoint: Checkpoint, names: tuple[str, ...] | None = None) -> dict[str, str]:
    from ..export.description import component_architecture

    return component_architecture(_weights(checkpoint, names or tuple(checkpoint.components)))


def _weights(checkpoint: Checkpoint, names: tuple[str, ...]) -> dict[str, Weights]:
    """The weights of components, opened: their names and shapes are those of the modules."""
    import torch

    from ..export.skeleton import build_skeleton, parameter_shapes
    from ..export.weights import open_weights

    opened = {}
    for name in names:
        if name in checkpoint.components:
            source = checkpoint.component(name)
            skeleton = build_skeleton(source, torch.float32)
            opened[name] = open_weights(source, parameter_shapes(skeleton))
    return opened
