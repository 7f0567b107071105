"""What is drawn for calibration data, and which calls are kept of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL.Image import Image

from ..core.calibration_options import CalibrationOptions
from ..core.checkpoint import Checkpoint
from ..core.errors import OptionError
from ..core.manifest import Manifest
from ..core.sampler import Sampler
from ..runtimes.picture import sample_picture
from ..runtimes.plan import Plan, make_plan
from ..runtimes.request import Request
from .choice import ChosenCall, choose_calls, is_unguided

_UNGUIDED = 1.0


@dataclass(frozen=True)
class Subject:
    """The pipeline to record.

    Attributes:
        checkpoint: Where it lies.
        manifest: What a bundle of it in float32 would be described as; files and hashes of files
            may be missing.
        sampler: Its own scheduler, compiled.
        architecture: `architecture_digest` of each component, by role.
    """

    checkpoint: Checkpoint
    manifest: Manifest
    sampler: Sampler
    architecture: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is drawn, and what is kept of it.

    Attributes:
        plans: A plan for every prompt that a call is kept of, by the number of the prompt.
        chosen: The calls to keep.
        calls: Calls of each run.
        guidance: Guidance scale of the guided prompts.
    """

    plans: Mapping[int, Plan]
    chosen: tuple[ChosenCall, ...]
    calls: int
    guidance: float


def plan_runs(
    subject: Subject,
    prompts: Sequence[str],
    pictures: Sequence[Image],
    options: CalibrationOptions,
    samples: int,
) -> Drawn:
    """What is drawn where so many samples are to be kept.

    Every fourth prompt is drawn without guidance. The noise of a prompt is that of the seed plus
    its number, whatever else is drawn.

    Args:
        subject: The pipeline.
        prompts: What to draw; those that no call is kept of are not drawn.
        pictures: What a ControlNet draws after, in turn; empty for a built-in one.
        options: How to draw.
        samples: How many calls to keep, whatever the options say.

    Raises:
        OptionError: The pipeline cannot draw this, or has no ControlNet for the pictures.
    """
    manifest = subject.manifest
    steps = options.steps or manifest.defaults.steps
    if steps not in subject.sampler.tables:
        raise OptionError(
            f"The scheduler of '{subject.checkpoint.model}' cannot run {steps} steps; choose "
            f"at most {max(subject.sampler.tables)}."
        )
    calls = subject.sampler.table(steps).calls
    chosen = choose_calls(len(prompts), calls, samples, options.seed)
    guidance = manifest.defaults.guidance if options.guidance is None else options.guidance
    numbers = sorted({each.prompt for each in chosen})
    several = list(pictures)
    if manifest.control and not several:
        several = [sample_picture()]
    plans = {
        number: make_plan(
            Request(
                prompt=prompts[number],
                steps=steps,
                guidance=min(guidance, _UNGUIDED) if is_unguided(number) else guidance,
                seed=options.seed + number,
                height=options.height,
                width=options.width,
                control=several[number % len(several)] if several else None,
            ),
            manifest,
        )
        for number in numbers
    }
    return Drawn(plans, chosen, calls, guidance)
