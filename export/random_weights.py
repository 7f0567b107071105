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
- The U-Net mostly predicts what it is given (see `_carry_input`), as a real one does at high
  noise. Otherwise one step would subtract two unrelated terms of 14.6 times the signal, and the
  latents that reach the VAE would be like none that a real model makes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..core.errors import CheckpointError, choices

# 1 / sqrt(E[f(z)^2]) for a standard normal z: what a layer after the activation f needs.
_SILU, _GELU, _RELU = 1.68, 1.53, 1.41
_BRANCH = 0.3  # scale of what is added to a residual stream
_DETAIL = 0.3  # scale of what the U-Net adds to its input
_LATENT = 5.5  # standard deviation of unscaled latents: 1 / 0.18215

# (pattern of the module's path, gain); the first match counts, and no match means 1.
_UNET = (
    (r"^conv_out$", _SILU * _DETAIL),
    (r"_embedding\.linear_1$", 1.41),
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
    (r"\.conv\.2$", 1.7),
    (r"\.conv\.4$", 1.7 * _BRANCH),
    (r"^encoder\.layers\.\d+ last$", 1.0),
    (r"^decoder\.layers\.\d+ last$", 0.16),  # it makes images in [0, 1]
    (r"layers\.\d+$", 1.7),
)
_TEXT = (
    (r"[qk]_proj$", 1.3),
    (r"out_proj$", 1.5),
    (r"fc2$", _GELU),
)
_GAINS: dict[str, tuple[tuple[str, float], ...]] = {
    "UNet2DConditionModel": _UNET,
    "AutoencoderKL": _AUTOENCODER,
    "AutoencoderTiny": _TINY_AUTOENCODER,
    "CLIPTextModel": _TEXT,
    "CLIPTextModelWithProjection": _TEXT,
}
_NORM_SCATTER = 0.1
_BIAS = 0.05
_EMBEDDING = 0.02  # as CLIP is initialised


@dataclass(frozen=True)
class Wiring:
    """Entries that are set after drawing: the region `clear` to zero, then each of `entries`."""

    clear: tuple[int | slice, ...]
    entries: tuple[tuple[tuple[int, ...], float], ...]


@dataclass(frozen=True)
class Draw:
    """How a tensor is drawn: `mean` + `deviation` * normal, in float32 of `shape`, then wired.

    Where `centred` is set, each output's weights sum to zero first.
    """

    shape: tuple[int, ...]
    deviation: float
    mean: float = 0.0
    centred: bool = False
    wiring: Wiring | None = None

    def array(self, *key: object) -> NDArray[np.float32]:
        """The tensor; `key` (seed, component, name) decides it."""
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        generator = np.random.default_rng(np.frombuffer(digest, dtype="<u4"))
        values = generator.standard_normal(self.shape, dtype=np.float32)
        if self.centred:
            values -= values.mean(axis=tuple(range(1, values.ndim)), keepdims=True)
        values *= np.float32(self.deviation)
        values += np.float32(self.mean)
        if self.wiring is not None:
            values[self.wiring.clear] = 0
            for index, value in self.wiring.entries:
                values[index] = value
        return values


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
    wirings = {"UNet2DConditionModel": _carry_input, "AutoencoderKL": _narrow_posterior}
    for name, wiring in wirings.get(class_name, _no_wiring)(rules).items():
        rules[name] = replace(rules[name], wiring=wiring)
    return rules


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


def _carry_input(rules: Mapping[str, Draw]) -> dict[str, Wiring]:
    """Wires the U-Net's input to its output, along the skip connection of the first convolution.

    Channels 2c and 2c+1 after `conv_in` hold input channel c and its negative. The last resnet's
    shortcut keeps them, nothing is added to them after it, the last norm scales them to one, and
    `conv_out` takes their difference: silu(x) - silu(-x) is x.
    """
    shortcuts = [name for name in rules if re.match(r"up_blocks\.\d.*\.conv_shortcut\.weight", name)]
    resnet = max(shortcuts).removesuffix(".conv_shortcut.weight")
    shortcut = f"{resnet}.conv_shortcut.weight"
    width, channels = rules["conv_in.weight"].shape[:2]
    offset = rules[shortcut].shape[1] - width
    rows = slice(2 * channels)
    signs = [(2 * c + k, c, 1.0 - 2 * k) for c in range(channels) for k in (0, 1)]
    wirings = {
        "conv_in.weight": Wiring((rows,), tuple(((j, c, 1, 1), sign) for j, c, sign in signs)),
        shortcut: Wiring((rows,), tuple(((j, offset + j, 0, 0), 1.0) for j, _, _ in signs)),
        "conv_out.weight": Wiring(
            (slice(None), rows), tuple(((c, j, 1, 1), sign) for j, c, sign in signs)
        ),
    }
    for layer in (f"{resnet}.conv2", f"{resnet.replace('resnets', 'attentions')}.proj_out"):
        wirings |= {name: Wiring((rows,), ()) for name in rules if name.startswith(f"{layer}.")}
    return wirings


def _narrow_posterior(rules: Mapping[str, Draw]) -> dict[str, Wiring]:
    """Makes the VAE encoder's distribution narrow: the latter half, its log variances, is -8."""
    half = rules["quant_conv.bias"].shape[0] // 2
    rows = (slice(half, None),)
    return {
        "quant_conv.weight": Wiring(rows, ()),
        "quant_conv.bias": Wiring(rows, tuple(((half + i,), -8.0) for i in range(half))),
    }


def _no_wiring(rules: Mapping[str, Draw]) -> dict[str, Wiring]:
    return {}
