"""Entries of made-up weights that are set, not drawn, so that a model acts like a trained one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import nn

from .draw import Draw, Wiring

_SHORTCUT = re.compile(r"up_blocks\.\d.*\.conv_shortcut\.weight$")


def carry_input(rules: Mapping[str, Draw], module: nn.Module) -> dict[str, Wiring]:
    """Wires the U-Net's input to its output, along the skip connection of the first convolution.

    After `conv_in` the first channels hold each input channel and its negative, repeated until
    they fill whole groups of the last norm. The last resnet's shortcut keeps them, nothing is
    added to them after it, the norm scales them to one, and `conv_out` takes the differences:
    silu(x) - silu(-x) is x.
    """
    shortcut = max(name for name in rules if _SHORTCUT.match(name))
    resnet = shortcut.removesuffix(".conv_shortcut.weight")
    width, inputs = rules["conv_in.weight"].shape[:2]
    group = width // int(module.get_submodule("conv_norm_out").num_groups)  # type: ignore[arg-type]
    offset = rules[shortcut].shape[1] - width
    count = math.lcm(2 * inputs, group)
    share = 2.0 * inputs / count
    rows = slice(count)
    # (channel, input channel, sign)
    wires = [(j, j // 2 % inputs, 1.0 - j % 2 * 2.0) for j in range(count)]
    wirings = {
        "conv_in.weight": Wiring((rows,), tuple(((j, c, 1, 1), sign) for j, c, sign in wires)),
        shortcut: Wiring((rows,), tuple(((j, offset + j, 0, 0), 1.0) for j in range(count))),
        "conv_out.weight": Wiring(
            (slice(None), rows), tuple(((c, j, 1, 1), share * sign) for j, c, sign in wires)
        ),
    }
    for layer in (f"{resnet}.conv2", f"{resnet.replace('resnets', 'attentions')}.proj_out"):
        wirings |= {name: Wiring((rows,), ()) for name in rules if name.startswith(f"{layer}.")}
    return wirings


def narrow_posterior(rules: Mapping[str, Draw], module: nn.Module) -> dict[str, Wiring]:
    """Makes the VAE encoder's distribution narrow: the latter half, its log variances, is -8."""
    half = rules["quant_conv.bias"].shape[0] // 2
    rows = (slice(half, None),)
    return {
        "quant_conv.weight": Wiring(rows, ()),
        "quant_conv.bias": Wiring(rows, tuple(((half + i,), -8.0) for i in range(half))),
    }
