"""Recipes that meet a size or a quality, for `kdexport quantize`."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.checkpoint import Checkpoint
from ..core.coreml_formats import formats_of, require_formats
from ..core.errors import OptionError, RecipeError
from ..core.folder import whole_file
from ..core.formats import FORMATS, format_named
from ..core.recipe import LayerFormats, Recipe
from .compressing import FLOAT_BYTES, Target
from .loops import Drawn, open_model_loops
from .progress import Report
from .sensitivity import make_table

if TYPE_CHECKING:
    from ..calib.search import Choice
    from ..calib.simulate import Simulated
    from ..calib.table import SensitivityTable
    from ..export.description import Description

TABLE = "table.json"
_UNITS = {"": 1_000_000, "MB": 1_000_000, "GB": 1_000_000_000, "KB": 1000}


@dataclass(frozen=True)
class Budget:
    """What a recipe is to meet.

    Attributes:
        bytes: What the U-Net's compressible weights may take, or None.
        psnr_db: PSNR that the picture must have, or None.
        candidates: Formats to choose among; None takes those of weights only that table and
            backend have.
    """

    bytes: int | None = None
    psnr_db: float | None = None
    candidates: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.bytes is None) == (self.psnr_db is None):
            raise OptionError("Give either --target-size or --target-psnr, not both.")
        if self.psnr_db is not None and not 0 < self.psnr_db < math.inf:
            raise OptionError(
                f"A PSNR must be a positive number of dB, not {self.psnr_db:g}; 40 is one."
            )

    @property
    def name(self) -> str:
        """What recipes that meet it are called."""
        if self.bytes is not None:
            return f"mixed-{self.bytes / 1e6:g}MB"
        return f"mixed-{self.psnr_db:g}dB"


def parse_size(text: str) -> int:
    """Bytes of a size such as `180MB`, `1.2GB` or `180` (MB); raises `OptionError` otherwise."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(KB|MB|GB|)\s*", text, re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise OptionError(f"'{text}' is no size; give MB or GB, such as 180MB.")
    return round(float(found[1]) * _UNITS[found[2].upper()])


def candidates_of(table: SensitivityTable, target: Target) -> tuple[str, ...]:
    """The formats of a table that leave activations as they are and that the backend has."""
    if target.backend == "coreml":
        had = formats_of(target.system)
    else:
        had = tuple(name for name, form in FORMATS.items() if form.kind == "integer")
    fitting = tuple(
        name for name in table.formats if name in had and FORMATS[name].activations is None
    )
    if not fitting:
        raise OptionError(
            f"The sensitivity table has no format that {target.backend} has, only "
            f"{', '.join(table.formats)}; make one with `kdexport sensitivity --formats`."
        )
    return fitting


def require_candidates(candidates: tuple[str, ...], target: Target) -> None:
    """Raises `OptionError` where a format is none that a backend has for all weights."""
    if target.backend == "coreml":
        require_formats(map(format_named, candidates), target.system)
        return
    for name in candidates:
        form = format_named(name)
        if form.kind == "palette" or form.activations == "dynamic":
            raise OptionError(
                f"The format {name} is none that {target.backend} has for every weight; leave it "
                "out of --candidates."
            )


def make_recipe(
    budget: Budget,
    checkpoint: Checkpoint,
    target: Target,
    table_file: Path | None,
    folder: Path,
    report: Report,
) -> Path:
    """Finds a recipe that meets a budget and writes it into a folder.

    Args:
        budget: What to meet.
        checkpoint: The pipeline.
        target: What it is for.
        table_file: The sensitivity table; None takes the folder's, or makes it.
        folder: Where recipe and table are kept.
        report: Told what is being done and how far it is.

    Raises:
        RecipeError: The table is of another model, or cannot be read.
        OptionError: The budget cannot be met; the message says what can.
    """
    from ..calib.budget import reaching_psnr, within_size
    from ..calib.simulate import Simulation
    from ..export.description import describe_pipeline

    table = _table(checkpoint, target, table_file, folder, report)
    made = table.made
    drawn = Drawn(
        count=len(made["prompts"]),
        steps=made["steps"],
        height=made["height"],
        width=made["width"],
        guidance=made["guidance"],
        seed=made["seed"],
    )
    model = describe_pipeline(checkpoint, drawn.steps)
    table.require_architecture(model.architecture, checkpoint.model)
    if table_file is None and table.weights_sha256 != model.manifest.source.weights_sha256:
        raise RecipeError(
            f"The sensitivity table '{folder / TABLE}' is of other weights than those of "
            f"'{checkpoint.model}'; name another output folder, or the table with --table."
        )
    candidates = budget.candidates or candidates_of(table, target)
    require_candidates(candidates, target)
    modules = open_model_loops(checkpoint, model, drawn, report, tuple(made["prompts"]))
    simulation = Simulation(modules, table.ranges)
    each = FLOAT_BYTES[target.backend]
    if budget.bytes is not None:
        choice, found = within_size(table, simulation, candidates, budget.bytes, each)
    else:
        wanted = budget.psnr_db or 0.0
        choice, found = reaching_psnr(table, simulation, candidates, wanted, each, report)
    file = folder / f"{target.backend}-{budget.name}.recipe.json"
    _save(_recipe(model, table, budget, candidates, choice, found), file)
    return file


def _table(
    checkpoint: Checkpoint,
    target: Target,
    file: Path | None,
    folder: Path,
    report: Report,
) -> SensitivityTable:
    from ..calib.sensitivity import SensitivityOptions
    from ..calib.table import read_table, save_table

    standing = file or folder / TABLE
    if file is not None or standing.exists():
        return read_table(standing)
    if target.backend == "coreml":
        formats = tuple(f for f in formats_of(target.system) if f.startswith("palette"))
        formats = tuple(f for f in formats if "-" not in f)
    else:
        formats = ("int8", "int4")
    drawn = Drawn(height=target.verify.height, width=target.verify.width)
    table = make_table(checkpoint, drawn, SensitivityOptions(formats), None, report)
    save_table(table, standing, overwrite=False)
    return table


def _recipe(
    model: Description,
    table: SensitivityTable,
    budget: Budget,
    candidates: tuple[str, ...],
    choice: Choice,
    found: Simulated,
) -> Recipe:
    most, _ = Counter(choice.formats.values()).most_common(1)[0]
    layers = {name: form for name, form in choice.formats.items() if form != most}
    target = {"bytes": budget.bytes} if budget.bytes is not None else {"psnr_db": budget.psnr_db}
    return Recipe(
        components={"unet": LayerFormats(most, layers)},
        architecture={"unet": table.architecture["unet"]},
        made={
            "model": model.manifest.source.model,
            "weights_sha256": dict(model.manifest.source.weights_sha256),
            "table": {"model": table.model, **table.made},
            "target": target,
            "candidates": list(candidates),
            "bytes": choice.bytes,
            "predicted_image_psnr_db": round(choice.predicted_psnr_db, 2),
        },
        expected={
            "image_psnr_db": round(found.image_psnr_db, 2),
            "unet_psnr_db": round(found.unet_psnr_db or 0.0, 2),
        },
    )


def _save(recipe: Recipe, file: Path) -> None:
    text = json.dumps(recipe.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(file, overwrite=True) as staging:
        staging.write_text(text + "\n", encoding="utf-8")
