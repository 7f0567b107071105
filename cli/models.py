"""`kdexport models`: the known families, and architecture-exact checkpoints with random weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.errors import OptionError
from .common import (
    FOLDER,
    json_option,
    print_json,
    print_table,
    require_export,
)
from .progress import progress

if TYPE_CHECKING:
    from ..export.zoo_types import Decoder, ZooEntry


@click.group(
    invoke_without_command=True,
    short_help="List the known models, or make one with random weights.",
)
@json_option
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """List the known models and decoders, or make one with random weights."""
    if context.invoked_subcommand is not None:
        return
    from ..export.zoo import zoo, zoo_decoders

    if as_json:
        rows = [_model_json(entry) for entry in zoo().values()]
        print_json(rows + [_decoder_json(decoder) for decoder in zoo_decoders().values()])
        return
    _print_models(zoo().values())
    _print_decoders(zoo_decoders().values())
    _print_demo()


def _print_models(entries: Iterable[ZooEntry]) -> None:
    rows = [
        [
            entry.name,
            entry.family,
            f"{entry.unet.expected['unet'].parameters / 1e6:.0f} M",
            f"{entry.resolution}",
            f"{entry.steps}",
            f"{entry.guidance:g}",
            entry.vae.class_name,
            "\n".join(entry.hub) or "(not published)",
        ]
        for entry in entries
    ]
    columns = ["name", "shape", ">U-Net", ">pixels", ">steps", ">guidance", "decoder", "Hub ids"]
    print_table("Known models (others of the same shape export all the same)", columns, rows)


def _print_decoders(decoders: Iterable[Decoder]) -> None:
    rows = [
        [
            decoder.name,
            decoder.vae.class_name,
            f"{decoder.vae.expected['vae_decoder'].parameters / 1e6:.1f} M",
            decoder.suits,
            "\n".join(decoder.hub),
        ]
        for decoder in decoders
    ]
    print_table("Decoders for --decoder", ["name", "class", ">size", "for", "Hub ids"], rows)


def _print_demo() -> None:
    from ..export.demo import DEMO_ADAPTERS, DEMO_DECODERS, DEMO_MODELS

    names, decoders = ", ".join((*DEMO_MODELS, *DEMO_ADAPTERS)), ", ".join(DEMO_DECODERS)
    click.echo(f"In the box, trained: {names}; for --decoder: {decoders}")


def _model_json(entry: ZooEntry) -> dict[str, Any]:
    return {
        "kind": "model",
        "name": entry.name,
        "family": entry.family,
        "hub": list(entry.hub),
        "parameters": entry.unet.expected["unet"].parameters,
        "resolution": entry.resolution,
        "steps": entry.steps,
        "guidance": entry.guidance,
        "licence": entry.licence,
        "published": dict(entry.published),
    }


def _decoder_json(decoder: Decoder) -> dict[str, Any]:
    return {
        "kind": "decoder",
        "name": decoder.name,
        "hub": list(decoder.hub),
        "parameters": decoder.vae.expected["vae_decoder"].parameters,
        "for": decoder.suits,
    }


@models.command()
@click.argument("name")
@click.argument("directory", type=FOLDER)
@click.option("--narrow", is_flag=True, help="A small twin with the same kinds of blocks.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the weights.")
def make(name: str, directory: Path, narrow: bool, seed: int) -> None:
    """Make the model or decoder NAME in DIRECTORY: exact architecture, random weights, offline."""
    if seed < 0:
        raise OptionError(f"The seed must be at least 0, not {seed}.")
    require_export()
    from ..export.make import make_checkpoint, make_decoder
    from ..export.zoo import zoo_decoders

    decoder = name in zoo_decoders()
    make_it = make_decoder if decoder else make_checkpoint
    with progress(quiet=False) as report:
        make_it(name, directory, narrow=narrow, seed=seed, progress=lambda text: report(text, 0.0))
    use = f"MODEL -o DIR --decoder {directory}" if decoder else f"{directory} -o DIR"
    click.echo(f"Wrote {directory}. Export with: kdexport onnx {use}")
