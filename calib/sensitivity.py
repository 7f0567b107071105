"""What each format of each weight does to the picture, without drawing it once per weight.

Drawing the loop anew for every weight and format would take days for a full-size U-Net. To first
order, a change of a weight changes the picture by its product with the gradient through the whole
loop. For random directions in the picture (signs), one backward pass gives the gradient by all
weights at once, and the mean square of its products with the rounding errors of a weight is the
squared change of the picture (Hutchinson's estimator). So a few backward passes, two or three
times the cost of drawing each, serve all weights and all formats. Of activations, whose rounding
errors are new at every call, the squared gradient times their mean square is taken.

How well that holds is measured: some weights are stored in a format one by one and the loop drawn,
and the table says what came out.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..core.errors import OptionError, WeightsError
from ..core.folder import require_space
from ..core.formats import FLOAT, Format, format_named, is_worth_it
from ..core.rounding import rounded
from .gradients import GradientFile, Reach, collect, mean_square_effect, project
from .loop import LoopModules
from .ranges import Activations, ranges_of
from .simulate import Simulation
from .table import LayerSensitivity, Trial

Report = Callable[[str, float], None]

# Of the picture, which is -1 to 1, in 8-bit steps.
_STEPS = 127.5


@dataclass(frozen=True)
class SensitivityOptions:
    """How a sensitivity table is made.

    Attributes:
        formats: The candidates, without `float`.
        projections: Random directions per prompt.
        trials: Weights and formats that are measured one by one as a check.
        seed: Of directions and trials.
    """

    formats: tuple[str, ...]
    projections: int = 4
    trials: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.formats:
            format_named(name)
        if not self.formats or FLOAT.name in self.formats:
            raise OptionError("Name at least one weight format beside float, whose error is none.")
        if self.projections < 1 or self.trials < 0:
            raise OptionError(
                f"There must be at least one projection and no fewer than zero trials, not "
                f"{self.projections} and {self.trials}."
            )


def measure_sensitivity(
    modules: LoopModules,
    options: SensitivityOptions,
    activations: Mapping[str, Activations],
    report: Report,
) -> tuple[tuple[LayerSensitivity, ...], tuple[Trial, ...]]:
    """Predicts the effect of every format of every weight of a U-Net, and checks some.

    Gradients lie in a temporary folder meanwhile: two bytes per weight and projection.

    Args:
        modules: What draws, and what.
        options: How.
        activations: Of the layers; empty where no format rounds them.
        report: Told what is being done and how far it is, 0 to 1.

    Raises:
        OptionError: A format needs ranges of activations, and there are none.
        WeightsError: A format cannot hold a weight.
        DiskSpaceError: The temporary folder has too little space.
    """
    forms = [format_named(name) for name in options.formats]
    needing = [each.name for each in forms if each.activations]
    if needing and not activations:
        raise OptionError(
            f"The format {needing[0]} rounds activations, whose ranges come from calibration data; "
            "give it with --calibration, or leave the format out."
        )
    names = [
        name for name, each in modules.unet.named_parameters() if is_worth_it(tuple(each.shape))
    ]
    with tempfile.TemporaryDirectory(prefix="kdexport-") as folder:
        files, reach = _differentiate(modules, names, options, Path(folder), report)
        layers = _layers(modules, names, forms, files, reach, activations, report)
    return layers, _try(modules, layers, options, activations, report)


def _differentiate(
    modules: LoopModules,
    names: Sequence[str],
    options: SensitivityOptions,
    folder: Path,
    report: Report,
) -> tuple[list[GradientFile], Reach]:
    parameters = dict(modules.unet.named_parameters())
    runs = [loop for loop in modules.loops for _ in range(options.projections)]
    total = len(runs)
    require_space(folder, 2 * total * sum(parameters[name].numel() for name in names))
    generator = torch.Generator().manual_seed(options.seed)
    files, reach = [], Reach()
    for index, loop in enumerate(
        each for each in modules.loops for _ in range(options.projections)
    ):
        report("gradients", index / total)
        size = (loop.plan.latent_shape[0], 3, loop.plan.height, loop.plan.width)
        direction = torch.randint(0, 2, size, generator=generator) * 2.0 - 1.0
        project(modules, loop, direction, names, reach)
        files.append(GradientFile(folder / f"{index}.f16"))
        collect(modules, names, files[-1])
    report("gradients", 1.0)
    return files, reach


def _layers(
    modules: LoopModules,
    names: Sequence[str],
    forms: Sequence[Format],
    files: Sequence[GradientFile],
    reach: Reach,
    activations: Mapping[str, Activations],
    report: Report,
) -> tuple[LayerSensitivity, ...]:
    parameters = dict(modules.unet.named_parameters())
    plan = modules.loops[0].plan
    values = plan.latent_shape[0] * 3 * plan.height * plan.width
    total, done, layers = sum(parameters[name].numel() for name in names), 0, []
    for name in names:
        report("formats", done / total)
        weight = parameters[name].detach().numpy()
        done += weight.size
        # Formats that differ in the activations only share the error of their weights.
        stored = {_stored(form): form for form in forms}
        effects: dict[tuple[str, int, bool, bool, float], float] = {}
        for key, form in stored.items():
            # One at a time: each is as large as the weight.
            change = rounded(form, weight) - weight
            if not np.isfinite(change).all():
                raise WeightsError(
                    f"The weight '{name}' has numbers that {form.name} cannot hold (up to "
                    f"{float(np.abs(weight).max()):.4g}); leave that format out."
                )
            effects[key] = mean_square_effect(name, change, files)
        layer = name.removesuffix(".weight")
        errors = {
            form.name: effects[_stored(form)]
            + _activation_effect(form, layer, reach, activations) / len(files)
            for form in forms
        }
        scaled = {form: error / values * _STEPS**2 for form, error in errors.items()}
        layers.append(LayerSensitivity(name, tuple(weight.shape), scaled))
    report("formats", 1.0)
    return tuple(layers)


def _stored(form: Format) -> tuple[str, int, bool, bool, float]:
    return form.kind, form.bits, form.grouped, form.blocked, form.sparse


def _activation_effect(
    form: Format, layer: str, reach: Reach, activations: Mapping[str, Activations]
) -> float:
    """Squared change of the picture by the rounding of a layer's input, all projections summed."""
    if form.activations is None:
        return 0.0
    noise = activations[layer].noise
    if form.kind == "float8":
        return reach.input[layer] * noise.float8
    return reach.input[layer] * (noise.signed if form.activations == "static" else noise.unsigned)


def _try(
    modules: LoopModules,
    layers: Sequence[LayerSensitivity],
    options: SensitivityOptions,
    activations: Mapping[str, Activations],
    report: Report,
) -> tuple[Trial, ...]:
    """Measures some weights one by one, from the least to the most sensitive."""
    if not options.trials:
        return ()
    simulation = Simulation(modules, ranges_of(activations))
    pairs = [
        (each.errors[form], each.name, form)
        for each in layers
        for form in options.formats
        if each.errors[form] > 0 and math.isfinite(each.errors[form])
    ]
    pairs.sort()
    places = np.linspace(0, len(pairs) - 1, min(options.trials, len(pairs))).round().astype(int)
    trials = []
    for index, place in enumerate(places):
        report("trials", index / len(places))
        predicted, name, form = pairs[place]
        found = simulation.measure({name: format_named(form)}, with_calls=False)
        trials.append(Trial(name, form, predicted, found.error))
    report("trials", 1.0)
    return tuple(trials)
