"""The tables that an export compiles of a scheduler, in the files of a bundle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdexport.core.image_sampler import ImageSampler
from kdexport.core.sampler import Sampler
from kdexport.export.image_sampler import compile_image_sampler
from kdexport.export.sampler import compile_sampler

from .files import write_json

STEPS = (1, 2, 4, 20, 50)
IMAGE_STEPS = (1, 4, 9)


@dataclass(frozen=True)
class Compiled:
    """A scheduler, and its tables as they come out of a bundle's files.

    Attributes:
        scheduler: The scheduler of diffusers.
        sampler: The tables of whole schedules.
        starts: Those of image to image, or None where diffusers cannot do that with it.
    """

    scheduler: Any
    sampler: Sampler
    starts: ImageSampler | None


def compile_tables(scheduler: Any, path: Path) -> Compiled:
    """Compiles and writes the tables, and reads them again, as the weights are stored rounded.

    Args:
        scheduler: The scheduler of diffusers, which is not changed.
        path: The files to write, without their endings.
    """
    whole = compile_sampler(path.name, scheduler, {*STEPS, *IMAGE_STEPS})
    short = {steps: table for steps, table in whole.tables.items() if steps in IMAGE_STEPS}
    some = Sampler(whole.name, whole.scheduler, whole.config, short)
    starts = compile_image_sampler(scheduler, some)
    write_json(path.with_name(f"{path.name}.json"), whole.to_json())
    if starts is not None:
        write_json(path.with_name(f"{path.name}.image.json"), starts.to_json())
    return Compiled(
        scheduler,
        Sampler.from_json(_stored(whole.to_json())),
        None if starts is None else ImageSampler.from_json(_stored(starts.to_json())),
    )


def _stored(data: Any) -> Any:
    return json.loads(json.dumps(data))
