"""The sensitivity table: what each format of each weight does to the picture, as a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import RecipeError, listing
from ..core.folder import whole_file
from ..core.ranges import Ranges, ranges_from_json, ranges_to_json
from ..core.records import decode, encode

TABLE_VERSION = 1
_VERSION_KEY = "kdexport_sensitivity"
_PEAK = 255.0
# What a table was measured on, which recipes are measured on again.
_MADE = {"prompts", "steps", "guidance", "height", "width", "seed"}


@dataclass(frozen=True)
class LayerSensitivity:
    """One weight.

    Attributes:
        name: As the module has it, with dots.
        shape: Output channels first.
        errors: Mean squared error of the picture in 8-bit steps that each format of this weight
            alone is predicted to cause, by format.
    """

    name: str
    shape: tuple[int, ...]
    errors: Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """A weight that was really stored in a format, and the loop drawn with it.

    Attributes:
        name: The weight.
        format: The format.
        predicted: The mean squared error that the table has.
        measured: The one that was found.
    """

    name: str
    format: str
    predicted: float
    measured: float


@dataclass(frozen=True)
class SensitivityTable:
    """The effect of every format of every weight of a U-Net on the picture.

    Attributes:
        model: The model as the user named it.
        weights_sha256: SHA-256 of each weight file that was read, by path.
        architecture: `architecture_digest` of each component, by role.
        made: Prompts, steps, size and so on, for people.
        layers: The weights.
        trials: Some of them measured one by one, as a check of the others.
        ranges: Ranges of the activations by layer, empty where no calibration data was given.
    """

    model: str
    weights_sha256: Mapping[str, str]
    architecture: Mapping[str, str]
    made: Mapping[str, Any]
    layers: tuple[LayerSensitivity, ...]
    trials: tuple[Trial, ...] = ()
    ranges: Ranges = field(default_factory=dict)

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that every layer has an error of."""
        return tuple(self.layers[0].errors)

    def require_architecture(self, architecture: Mapping[str, str], model: str) -> None:
        """Raises `RecipeError` where the table is of a U-Net of other names or shapes."""
        if architecture.get("unet") != self.architecture.get("unet"):
            raise RecipeError(
                f"The sensitivity table is of '{self.model}', whose U-Net has weights of other "
                f"names or shapes than '{model}'; make one with `kdexport sensitivity`."
            )


def psnr_of(error: float) -> float:
    """PSNR in dB of a mean squared error in 8-bit steps."""
    return 10 * math.log10(_PEAK**2 / error) if error > 0 else math.inf


def rank_correlation(trials: Iterable[Trial]) -> float:
    """Spearman's rank correlation of predicted and measured errors; NaN of fewer than three."""
    from scipy.stats import spearmanr

    pairs = [(each.predicted, each.measured) for each in trials]
    if len(pairs) < 3:
        return math.nan
    return float(spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)


def save_table(table: SensitivityTable, file: Path, overwrite: bool) -> None:
    """Writes a table, whole or not at all."""
    data = encode(table) | {"ranges": ranges_to_json(table.ranges)}
    text = json.dumps({_VERSION_KEY: TABLE_VERSION, **data}, indent=1, allow_nan=False)
    with whole_file(file, overwrite=overwrite) as staging:
        staging.write_text(text + "\n", encoding="utf-8")


def read_table(file: Path) -> SensitivityTable:
    """Reads what `save_table` wrote.

    Raises:
        RecipeError: There is no such file, it is no table, or one of a newer version.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"The sensitivity table '{file}' cannot be read: {error.strerror}; make one with "
            "`kdexport sensitivity`."
        ) from error
    except ValueError as error:
        raise RecipeError(
            f"The sensitivity table '{file}' is not valid JSON: {error}; make one with `kdexport "
            "sensitivity`."
        ) from error
    version = data.pop(_VERSION_KEY, None) if isinstance(data, dict) else None
    if isinstance(version, int) and version > TABLE_VERSION:
        raise RecipeError(
            f"The sensitivity table '{file}' has version {version}, this kdexport reads up to "
            f"{TABLE_VERSION}; upgrade kdexport or make the table again."
        )
    try:
        if version != TABLE_VERSION or not data["layers"]:
            raise ValueError("it has no version or no layers")
        missing = _MADE - set(data["made"])
        if missing:
            raise ValueError(f"it does not say {listing(sorted(missing))}")
        ranges = ranges_from_json(data.pop("ranges"))
        table: SensitivityTable = decode(SensitivityTable, {**data, "ranges": {}})
        for layer in table.layers:
            wrong = [v for v in layer.errors.values() if not (math.isfinite(v) and v >= 0)]
            if set(layer.errors) != set(table.formats) or wrong:
                raise ValueError(f"its errors of '{layer.name}' are not complete")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecipeError(
            f"'{file}' is no sensitivity table ({error}); make one with `kdexport sensitivity`."
        ) from error
    return SensitivityTable(**{**vars(table), "ranges": ranges})
