"""Compares compiled samplers with diffusers' own loop, on a small real U-Net in float32.

For every scheduler configuration, number of steps and guidance scale, the same seed goes through
`StableDiffusionPipeline` (its scheduler, its generator) and through the runtime's arithmetic (the
table after a JSON round trip, `Stepper`, `TorchNoise`), both calling the same U-Net. Printed is the
largest difference of the final latents.

The U-Net is trained for a few seconds to denoise smooth fields whose mean the text embedding
gives: a random one neither brings the noise down nor reacts to guidance, and a chaotic one would
blow up the last bit of float32.

Run: python scripts/sampler_table.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging
from kdexport.core.errors import DependencyError
from kdexport.core.sampler import Sampler, SamplerTable
from kdexport.export.sampler import SCHEDULERS, compile_sampler, load_scheduler, make_scheduler
from kdexport.runtimes.noise import TorchNoise
from kdexport.runtimes.sampler import Stepper
from torch import Tensor
from torch.nn import functional

SHAPE = (1, 4, 16, 16)
STEPS = (1, 4, 20, 50)
GUIDANCE = (1.0, 7.5)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1, **BETAS}
V = {"prediction_type": "v_prediction"}
ZERO_SNR = {**V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
KARRAS = {"use_karras_sigmas": True}

# Configurations beside those that have a name in SCHEDULERS: diffusers class and changes to SD.
CONFIGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "pndm-prk": ("PNDMScheduler", {"skip_prk_steps": False}),
    "pndm-v": ("PNDMScheduler", V),
    "ddim-v-zero-snr": ("DDIMScheduler", {**ZERO_SNR, "clip_sample": False}),
    "ddim-sample": ("DDIMScheduler", {"clip_sample": False, "prediction_type": "sample"}),
    "euler-v-zero-snr": ("EulerDiscreteScheduler", ZERO_SNR),
    "euler-karras": ("EulerDiscreteScheduler", KARRAS),
    "heun-karras": ("HeunDiscreteScheduler", KARRAS),
    "deis-trailing": ("DEISMultistepScheduler", {"timestep_spacing": "trailing"}),
    "dpm++3m": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "unipc-karras": ("UniPCMultistepScheduler", KARRAS),
    "sa-solver": ("SASolverScheduler", {}),
    "dpm++2m-exponential": ("DPMSolverMultistepScheduler", {"use_exponential_sigmas": True}),
    "edm-euler": ("EDMEulerScheduler", {}),
}


@dataclass(frozen=True)
class Row:
    """One comparison; `magnitude` and `error` are largest absolute values of latents."""

    config: str
    steps: int
    guidance: float
    calls: int
    magnitude: float
    error: float
    relative: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    options = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)  # Faster on a network this small, and the same on every machine size.
    unet = trained_unet()
    rows = []
    print(f"{'configuration':20} steps guidance calls magnitude     error  relative")
    for row in compare_all(unet, options.seed):
        rows.append(row)
        print(
            f"{row.config:20} {row.steps:5} {row.guidance:8} {row.calls:5} {row.magnitude:9.3f} "
            f"{row.error:9.1e} {row.relative:9.1e}"
        )
    worst = max(rows, key=lambda row: row.relative)
    names = {row.config for row in rows}
    print(f"{len(rows)} comparisons of {len(names)} configurations; worst relative error:", end=" ")
    print(f"{worst.relative:.1e} ({worst.config}, {worst.steps} steps, guidance {worst.guidance})")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def compare_all(unet: UNet2DConditionModel, seed: int) -> Iterator[Row]:
    for name in (*SCHEDULERS, *CONFIGS):
        try:
            scheduler = build(name)
        except DependencyError as error:
            print(f"{name:20} not compared: {error}")
            continue
        compiled = compile_sampler(name, scheduler, STEPS)
        sampler = Sampler.from_json(json.loads(json.dumps(compiled.to_json())))
        refused = [str(steps) for steps in STEPS if steps not in sampler.tables]
        if refused:
            print(f"{name:20} diffusers refuses {', '.join(refused)} steps")
        for steps, table in sampler.tables.items():
            for guidance in GUIDANCE:
                yield compare(name, steps, guidance, (unet, scheduler, table, seed))


def build(name: str) -> Any:
    if name in SCHEDULERS:
        return make_scheduler(name, SD)
    class_name, changes = CONFIGS[name]
    return load_scheduler({**SD, **changes, "_class_name": class_name})


def compare(
    name: str,
    steps: int,
    guidance: float,
    case: tuple[UNet2DConditionModel, Any, SamplerTable, int],
) -> Row:
    unet, scheduler, table, seed = case
    theirs = run_diffusers(unet, scheduler, steps, guidance, seed)
    ours = run_table(unet, table, guidance, seed)
    magnitude, error = float(np.abs(theirs).max()), float(np.abs(theirs - ours).max())
    return Row(name, steps, guidance, table.calls, magnitude, error, error / magnitude)


def embeddings() -> tuple[Tensor, Tensor]:
    """Text embeddings of a prompt and of the negative prompt, `(1, 8, 32)` each."""
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn((2, 1, 8, 32), generator=generator))


@torch.no_grad()
def run_diffusers(
    unet: UNet2DConditionModel, scheduler: Any, steps: int, guidance: float, seed: int
) -> np.ndarray:
    absent = ("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor")
    pipe = StableDiffusionPipeline(
        unet=unet, scheduler=scheduler, requires_safety_checker=False, **dict.fromkeys(absent)
    )
    pipe.set_progress_bar_config(disable=True)
    prompt, negative = embeddings()
    result = pipe(
        prompt_embeds=prompt,
        negative_prompt_embeds=negative,
        height=SHAPE[2] * pipe.vae_scale_factor,
        width=SHAPE[3] * pipe.vae_scale_factor,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator("cpu").manual_seed(seed),
        output_type="latent",
    )
    return result.images.numpy()


@torch.no_grad()
def run_table(
    unet: UNet2DConditionModel, table: SamplerTable, guidance: float, seed: int
) -> np.ndarray:
    prompt, negative = embeddings()
    guided = guidance > 1.0
    text = torch.cat([negative, prompt]) if guided else prompt
    noise = TorchNoise(seed)
    stepper = Stepper(table, noise.normal(SHAPE), lambda: noise.normal(SHAPE))
    while not stepper.done:
        latent = torch.from_numpy(stepper.input()).repeat(len(text), 1, 1, 1)
        output = unet(latent, stepper.timestep, encoder_hidden_states=text).sample.numpy()
        if guided:
            output = output[:1] + np.float32(guidance) * (output[1:] - output[:1])
        stepper.push(output)
    return stepper.latent()


def trained_unet(iterations: int = 300) -> UNet2DConditionModel:
    """A U-Net of 0.4 million parameters that predicts noise on smooth fields."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=SHAPE[2],
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    schedule = DDPMScheduler(num_train_timesteps=1000, **BETAS)
    optimizer = torch.optim.Adam(unet.parameters(), lr=2e-3)
    for _ in range(iterations):
        text = torch.randn(16, 8, 32)
        field = functional.avg_pool2d(torch.randn(16, 4, 20, 20), 5, stride=1) * 5
        noise, t = torch.randn(16, *SHAPE[1:]), torch.randint(0, 1000, (16,))
        noisy = schedule.add_noise(field + text[:, 0, :4, None, None], noise, t)
        loss = functional.mse_loss(unet(noisy, t, encoder_hidden_states=text).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return unet.eval().requires_grad_(False)


if __name__ == "__main__":
    main()
