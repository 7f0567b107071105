"""The reference: diffusers' own pipeline and modules in float32 on the CPU, recorded.

The pipeline runs in two stages, text encoders first, then U-Net and autoencoder, so that never
more than one of the two is in memory. Everything a component was fed and gave back is kept, under
the names that the bundle uses.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from ..core.checkpoint import Checkpoint, ComponentSource
from ..core.errors import CheckpointError
from .request import Plan

Arrays = dict[str, NDArray[Any]]
Report = Callable[[str, float], None]
Hook = Callable[[Any, tuple[Any, ...], dict[str, Any], Any], None]


@dataclass(frozen=True)
class Case:
    """What a component was fed, and what it gave, by the names of the bundle's ports."""

    role: str
    label: str
    feed: Arrays
    expected: Arrays


@dataclass
class Trajectory:
    """One recorded run.

    Attributes:
        plan: What was drawn.
        cases: The component calls.
        timesteps: The timestep of every model call.
        latents: The latents after every call, `(images, channels, height, width)`, float32.
        images: The pictures, `(images, height, width, 3)`, 8-bit.
    """

    plan: Plan
    cases: list[Case] = field(default_factory=list)
    timesteps: list[float] = field(default_factory=list)
    latents: list[NDArray[np.float32]] = field(default_factory=list)
    images: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0, 0, 3), np.uint8))


