"""`kdexport models`: the known families, and architecture-exact checkpoints with random weights."""

from __future__ import annotations

from pathlib import Path

import click

from ..core.errors import OptionError
from .common import FOLDER, json_option, print_json, print_table, progress, require_export


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """List the known models, or make one with random weights."""
    if context.invoked_subcommand is not None:
        return
    from ..export.demo import DEMO_DECODERS, DEMO_MODELS
    from ..export.zoo import zoo

    entries = zoo().values()
    if as_json:
        print_json(
            [
                {
                    "name": entry.name,
                    "family": entry.family,
                    "hub": list(entry.hub),
                    "parameters": entry.unet.expected["unet"].parameters,
                    "resolution": entry.resolution,
                    "steps": entry.steps,
                    "guidance": entry.guidance,
                    "licence": entry.licence,
                }
                for entry in entries
            ]
        )
        return
    rows = [
        [
            entry.name,
            entry.family,
            f"{entry.unet.expected['unet'].parameters / 1e6:.0f} M",
            f"{entry.resolution}",
            f"{entry.steps}",
            f"{entry.guidance:g}",
            entry.vae.class_name,
            "\n".join(entry.hub),
        ]
        for entry in entries
    ]
    columns = ["name", "shape", ">U-Net", ">pixels", ">steps", ">guidance", "decoder", "Hub ids"]
    print_table("Known models (others of the same shape export all the same)", columns, rows)
    models, decoders = ", ".join(DEMO_MODELS), ", ".join(DEMO_DECODERS)
    click.echo(f"In the box, trained: {models}; for --decoder: {decoders}")


@models.command()
@click.argument("name")
@click.argument("directory", type=FOLDER)
@click.option("--narrow", is_flag=True, help="A small twin with the same kinds of blocks.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the weights.")
def make(name: str, directory: Path, narrow: bool, seed: int) -> None:
    """Make the checkpoint NAME in DIRECTORY: the exact architecture, random weights, offline."""
    if seed < 0:
        raise OptionError(f"The seed must be at least 0, not {seed}.")
    require_export()
    from ..export.make import make_checkpoint

    with progress(quiet=False) as report:
        make_checkpoint(
            name,
            directory,
            narrow=narrow,
            seed=seed,
            progress=lambda text: report(text, 0.0),
        )
    click.echo(f"Wrote {directory}. Export with: kdexport onnx {directory} -o DIR")
