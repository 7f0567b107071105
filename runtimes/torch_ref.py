"""The reference: diffusers' own pipeline and modules in float32 on the CPU, recorded.

The pipeline runs in two stages, text encoders first, then U-Net and autoencoder, so that never
more than one of the two is in memory. Everything a component was fed and gave back is kept, or
handed on, under the names that the bundle uses.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..core.checkpoint import SKIPPED_STATE, Checkpoint
from .comparison import compared_calls
from .control_ref import control_arguments, require_same_control
from .plan import Plan
from .torch_epsilon import noise_hook
from .torch_lora import fuse_adapters
from .torch_pipeline import (
    load_component,
    load_tokenizer,
    make_pipeline,
    pipeline_class,
    start_arguments,
)
from .torch_recording import (
    Hook,
    Sink,
    Trajectory,
    controlnet_hook,
    hooked,
    instead_of_decoding,
    record_encoder,
    recording_decoder,
    text_hook,
    unet_hook,
)

Report = Callable[[str, float], None]


def record_trajectories(
    checkpoint: Checkpoint,
    plans: Sequence[Plan],
    report: Report,
    with_encoder: bool = False,
    predict_noise: bool = False,
) -> list[Trajectory]:
    """Runs diffusers on each plan.

    Args:
        checkpoint: The pipeline to run.
        plans: What to draw; the scheduler is always the checkpoint's own.
        report: Told what is being done and how far it is, 0 to 1.
        with_encoder: Also record the VAE encoder on the pictures.
        predict_noise: Draw with the noise that the U-Net's predictions stand for.

    Raises:
        BundleError: The U-Net is to predict noise, and does so anyway.
        CheckpointError: diffusers or transformers cannot load a component or fuse an adapter, or
            only one of the bundle and the reference has a ControlNet.
        DependencyError: There are adapters, and peft is missing.
    """
    runs = [Trajectory(plan) for plan in plans]
    _run(checkpoint, runs, report, with_encoder, predict_noise)
    return runs


def stream_calls(checkpoint: Checkpoint, plans: Sequence[Plan], sink: Sink) -> None:
    """Runs diffusers on each plan and keeps nothing: what components are fed goes to `sink`.

    No picture is decoded. First come the calls of the text encoders for all plans, then those of
    the other components, plan by plan.

    Args:
        checkpoint: The pipeline to run.
        plans: What to draw; the scheduler is always the checkpoint's own.
        sink: Takes the calls, and so learns how far it is.

    Raises:
        CheckpointError: As `record_trajectories`.
        DependencyError: There are adapters, and peft is missing.
    """
    runs = [Trajectory(plan, sink) for plan in plans]
    _run(checkpoint, runs, lambda what, share: None, False, False)


@torch.no_grad()
def _run(
    checkpoint: Checkpoint,
    runs: Sequence[Trajectory],
    report: Report,
    with_encoder: bool,
    predict_noise: bool,
) -> None:
    for run in runs:
        require_same_control(checkpoint, run.plan)
    report("reference: text encoders", 0.0)
    embeddings = _encode(checkpoint, runs)
    gc.collect()
    hook = None
    if predict_noise:
        checkpoint, hook = noise_hook(checkpoint)
    _draw(checkpoint, runs, embeddings, report, with_encoder, hook)
    gc.collect()


def _encode(checkpoint: Checkpoint, runs: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """The prompt embeddings of each run, as keyword arguments of the pipeline."""
    sdxl = checkpoint.family == "sdxl"
    encoders = checkpoint.text_encoders
    parts: dict[str, Any] = {name: load_component(checkpoint.component(name)) for name in encoders}
    for name in encoders:
        tokenizer = name.replace("text_encoder", "tokenizer")
        most = parts[name].config.max_position_embeddings
        parts[tokenizer] = load_tokenizer(checkpoint, tokenizer, most)
    pipeline = make_pipeline(checkpoint, parts, checkpoint.pipeline_class)
    fuse_adapters(pipeline, checkpoint)
    for name in encoders:
        if not hasattr(parts[name], "text_model"):
            # diffusers' clip_skip looks for the norm where transformers had it before version 5.
            # Not any sooner: its loader of adapters takes it for a module.
            vars(parts[name])["text_model"] = parts[name]
    names = ["prompt_embeds", "negative_prompt_embeds"]
    if sdxl:
        names += ["pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    embeddings = []
    for run in runs:
        with contextlib.ExitStack() as stack:
            for name in encoders:
                stack.enter_context(hooked(parts[name], text_hook(name, run)))
            results = pipeline.encode_prompt(
                prompt=list(run.plan.prompts),
                device=torch.device("cpu"),
                num_images_per_prompt=1,
                do_classifier_free_guidance=run.plan.guided,
                negative_prompt=None if run.plan.negatives is None else list(run.plan.negatives),
                clip_skip=checkpoint.clip_skip,
            )
        if checkpoint.clip_skip is not None and not sdxl and run.cases:
            # The pipeline normalizes the skipped state itself, behind the hook's back.
            run.cases[0].expected[SKIPPED_STATE] = results[0].numpy().copy()
        embeddings.append(dict(zip(names, results, strict=True)))
    return embeddings


def _draw(
    checkpoint: Checkpoint,
    runs: Sequence[Trajectory],
    embeddings: Sequence[dict[str, Any]],
    report: Report,
    with_encoder: bool,
    noise: Hook | None,
) -> None:
    names = ("unet", "vae", "controlnet") if checkpoint.control else ("unet", "vae")
    parts = {name: load_component(checkpoint.component(name)) for name in names}
    fuse_adapters(make_pipeline(checkpoint, parts, checkpoint.pipeline_class), checkpoint)
    for run, conditioning in zip(runs, embeddings, strict=True):
        plan = run.plan
        pipeline = make_pipeline(checkpoint, parts, pipeline_class(checkpoint, plan))
        pipeline.set_progress_bar_config(disable=True)

        def after_step(
            _: Any, index: int, timestep: Any, tensors: dict[str, Any], run: Trajectory = run
        ) -> dict[str, Any]:
            run.timesteps.append(float(timestep))
            if run.sink is None:
                run.latents.append(tensors["latents"].numpy().copy())
            share = (index + 1) / max(run.plan.steps, index + 1)
            report(f"reference: {run.plan.height}x{run.plan.width}", share)
            return {}

        def wanted(run: Trajectory = run, pipeline: Any = pipeline) -> bool:
            if run.sink is not None:
                return run.sink.wants(run)
            # A ControlNet's residuals are large, so only what is compared later is kept.
            calls = len(pipeline.scheduler.timesteps)
            return checkpoint.control is None or len(run.timesteps) in compared_calls(calls)

        report(f"reference: {plan.height}x{plan.width}", 0.0)
        with contextlib.ExitStack() as stack:
            if noise is not None:
                stack.enter_context(hooked(parts["unet"], noise))
            stack.enter_context(hooked(parts["unet"], unet_hook(run, wanted)))
            decoder = recording_decoder if run.sink is None else instead_of_decoding
            stack.enter_context(decoder(parts["vae"], run))
            if checkpoint.control:
                hook = controlnet_hook(run, wanted)
                stack.enter_context(hooked(parts["controlnet"], hook))
            pictures = pipeline(
                **conditioning,
                **start_arguments(plan),
                **control_arguments(checkpoint, plan),
                num_inference_steps=plan.steps,
                guidance_scale=plan.guidance,
                num_images_per_prompt=plan.images_per_prompt,
                generator=torch.Generator("cpu").manual_seed(plan.seed),
                callback_on_step_end=after_step,
                output_type="pil",
            ).images
        if run.sink is not None:
            continue
        run.images = np.stack([np.asarray(picture) for picture in pictures])
        vae = parts["vae"].config
        run.scaling = float(vae.scaling_factor), float(getattr(vae, "shift_factor", None) or 0.0)
        if with_encoder:
            record_encoder(parts["vae"], run)
