"""Does a bundle of the demo model still draw what captions say? Scores beside the reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.checkpoint import Checkpoint
from ..core.compare import Gates, compare_images, loosest
from ..core.errors import OptionError
from ..core.manifest import Manifest, load_manifest
from ..core.parity import QualityCheck
from ..runtimes.comparison import filling_guidance
from ..runtimes.pipeline import Pipeline
from ..runtimes.plan import Plan, make_plan
from ..runtimes.registry import Engine
from ..runtimes.request import Request
from .world.captions import scenes
from .world.scene import Scene
from .world.score import Scores, judge, summarize

Report = Callable[[str, float], None]

_SEED = 2  # of the held-out captions; the training script scores on the same ones
_BATCH = 16  # pictures drawn together
_TOLERANCE = 0.05  # how much lower the bundle's overall score may be

# The key of model_index.json that says that a pipeline was trained on the world.
WORLD_KEY = "_kdexport_world"


@dataclass(frozen=True, eq=False)
class Quality:
    """Scores and the pictures behind them.

    Attributes:
        check: The scores and the verdict.
        captions: The held-out captions.
        ours: The bundle's pictures, `(captions, height, width, 3)`, 8-bit.
        theirs: Those of diffusers, likewise.
    """

    check: QualityCheck
    captions: tuple[str, ...]
    ours: NDArray[np.uint8]
    theirs: NDArray[np.uint8]


def draws_the_world(checkpoint: Checkpoint) -> bool:
    """Whether a pipeline was trained on the procedural world, so that it can be scored.

    A ControlNet would need a picture for every caption.
    """
    return bool(checkpoint.index.get(WORLD_KEY)) and checkpoint.control is None


def measure_quality(
    bundle: Path,
    checkpoint: Checkpoint,
    captions: int,
    report: Report,
    *,
    runtime: str | None = None,
    provider: str | None = None,
) -> Quality:
    """Draws held-out captions with a bundle and with diffusers, and scores both.

    Args:
        bundle: The bundle, verified or not.
        checkpoint: The pipeline it was made of.
        captions: How many captions; the bundle's default steps and guidance are used.
        report: Told what is being done and how far it is, 0 to 1.
        runtime: The engine.
        provider: What the engine runs on.

    Raises:
        OptionError: `captions` is less than 1.
        KdexportError: The bundle or the reference cannot draw.
    """
    if captions < 1:
        raise OptionError(f"The number of captions must be at least 1, not {captions}.")
    chosen = held_out_scenes(captions)
    manifest = load_manifest(bundle)
    plans = caption_plans(manifest, [each.caption for each in chosen])
    theirs = draw_reference(checkpoint, plans, report)[:captions]
    ours = draw_bundle(bundle, plans, report, runtime=runtime, provider=provider)[:captions]
    engine = Engine.choose(manifest, bundle, runtime, provider)
    gates = loosest(each.gates_in(engine.precision_of(each.role)) for each in manifest.components)
    check = _check(chosen, ours, theirs, gates)
    return Quality(check, tuple(each.caption for each in chosen), ours, theirs)


def held_out_scenes(count: int) -> tuple[Scene, ...]:
    """The first scenes whose captions training never sees."""
    return tuple(islice(scenes(_SEED, held_out=True), count))


def caption_plans(manifest: Manifest, captions: Sequence[str]) -> list[Plan]:
    """Batches that a bundle can draw; a fixed batch is filled up by repeating the last caption."""
    guidance, images = filling_guidance(manifest, None)
    fixed = manifest.shapes.batch is not None
    images = images if fixed else _BATCH
    batches = [list(captions[start : start + images]) for start in range(0, len(captions), images)]
    if fixed:
        batches[-1] += [batches[-1][-1]] * (images - len(batches[-1]))
    return [
        make_plan(Request(prompt=batch, guidance=guidance, seed=index), manifest)
        for index, batch in enumerate(batches)
    ]


def draw_reference(
    checkpoint: Checkpoint, plans: Sequence[Plan], report: Report
) -> NDArray[np.uint8]:
    """The pictures of diffusers in float32, `(images, height, width, 3)`, 8-bit."""
    from ..runtimes.torch_ref import record_trajectories

    runs = record_trajectories(
        checkpoint, plans, lambda what, share: report("captions: reference", share)
    )
    return np.concatenate([run.images for run in runs])


def draw_bundle(
    bundle: Path,
    plans: Sequence[Plan],
    report: Report,
    *,
    runtime: str | None = None,
    provider: str | None = None,
) -> NDArray[np.uint8]:
    """The pictures of a bundle, `(images, height, width, 3)`, 8-bit."""
    pictures = []
    with Pipeline.load(bundle, runtime=runtime, provider=provider, check=False) as pipeline:
        for index, plan in enumerate(plans):
            report("captions: bundle", index / len(plans))
            *_, last = pipeline.generate(plan)
            pictures.append(pipeline.decode(last))
    return np.concatenate(pictures)


def score(chosen: Sequence[Scene], pictures: NDArray[np.uint8]) -> Scores:
    """How well pictures follow the captions of their scenes."""
    return summarize([judge(scene, image) for scene, image in zip(chosen, pictures, strict=True)])


def _check(
    chosen: Sequence[Scene],
    ours: NDArray[np.uint8],
    theirs: NDArray[np.uint8],
    gates: Gates,
) -> QualityCheck:
    bundle, reference = score(chosen, ours), score(chosen, theirs)
    pairs = zip(ours, theirs, strict=True)
    unlike = sum(not gates.image_passes(compare_images(mine, its)) for mine, its in pairs)
    return QualityCheck(
        captions=len(chosen),
        bundle=bundle.rates(),
        reference=reference.rates(),
        unlike=unlike,
        gate=f"overall at most {100 * _TOLERANCE:g} points below the reference",
        passed=bundle.overall >= reference.overall - _TOLERANCE,
    )
