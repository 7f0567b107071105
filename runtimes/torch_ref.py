"""The reference: diffusers' own pipeline and modules in float32 on the CPU, recorded.

The pipeline runs in two stages, text encoders first, then U-Net and autoencoder, so that never
more than one of the two is in memory. Everything a component was fed and gave back is kept, under
the names that the bundle uses.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Sequence
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import torch
import transformers

from ..core.checkpoint import SKIPPED_STATE, Checkpoint, ComponentSource
from ..core.errors import CheckpointError
from ..core.weight_files import SAFETENSORS, weight_files
from .comparison import compared_calls
from .control_ref import control_arguments, require_same_control
from .plan import Plan
from .torch_epsilon import noise_hook
from .torch_lora import fuse_adapters
from .torch_recording import (
    Hook,
    Trajectory,
    controlnet_hook,
    hooked,
    record_encoder,
    recording_decoder,
    text_hook,
    unet_hook,
)
from .torch_single_file import load_from_single_file

Report = Callable[[str, float], None]

# Class of a pipeline to the class of the one that starts from a picture.
_FROM_PICTURE = {
    # Not diffusers' own for these, which counts the strength otherwise than all the others.
    "LatentConsistencyModelPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionControlNetPipeline": "StableDiffusionControlNetImg2ImgPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLControlNetPipeline": "StableDiffusionXLControlNetImg2ImgPipeline",
}


@torch.no_grad()
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
    for plan in plans:
        require_same_control(checkpoint, plan)
    runs = [Trajectory(plan) for plan in plans]
    report("reference: text encoders", 0.0)
    embeddings = _encode(checkpoint, runs)
    gc.collect()
    hook = None
    if predict_noise:
        checkpoint, hook = noise_hook(checkpoint)
    _draw(checkpoint, runs, embeddings, report, with_encoder, hook)
    gc.collect()
    return runs


def _encode(checkpoint: Checkpoint, runs: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """The prompt embeddings of each run, as keyword arguments of the pipeline."""
    sdxl = checkpoint.family == "sdxl"
    encoders = checkpoint.text_encoders
    parts: dict[str, Any] = {name: _load(checkpoint.component(name)) for name in encoders}
    for name in encoders:
        tokenizer = name.replace("text_encoder", "tokenizer")
        folder = checkpoint.folder / tokenizer
        # Before transformers 5 only the fast tokenizer reads a folder with tokenizer.json alone.
        alone = not (folder / "vocab.json").is_file()
        kind = transformers.CLIPTokenizerFast if alone else transformers.CLIPTokenizer
        parts[tokenizer] = kind.from_pretrained(folder)
        # transformers 5 leaves it at 1e30 where the files do not say, and diffusers overflows.
        parts[tokenizer].model_max_length = parts[name].config.max_position_embeddings
    pipeline = _pipeline(checkpoint, parts, checkpoint.pipeline_class)
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
        if checkpoint.clip_skip is not None and not sdxl:
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
    parts = {name: _load(checkpoint.component(name)) for name in names}
    fuse_adapters(_pipeline(checkpoint, parts, checkpoint.pipeline_class), checkpoint)
    for run, conditioning in zip(runs, embeddings, strict=True):
        plan = run.plan
        pipeline = _pipeline(checkpoint, parts, _pipeline_class(checkpoint, plan))
        pipeline.set_progress_bar_config(disable=True)

        def after_step(
            _: Any, index: int, timestep: Any, tensors: dict[str, Any], run: Trajectory = run
        ) -> dict[str, Any]:
            run.timesteps.append(float(timestep))
            run.latents.append(tensors["latents"].numpy().copy())
            share = (index + 1) / max(run.plan.steps, index + 1)
            report(f"reference: {run.plan.height}x{run.plan.width}", share)
            return {}

        def wanted(run: Trajectory = run, pipeline: Any = pipeline) -> bool:
            # A ControlNet's residuals are large, so only what is compared later is kept.
            calls = len(pipeline.scheduler.timesteps)
            return checkpoint.control is None or len(run.timesteps) in compared_calls(calls)

        report(f"reference: {plan.height}x{plan.width}", 0.0)
        with contextlib.ExitStack() as stack:
            if noise is not None:
                stack.enter_context(hooked(parts["unet"], noise))
            stack.enter_context(hooked(parts["unet"], unet_hook(run, wanted)))
            stack.enter_context(recording_decoder(parts["vae"], run))
            if checkpoint.control:
                hook = controlnet_hook(run, wanted)
                stack.enter_context(hooked(parts["controlnet"], hook))
            pictures = pipeline(
                **conditioning,
                **_start(plan),
                **control_arguments(checkpoint, plan),
                num_inference_steps=plan.steps,
                guidance_scale=plan.guidance,
                num_images_per_prompt=plan.images_per_prompt,
                generator=torch.Generator("cpu").manual_seed(plan.seed),
                callback_on_step_end=after_step,
                output_type="pil",
            ).images
        run.images = np.stack([np.asarray(picture) for picture in pictures])
        vae = parts["vae"].config
        run.scaling = float(vae.scaling_factor), float(getattr(vae, "shift_factor", None) or 0.0)
        if with_encoder:
            record_encoder(parts["vae"], run)


def _load(source: ComponentSource) -> Any:
    library = {"diffusers": diffusers, "transformers": transformers}[source.library]
    kind = getattr(library, source.class_name)
    try:
        if source.file is not None:
            return load_from_single_file(kind, source).eval()
        # float32 whatever the file holds: that is what the reference is.
        module = kind.from_pretrained(
            source.folder,
            torch_dtype=torch.float32,
            variant=source.variant,
            use_safetensors=weight_files(source)[0].suffix == SAFETENSORS,
            # Over what config.json says.
            **source.repaired,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{source.library} cannot load '{source.file or source.folder}': {str(error)[:300]}"
        ) from error
    return module.eval()


def _pipeline_class(checkpoint: Checkpoint, plan: Plan) -> str:
    kind = checkpoint.pipeline_class
    return kind if plan.init is None else _FROM_PICTURE[kind]


def _start(plan: Plan) -> dict[str, Any]:
    """What the pipelines take to start from noise, or from a picture."""
    if plan.init is None:
        return {"height": plan.height, "width": plan.width}
    return {"image": PIL.Image.fromarray(plan.init), "strength": plan.strength}


def _pipeline(checkpoint: Checkpoint, parts: dict[str, Any], class_name: str) -> Any:
    """A pipeline over the checkpoint with the given parts only."""
    kind = getattr(diffusers, class_name)
    scheduler = getattr(diffusers, checkpoint.scheduler["_class_name"])
    names = ["vae", "text_encoder", "tokenizer", "unet"]
    if checkpoint.control:
        names.append("controlnet")
    options: dict[str, Any] = {"scheduler": scheduler.from_config(dict(checkpoint.scheduler))}
    if checkpoint.family == "sdxl":
        names += ["text_encoder_2", "tokenizer_2"]
        zeros = checkpoint.index.get("force_zeros_for_empty_prompt", True)
        options |= {"force_zeros_for_empty_prompt": zeros, "add_watermarker": False}
    else:
        options |= {"safety_checker": None, "feature_extractor": None}
        options |= {"requires_safety_checker": False}
    return kind(**{name: parts.get(name) for name in names}, **options)