@torch.no_grad()
def record_trajectories(
    checkpoint: Checkpoint, plans: Sequence[Plan], report: Report, with_encoder: bool = False
) -> list[Trajectory]:
    """Runs diffusers on each plan.

    Args:
        checkpoint: The pipeline to run.
        plans: What to draw; the scheduler is always the checkpoint's own.
        report: Told what is being done and how far it is, 0 to 1.
        with_encoder: Also record the VAE encoder on the pictures.

    Raises:
        CheckpointError: diffusers or transformers cannot load a component.
    """
    runs = [Trajectory(plan) for plan in plans]
    report("reference: text encoders", 0.0)
    embeddings = _encode(checkpoint, runs)
    gc.collect()
    _draw(checkpoint, runs, embeddings, report, with_encoder)
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
        parts[tokenizer] = transformers.CLIPTokenizer.from_pretrained(folder)
        # transformers 5 leaves it at 1e30 where the files do not say, and diffusers overflows.
        parts[tokenizer].model_max_length = parts[name].config.max_position_embeddings
    pipeline = _pipeline(checkpoint, parts)
    names = ["prompt_embeds", "negative_prompt_embeds"]
    if sdxl:
        names += ["pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    embeddings = []
    for run in runs:
        with contextlib.ExitStack() as stack:
            for name in encoders:
                stack.enter_context(_hooked(parts[name], _text_hook(name, run)))
            results = pipeline.encode_prompt(
                prompt=list(run.plan.prompts),
                device=torch.device("cpu"),
                num_images_per_prompt=1,
                do_classifier_free_guidance=run.plan.guided,
                negative_prompt=None if run.plan.negatives is None else list(run.plan.negatives),
            )
        embeddings.append(dict(zip(names, results, strict=True)))
    return embeddings


def _draw(
    checkpoint: Checkpoint,
    runs: Sequence[Trajectory],
    embeddings: Sequence[dict[str, Any]],
    report: Report,
    with_encoder: bool,
) -> None:
    parts = {name: _load(checkpoint.component(name)) for name in ("unet", "vae")}
    pipeline = _pipeline(checkpoint, parts)
    pipeline.set_progress_bar_config(disable=True)
    for run, conditioning in zip(runs, embeddings, strict=True):
        plan = run.plan

        def after_step(
            _: Any, index: int, timestep: Any, tensors: dict[str, Any], run: Trajectory = run
        ) -> dict[str, Any]:
            run.timesteps.append(float(timestep))
            run.latents.append(tensors["latents"].numpy().copy())
            share = (index + 1) / max(run.plan.steps, index + 1)
            report(f"reference: {run.plan.height}x{run.plan.width}", share)
            return {}

        report(f"reference: {plan.height}x{plan.width}", 0.0)
        with _hooked(parts["unet"], _unet_hook(run)), _recording_decoder(parts["vae"], run):
            pictures = pipeline(
                **conditioning,
                height=plan.height,
                width=plan.width,
                num_inference_steps=plan.steps,
                guidance_scale=plan.guidance,
                num_images_per_prompt=plan.images_per_prompt,
                generator=torch.Generator("cpu").manual_seed(plan.seed),
                callback_on_step_end=after_step,
                output_type="pil",
            ).images
        run.images = np.stack([np.asarray(picture) for picture in pictures])
        if with_encoder:
            _record_encoder(parts["vae"], run)


def _load(source: ComponentSource) -> Any:
    library = {"diffusers": diffusers, "transformers": transformers}[source.library]
    kind = getattr(library, source.class_name)
    try:
        # float32 whatever the file holds: that is what the reference is.
        module = kind.from_pretrained(source.folder, torch_dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{source.library} cannot load '{source.folder}': {str(error)[:300]}"
        ) from error
    return module.eval()


def _pipeline(checkpoint: Checkpoint, parts: dict[str, Any]) -> Any:
    """The checkpoint's pipeline with the given parts only."""
    kind = getattr(diffusers, checkpoint.pipeline_class)
    scheduler = getattr(diffusers, checkpoint.scheduler["_class_name"])
    names = ["vae", "text_encoder", "tokenizer", "unet"]
    options: dict[str, Any] = {"scheduler": scheduler.from_config(dict(checkpoint.scheduler))}
    if checkpoint.family == "sdxl":
        names += ["text_encoder_2", "tokenizer_2"]
        zeros = checkpoint.index.get("force_zeros_for_empty_prompt", True)
        options |= {"force_zeros_for_empty_prompt": zeros, "add_watermarker": False}
    else:
        options |= {"safety_checker": None, "feature_extractor": None}
        options |= {"requires_safety_checker": False}
    return kind(**{name: parts.get(name) for name in names}, **options)


def _text_hook(role: str, run: Trajectory) -> Hook:
    def hook(_: Any, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        ids = inputs[0] if inputs else keywords["input_ids"]
        expected = {
            name: output[name].numpy().copy()
            for name in ("text_embeds", "last_hidden_state", "pooler_output")
            if output.get(name) is not None
        }
        for index, state in enumerate(output.get("hidden_states") or ()):
            expected[f"hidden_states.{index}"] = state.numpy().copy()
        run.cases.append(Case(role, f"{len(ids)} rows", {"input_ids": ids.numpy()}, expected))

    return hook


def _unet_hook(run: Trajectory) -> Hook:
    def hook(_: Any, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        sample, timestep = inputs[:2]
        feed = {
            "sample": sample.numpy().copy(),
            "timestep": np.array(float(timestep), np.float32),
            "encoder_hidden_states": keywords["encoder_hidden_states"].numpy(),
        }
        added = keywords.get("added_cond_kwargs") or {}
        feed |= {name: tensor.float().numpy() for name, tensor in added.items()}
        label = f"{run.plan.height}x{run.plan.width}, {len(sample)} rows, t={float(timestep):g}"
        run.cases.append(Case("unet", label, feed, {"out_sample": output[0].numpy().copy()}))

    return hook


@contextlib.contextmanager
def _hooked(module: Any, hook: Hook) -> Iterator[None]:
    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _recording_decoder(vae: Any, run: Trajectory) -> Iterator[None]:
    original = vae.decode

    def decode(latents: Any, *inputs: Any, **keywords: Any) -> Any:
        output = original(latents, *inputs, **keywords)
        image = output[0] if isinstance(output, tuple) else output.sample
        label = f"{run.plan.height}x{run.plan.width}, {len(latents)} rows"
        case = {"latent_sample": latents.numpy().copy()}, {"sample": image.numpy().copy()}
        run.cases.append(Case("vae_decoder", label, *case))
        return output

    # The pipeline calls a method, not the module, so a forward hook would miss it.
    vae.decode = decode
    try:
        yield
    finally:
        del vae.decode


def _record_encoder(vae: Any, run: Trajectory) -> None:
    pixels = torch.from_numpy(run.images.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    encoded = vae.encode(pixels)
    if hasattr(encoded, "latents"):
        expected = {"latent_sample": encoded.latents.numpy()}
    else:
        expected = {"latent_parameters": encoded.latent_dist.parameters.numpy()}
    label = f"{run.plan.height}x{run.plan.width}, {len(pixels)} rows"
    run.cases.append(Case("vae_encoder", label, {"sample": pixels.numpy()}, expected))
