"""The maths of `tiny_bundle.py` as torch modules inside diffusers' own pipelines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    ConfigMixin,
    ModelMixin,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from kdexport.export.sampler import make_scheduler
from torch import Tensor, nn
from transformers import CLIPTokenizer
from transformers.modeling_outputs import ModelOutput

ADD_DIM = 2


class _Module(nn.Module):
    """A module with frozen arrays, and the `dtype` that pipelines ask for."""

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, **arrays: Any) -> None:
        super().__init__()
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array))


class TinyTextEncoder(_Module):
    def __init__(self, tiny: Any, role: str) -> None:
        super().__init__(table=tiny.arrays[f"table:{role}"], project=tiny.arrays["project"])
        self.projected = role == "text_encoder_2"
        self.config = SimpleNamespace(projection_dim=self.project.shape[1])
        # What StableDiffusionPipeline's clip_skip applies to the state that it takes.
        self.text_model = SimpleNamespace(final_layer_norm=torch.tanh)

    def forward(self, ids: Tensor, **_options: Any) -> ModelOutput:
        states = [self.table[ids]]
        states.append(states[0] * 2)
        states.append(states[1].sin())
        pooled = states[0].mean(1)
        last = states[2].tanh()
        # diffusers takes [-2] of the states.
        chosen = (states[0], states[1], states[2])
        if self.projected:
            return ModelOutput(text_embeds=pooled @ self.project, last=last, hidden_states=chosen)
        return ModelOutput(last=last, pooler_output=pooled, hidden_states=chosen)


class TinyUnet(ModelMixin, ConfigMixin):
    config_name = "config.json"

    @register_to_config
    def __init__(
        self, in_channels: int = 4, sample_size: int = 8, time_cond_proj_dim: int | None = None
    ) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    @classmethod
    def of(cls, tiny: Any, embedding: int | None = None) -> TinyUnet:
        self = cls(time_cond_proj_dim=embedding)
        for name in ("mix", "from_hidden", "from_pooled", "from_sizes", "from_guidance"):
            self.register_buffer(name, torch.from_numpy(tiny.arrays[name]))
        # What StableDiffusionXLPipeline checks its time ids against.
        self.register_to_config(addition_time_embed_dim=ADD_DIM)
        self.add_embedding = SimpleNamespace(
            linear_1=SimpleNamespace(in_features=6 * ADD_DIM + self.from_pooled.shape[0])
        )
        return self

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        timestep_cond: Tensor | None = None,
        cross_attention_kwargs: dict | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        return_dict: bool = True,
    ) -> tuple[Tensor]:
        self.seen.append(sample.clone())
        bias = encoder_hidden_states.mean(1) @ self.from_hidden + timestep.float() * 0.001
        if added_cond_kwargs:
            bias = bias + added_cond_kwargs["text_embeds"] @ self.from_pooled
            bias = bias + added_cond_kwargs["time_ids"] @ self.from_sizes
        if timestep_cond is not None:
            bias = bias + timestep_cond @ self.from_guidance
        return (nn.functional.conv2d(sample, self.mix) + bias[:, :, None, None],)


class TinyVae(_Module):
    def __init__(self, tiny: Any, scaling: float, sampled: bool = True) -> None:
        super().__init__(mix=tiny.arrays["decode"], cells=tiny.arrays["encode"])
        self.sampled = sampled
        self.config = SimpleNamespace(
            scaling_factor=scaling,
            block_out_channels=(1, 1, 1, 1),
            force_upcast=False,
            latent_channels=4,
        )

    def encode(self, pixels: Tensor) -> SimpleNamespace:
        cells = nn.functional.conv2d(pixels, self.cells, stride=8)
        if self.sampled:
            return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(cells))
        return SimpleNamespace(latents=cells[:, :4])

    def decode(self, latents: Tensor, **_options: Any) -> tuple[Tensor]:
        squashed = nn.functional.conv2d(latents, self.mix).sin()
        return (nn.functional.interpolate(squashed, scale_factor=8.0, mode="nearest"),)


def make_pipeline(
    tiny: Any,
    folder: Any,
    scheduler: str,
    base_config: dict,
    scaling: float,
    zero_negative: bool,
    from_picture: bool = False,
    sampled: bool = True,
    embedding: int | None = None,
) -> Any:
    """Diffusers' pipeline over the bundle in `folder`."""
    parts: dict[str, Any] = {
        "vae": TinyVae(tiny, scaling, sampled),
        "unet": TinyUnet.of(tiny, embedding),
        "scheduler": make_scheduler(scheduler, base_config),
        "text_encoder": TinyTextEncoder(tiny, "text_encoder"),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
    }
    if tiny.family == "sd":
        kind = StableDiffusionImg2ImgPipeline if from_picture else StableDiffusionPipeline
        pipeline = kind(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    else:
        kind = StableDiffusionXLImg2ImgPipeline if from_picture else StableDiffusionXLPipeline
        pipeline = kind(
            **parts,
            text_encoder_2=TinyTextEncoder(tiny, "text_encoder_2"),
            tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
            force_zeros_for_empty_prompt=zero_negative,
            add_watermarker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
