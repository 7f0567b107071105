"""Holds a bundle against diffusers: by component, by step, by image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.checkpoint import Checkpoint
from ..core.compare import Gates, compare, compare_images, loosest
from ..core.errors import BundleError, RunError
from ..core.manifest import Component, Manifest, TensorSpec, load_manifest, load_sampler
from ..core.options import VerifyOptions
from ..core.parity import NOT_EXECUTED, ComponentCheck, ImageCheck, ParityRecord, StepCheck
from .as_exported import as_exported
from .base import Runner
from .comparison import compared_calls, comparison_plans
from .components import call, call_by_rows
from .pipeline import Pipeline
from .ports import loop_signature
from .registry import Engine
from .torch_recording import Case, Trajectory
from .torch_ref import record_trajectories
from .widened import WIDENED

Report = Callable[[str, float], None]
Tested = dict[str, dict[str, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class Verification:
    """What a verification found.

    Attributes:
        record: Every figure and verdict.
        tested: For each component the sizes of its dynamic dimensions that were run.
        pictures: For each run the bundle's pictures and diffusers', `(images, height, width, 3)`,
            8-bit; without the runs that broke off.
    """

    record: ParityRecord
    tested: Tested
    pictures: tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], ...]


def verify_bundle(
    bundle: Path,
    checkpoint: Checkpoint,
    options: VerifyOptions,
    report: Report,
    *,
    runtime: str | None = None,
    provider: str | None = None,
) -> Verification:
    """Compares a bundle with the pipeline that it was made of.

    The components are fed what diffusers fed its own along the denoising trajectory, at the
    default size and, where sizes are dynamic, at a second one that is not square, with another
    number of rows. Then the whole pipeline draws the same pictures.

    Args:
        bundle: The bundle.
        checkpoint: The reference.
        options: Prompts, steps, sizes.
        report: Told what is being done and how far it is, 0 to 1.
        runtime: Engine to run the bundle on; None takes the one that reads such bundles here.
        provider: What the engine runs on; None as in `Pipeline.load`.

    Raises:
        KdexportError: The bundle or the reference cannot be run at all. A failed gate does not
            raise; ask the record.
    """
    manifest = load_manifest(bundle)
    if checkpoint.family != manifest.family:
        raise BundleError(
            f"'{checkpoint.model}' is of the family {checkpoint.family}, the bundle of "
            f"{manifest.family}; name a reference of the same architecture."
        )
    start = time.perf_counter()
    runs = record_reference(manifest, checkpoint, options, report)
    reference = time.perf_counter() - start
    engine = Engine.choose(manifest, bundle, runtime, provider)
    verification = compare_bundle(bundle, manifest, checkpoint, runs, report, engine)
    record = verification.record
    seconds = {"reference": reference, **record.seconds}
    return replace(verification, record=replace(record, seconds=seconds))


def record_reference(
    manifest: Manifest, checkpoint: Checkpoint, options: VerifyOptions, report: Report
) -> list[Trajectory]:
    """Runs diffusers on what a bundle is to be compared on.

    Args:
        manifest: Of the bundle; its files and hashes may still be missing.
        checkpoint: The reference.
        options: Prompts, steps, sizes.
        report: Told what is being done and how far it is, 0 to 1.
    """
    plans = comparison_plans(manifest, options)
    encoder = any(each.role == "vae_encoder" for each in manifest.components)
    noise = manifest.coreml is not None and manifest.coreml.prediction == "epsilon"
    return record_trajectories(checkpoint, plans, report, encoder, predict_noise=noise)


def compare_bundle(
    bundle: Path,
    manifest: Manifest,
    checkpoint: Checkpoint,
    runs: Sequence[Trajectory],
    report: Report,
    engine: Engine,
) -> Verification:
    """Compares a bundle with recorded runs of its reference, as `verify_bundle` does."""
    _require_same_calls(bundle, manifest, runs[0])
    seconds: dict[str, float] = {}
    with _timed(seconds, "components"):
        checks, tested = _check_components(bundle, manifest, runs, report, engine)
    with _timed(seconds, "images"):
        images, pictures = _check_images(bundle, manifest, runs, report, engine)
    packages = ("diffusers", "torch", "transformers")
    record = ParityRecord(
        reference={
            "model": checkpoint.model,
            "precision": "float32",
            **{name: version(name) for name in packages},
        },
        runtime=_runtime(manifest, engine),
        components=tuple(checks),
        runs=tuple(images),
        seconds=seconds,
        drawn=_drawn(runs),
    )
    return Verification(record, tested, pictures)


def _require_same_calls(bundle: Path, manifest: Manifest, run: Trajectory) -> None:
    plan = run.plan
    calls = load_sampler(manifest, bundle, plan.scheduler).table(plan.steps).calls
    if calls != len(run.latents):
        raise BundleError(
            f"The reference calls its U-Net {len(run.latents)} times in this run, the "
            f"bundle {calls} times; name a reference with the scheduler of the bundle."
        )


def _drawn(runs: Sequence[Trajectory]) -> dict[str, Any]:
    """What to tell `kdexport verify` for the same runs; the further ones it adds itself."""
    first = runs[0].plan
    own = [each.plan for each in runs if each.plan.init is None and each.plan.seed == first.seed]
    return {
        "steps": first.steps,
        "seed": first.seed,
        "guidance": first.guidance,
        "size": [first.height, first.width],
        "prompts": [plan.prompts[0] for plan in own],
    }


def _runtime(manifest: Manifest, engine: Engine) -> dict[str, str]:
    """What ran the bundle, and what of it did not run."""
    runtime = {"engine": engine.runtime, "provider": engine.provider}
    if engine.computed_in is not None:
        runtime["precision"] = engine.computed_in
    if manifest.engines and engine.runtime == "openvino":
        runtime["tensorrt"] = NOT_EXECUTED
    if engine.runtime != "onnxruntime":
        return runtime
    if manifest.engines:
        runtime["tensorrt"] = NOT_EXECUTED
    if engine.provider == "cpu" and any(each.precision == "bf16" for each in manifest.components):
        runtime["bfloat16"] = WIDENED
    return runtime


def _check_components(
    bundle: Path,
    manifest: Manifest,
    runs: Sequence[Trajectory],
    report: Report,
    engine: Engine,
) -> tuple[list[ComponentCheck], Tested]:
    """Runs every component alone on recorded inputs, one component in memory at a time."""
    checks: list[ComponentCheck] = []
    tested: Tested = {}
    for component in manifest.components:
        signature = loop_signature(component)
        cases = [as_exported(case, manifest, runs[0]) for case in compared_cases(component, runs)]
        report(f"component: {component.role}", 0.0)
        with engine.component(component, bundle) as runner:
            for index, case in enumerate(cases):
                names = [each.name for each in signature.outputs if each.name in case.expected]
                results = _run(runner, case, names)
                checks += [_judge(component, case, name, results[name], engine) for name in names]
                report(f"component: {component.role}", (index + 1) / len(cases))
        tested[component.role] = _sizes(signature.inputs, cases)
    return checks, tested


def _run(runner: Runner, case: Case, outputs: list[str]) -> Mapping[str, NDArray[np.float32]]:
    """Runs a case as the pipeline would: what has one input only, in pieces of a fixed batch."""
    if len(case.feed) > 1:
        return call(runner, case.feed, outputs)
    ((name, rows),) = case.feed.items()
    return call_by_rows(runner, name, rows, outputs)


def compared_cases(component: Component, runs: Sequence[Trajectory]) -> list[Case]:
    """The recorded calls of a component that are compared."""
    recorded = [[case for case in run.cases if case.role == component.role] for run in runs]
    if component.role in {"unet", "controlnet"}:
        return [cases[i] for cases in recorded for i in compared_calls(len(cases))]
    cases = [case for each in recorded for case in each]
    dynamic = isinstance(loop_signature(component).inputs[0].shape[0], str)
    if component.role.startswith("text_encoder") and dynamic and len(cases) > 1:
        # diffusers encodes one prompt at a time, the runtime all at once.
        return [cases[0], _stacked(cases)]
    return cases


def _stacked(cases: Sequence[Case]) -> Case:
    def join(arrays: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        # With clip-skip, the pipeline asks for hidden states of the prompts only.
        names = [name for name in arrays[0] if all(name in each for each in arrays)]
        return {name: np.concatenate([each[name] for each in arrays]) for name in names}

    feed, expected = join([each.feed for each in cases]), join([each.expected for each in cases])
    rows = len(next(iter(feed.values())))
    return Case(cases[0].role, f"{rows} rows", feed, expected)


def _judge(
    component: Component, case: Case, output: str, result: np.ndarray, engine: Engine
) -> ComponentCheck:
    precision = engine.precision_of(component.role)
    gates = component.gates_in(precision)
    difference = compare(result, case.expected[output])
    return ComponentCheck(
        role=component.role,
        output=output,
        case=case.label,
        precision=component.graded_in(precision),
        gate=gates.describe(),
        difference=difference,
        passed=gates.component_passes(difference),
    )


def _sizes(inputs: Sequence[TensorSpec], cases: Sequence[Case]) -> dict[str, tuple[int, ...]]:
    """The values that each dynamic dimension of the inputs took."""
    sizes: dict[str, set[int]] = {}
    for case in cases:
        for spec in inputs:
            for name, size in zip(spec.shape, case.feed[spec.name].shape, strict=True):
                # Not what is computed with a dimension, such as `height // 2`.
                if isinstance(name, str) and name.isidentifier():
                    sizes.setdefault(name, set()).add(size)
    return {name: tuple(sorted(values)) for name, values in sizes.items()}


def _check_images(
    bundle: Path,
    manifest: Manifest,
    runs: Sequence[Trajectory],
    report: Report,
    engine: Engine,
) -> tuple[list[ImageCheck], tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], ...]]:
    checks, pictures = [], []
    gates = loosest(each.gates_in(engine.precision_of(each.role)) for each in manifest.components)
    # The files were hashed a moment ago, by the export or by the command.
    with Pipeline.load(
        bundle, runtime=engine.runtime, provider=engine.provider, low_memory=True, check=False
    ) as pipeline:
        for run in runs:
            check, drawn = _check_image(pipeline, run, gates, report)
            checks.append(check)
            if drawn is not None:
                pictures.append((drawn, run.images))
    return checks, tuple(pictures)


def _check_image(
    pipeline: Pipeline, run: Trajectory, gates: Gates, report: Report
) -> tuple[ImageCheck, NDArray[np.uint8] | None]:
    plan, what = run.plan, f"image: {run.plan.height}x{run.plan.width}"
    case = f"{plan.height}x{plan.width}, {len(run.timesteps)} calls, guidance {plan.guidance:g}"
    if plan.init is not None:
        case += f", from a picture at strength {plan.strength:g}"
    steps: list[StepCheck] = []
    report(what, 0.0)
    gate = f"PSNR ≥ {gates.image_psnr_db:g} dB"
    try:
        for step in pipeline.generate(plan):
            difference = compare(step.latents, run.latents[step.index])
            steps.append(StepCheck(step.index, step.timestep, difference))
            report(what, (step.index + 1) / step.total)
        pictures = pipeline.decode(step.latents)
    except RunError as error:
        # NaN in the middle of a run is a failed gate, not a failed command.
        broken = str(error)
        check = ImageCheck(case, plan.prompts[0], gate, tuple(steps), (), False, broken)
        return check, None
    images = tuple(
        compare_images(ours, theirs) for ours, theirs in zip(pictures, run.images, strict=True)
    )
    passed = all(gates.image_passes(each) for each in images)
    return ImageCheck(case, plan.prompts[0], gate, tuple(steps), images, passed), pictures


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
