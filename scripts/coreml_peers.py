"""What other ways to Core ML make of the U-Net of every model of the zoo: a table.

    python scripts/coreml_peers.py APPLE [NAME...]

APPLE is a checkout of https://github.com/apple/ml-stable-diffusion. Its U-Net is built from the
exact config, as its converter does before it loads the weights; and coremltools converts what
`torch.jit.trace` makes of diffusers' U-Net, a narrow twin of it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel
from kdexport.export.coreml.toolbox import coremltools
from kdexport.export.narrow import narrow_twin
from kdexport.export.zoo import zoo, zoo_entry
from torch import Tensor, nn

_CELLS, _TOKENS = 16, 77  # of the traced latents and text


@click.command(help=__doc__)
@click.argument("apple", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("names", nargs=-1)
def main(apple: Path, names: tuple[str, ...]) -> None:
    """Prints the table, a row as soon as it is known."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    sys.path.insert(0, str(apple))
    click.echo("| model | Apple's converter | coremltools on torch.jit.trace |\n|---|---|---|")
    known: dict[str, str] = {}
    for name in names or zoo():
        entry = zoo_entry(name)
        built = _verdict(partial(_apple_unet, entry.unet.config, entry.family == "sdxl"))
        config = narrow_twin(entry).unet.config
        key = repr(sorted(config.items()))
        if key not in known:
            known[key] = _verdict(partial(_traced, config))
        click.echo(f"| {name} | {built} | {known[key]} |")


def _verdict(act: Callable[[], None]) -> str:
    """What became of it, in words."""
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            act()
    except Exception as error:  # noqa: BLE001 - whatever another tool raises is the result
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = str(error).split("\n")[0][:90] or last.line
        return f"{type(error).__name__}: `{said}` ({Path(last.filename).name}:{last.lineno})"
    return "passes"


def _apple_unet(config: Any, xl: bool) -> None:
    from python_coreml_stable_diffusion import unet  # type: ignore[import-not-found]

    kind = unet.UNet2DConditionModelXL if xl else unet.UNet2DConditionModel
    with init_empty_weights():
        ours = UNet2DConditionModel.from_config(dict(config))
        plain = {key: value for key, value in ours.config.items() if key[0] != "_"}
        theirs = kind(**plain)
    differing = set(ours.state_dict()) ^ set(theirs.state_dict())
    if differing:
        raise ValueError(f"{len(differing)} weights have other names, such as {min(differing)}")


class _Plain(nn.Module):
    """A U-Net that takes and gives tensors, as `torch.jit.trace` needs it."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, *extra: Tensor) -> Any:
        added = {"text_embeds": extra[0], "time_ids": extra[1]} if extra else None
        given = {"added_cond_kwargs": added, "return_dict": False}
        return self.unet(sample, timestep, text, **given)[0]


def _traced(config: Any) -> None:
    unet = UNet2DConditionModel.from_config(dict(config)).eval()
    full = unet.config
    inputs = [
        torch.randn(2, full.in_channels, _CELLS, _CELLS),
        torch.full((2,), 981.0),
        torch.randn(2, _TOKENS, full.cross_attention_dim),
    ]
    if full.addition_embed_type == "text_time":
        pooled = full.projection_class_embeddings_input_dim - 6 * full.addition_time_embed_dim
        inputs += [torch.randn(2, pooled), torch.randn(2, 6)]
    ct = coremltools()
    with torch.no_grad():
        traced = torch.jit.trace(_Plain(unet), tuple(inputs))
    kinds = [ct.TensorType(shape=tuple(each.shape)) for each in inputs]
    ct.convert(
        traced, inputs=kinds, minimum_deployment_target=ct.target.iOS17, skip_model_load=True
    )


if __name__ == "__main__":
    main()
