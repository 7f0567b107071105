"""Made-up weights that behave: activations of order one, and outputs of the scale of a real model.

Every tensor is drawn from its own generator, seeded by (seed, component, tensor name), so a tensor
does not depend on the others or on their order. The scales follow from a few rules:

- A convolution or linear layer has normal weights of standard deviation gain / sqrt(fan-in); the
  gain undoes the loss of the activation before it, so that variance is kept.
- What is added to a residual stream is scaled down, so that the stream does not grow with depth.
- Queries and keys give attention logits of standard deviation 1.4 to 2: neither uniform nor
  saturated.
- Norm weights scatter around 1, and every bias is small but not zero, so that an export that drops
  or swaps one is noticed.
- The U-Net mostly predicts what it is given (see `wiring.py`), as a real one does at high
  noise. Otherwise one step would subtract two unrelated terms of 14.6 times the signal, and the
  latents that reach the VAE would be like none that a real model makes.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from torch import nn

from ..core.errors import CheckpointError, choices
from .draw import Draw
from .wiring import carry_input, narrow_posterior

# 1 / sqrt(E[f(z)^2]) for a standard normal z: what a layer after the activation f needs.
_SILU, _GELU = 1.68, 1.53
_SINE = 1.41  # the same for sinusoidal embeddings
_RELU = 1.7  # after a ReLU, with weights that sum to zero: 1 / standard deviation of relu(z)
_BRANCH = 0.3  # scale of what is added to a residual stream
_DETAIL = 0.25  # scale of what the U-Net adds to its input
_LATENT = 5.5  # standard deviation of unscaled latents: 1 / 0.18215

# (pattern of the module's path, gain); the first match counts, and no match means 1.
_UNET = (
    (r"^conv_out$", _SILU * _DETAIL),
    (r"_embedding\.linear_1$", _SINE),
    (r"_embedding\.linear_2$", _SILU),
    (r"time_emb_proj$", _SILU),
    (r"\.conv1$", _SILU),
    (r"\.conv2$", _SILU * _BRANCH),
    (r"attn1\.to_[qk]$", 1.4),
    (r"attn2\.to_[qk]$", 1.2),
    (r"attn1\.to_out\.0$", 2.0 * _BRANCH),
    (r"attn2\.to_out\.0$", 4.0 * _BRANCH),
    (r"ff\.net\.2$", _GELU * _BRANCH),
    (r"\.proj_out$", 1.5 * _BRANCH),
)
_CONTROLNET = (
    (r"^controlnet_cond_embedding\.conv_in$", 2.0),
    (r"^controlnet_cond_embedding\.", _SILU),
    (r"^controlnet_(down_blocks\.\d+|mid_block)$", _BRANCH),
    *_UNET,
)
_AUTOENCODER = (
    (r"^decoder\.conv_in$", 1 / _LATENT),
    (r"^decoder\.conv_out$", _SILU * 0.4),
    (r"^encoder\.conv_in$", 2.0),
    (r"^encoder\.conv_out$", _SILU),
    (r"^quant_conv$", _LATENT),
    (r"\.conv1$", _SILU),
    (r"\.conv2$", _SILU * _BRANCH),
    (r"\.to_[qk]$", 1.4),
    (r"\.to_out\.0$", 2.0 * _BRANCH),
)
_TINY_AUTOENCODER = (
    (r"\.conv\.0$", 1.4),
    (r"\.conv\.2$", _RELU),
    (r"\.conv\.4$", _RELU * _BRANCH),
    (r"^encoder\.layers\.\d+ last$", 1.0),
    (r"^decoder\.layers\.\d+ last$", 0.16),  # it makes images in [0, 1]
    (r"layers\.\d+$", _RELU),
)
_TEXT = (
    (r"[qk]_proj$", 1.3),
    (r"out_proj$", 1.5),
    (r"fc2$", _GELU),
)
_GAINS: dict[str, tuple[tuple[str, float], ...]] = {
    "UNet2DConditionModel": _UNET,
    "ControlNetModel": _CONTROLNET,
    "AutoencoderKL": _AUTOENCODER,
    "AutoencoderTiny": _TINY_AUTOENCODER,
    "CLIPTextModel": _TEXT,
    "CLIPTextModelWithProjection": _TEXT,
}
_WIRINGS = {"UNet2DConditionModel": carry_input, "AutoencoderKL": narrow_posterior}
_NORM_SCATTER = 0.1
_BIAS = 0.07
_EMBEDDING = 0.02  # as CLIP is initialised


def draws(class_name: str, module: nn.Module) -> dict[str, Draw]:
    """How each parameter of `module` is drawn, by name; the module may be on the meta device.

    Raises:
        CheckpointError: There is no rule for the class, or for a layer in it.
    """
    if class_name not in _GAINS:
        raise CheckpointError(
            f"There are no rules for random weights of a {class_name}, only for {choices(_GAINS)}."
        )
    rules = {
        f"{path}.{name}": _draw(_GAINS[class_name], path, layer, name)
        for path, layer in module.named_modules()
        for name, _ in layer.named_parameters(recurse=False)
    }
    if class_name.startswith("CLIP"):
        return _scale_text_branches(rules)
    if class_name not in _WIRINGS:
        return rules
    wirings = _WIRINGS[class_name](rules, module)
    return {name: replace(rule, wiring=wirings.get(name)) for name, rule in rules.items()}


def _draw(gains: tuple[tuple[str, float], ...], path: str, layer: nn.Module, name: str) -> Draw:
    parameter = layer.get_parameter(name)
    shape = tuple(parameter.shape)
    if isinstance(layer, nn.GroupNorm | nn.LayerNorm) and name == "weight":
        return Draw(shape, _NORM_SCATTER, mean=1.0)
    if isinstance(layer, nn.Embedding):
        return Draw(shape, _EMBEDDING)
    # A convolution to fewer channels is the last one of the tiny autoencoder's encoder or decoder.
    last = isinstance(layer, nn.Conv2d) and layer.out_channels < layer.in_channels
    spot = f"{path} last" if last and ".layers." in path else path
    if name == "bias":
        image = spot.startswith("decoder.layers.") and last
        return Draw(shape, _BIAS, mean=0.5 if image else 0.0)
    if name != "weight" or not isinstance(layer, nn.Conv2d | nn.Linear):
        raise CheckpointError(f"There is no rule for the random weights of '{path}.{name}'.")
    gain = next((gain for pattern, gain in gains if re.search(pattern, spot)), 1.0)
    # Inside the tiny autoencoder, values are at least 0: without centring, means would dominate.
    centred = ".layers." in path and isinstance(layer, nn.Conv2d) and layer.in_channels > 4
    return Draw(shape, gain / float(np.sqrt(parameter[0].numel())), centred=centred)


def _scale_text_branches(rules: dict[str, Draw]) -> dict[str, Draw]:
    """Scales CLIP's residual branches so that the stream, which starts near 0, ends near 1."""
    branch = re.compile(r"(out_proj|fc2)\.weight$")
    count = sum(bool(branch.search(name)) for name in rules)
    return {
        name: replace(rule, deviation=rule.deviation / count**0.5) if branch.search(name) else rule
        for name, rule in rules.items()
    }
