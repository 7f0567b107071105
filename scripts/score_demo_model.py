"""Scores every form of the demo model on held-out captions, and draws them side by side.

    python scripts/score_demo_model.py WORK -o DIR

WORK is the folder of train_demo_model.py. DIR gets scores.json, scores.md and sheet.png: one row
per caption, one column per form.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from kdexport.calib.quality import (
    caption_plans,
    draw_bundle,
    draw_reference,
    held_out_scenes,
    score,
)
from kdexport.calib.sheet import picture_sheet
from kdexport.calib.world.paint import paint
from kdexport.calib.world.scene import Scene
from kdexport.cli.common import Report, progress
from kdexport.core.manifest import load_manifest
from kdexport.core.options import OnnxOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.onnx_bundle import export_onnx
from kdexport.export.prepare import prepare_export
from kdexport.runtimes.image import to_uint8
from numpy.typing import NDArray

ONNX = {
    "ONNX fp32": (OnnxOptions(schedulers=()), None),
    "ONNX mixed": (OnnxOptions(precision="mixed", schedulers=()), None),
    "ONNX fp16": (OnnxOptions(precision="fp16", schedulers=()), None),
    "ONNX fp32, tiny decoder": (OnnxOptions(schedulers=()), "tiny_vae"),
}
ROWS = 16  # captions on the sheet


@click.command(help=__doc__)
@click.argument("work", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--captions", type=click.IntRange(min=ROWS), default=256, show_default=True)
def main(work: Path, output: Path, captions: int) -> None:
    """Draws and scores form after form."""
    scenes = held_out_scenes(captions)
    with progress(quiet=False) as report:
        pictures = _draw_all(work / "pipelines", [each.caption for each in scenes], report)
    scores = {name: score(scenes, each).rates() for name, each in pictures.items()}
    scores = {**_ceilings(work / "pipelines" / "student", scenes), **scores}
    output.mkdir(parents=True, exist_ok=True)
    data = {"captions": captions, "parameters": _sizes(work / "pipelines"), "scores": scores}
    text = json.dumps(data, indent=2) + "\n"
    (output / "scores.json").write_text(text, encoding="utf-8")
    table = _markdown(scores)
    (output / "scores.md").write_text(table, encoding="utf-8")
    captions_shown = [each.caption for each in scenes[:ROWS]]
    picture_sheet(captions_shown, pictures).save(output / "sheet.png")
    click.echo(table)


def _draw_all(pipelines: Path, captions: list[str], report: Report) -> dict[str, NDArray[np.uint8]]:
    pictures: dict[str, NDArray[np.uint8]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        bundles = {}
        for name, (options, decoder) in ONNX.items():
            report(f"export: {name}", 0.0)
            bundles[name] = Path(scratch) / name.replace(" ", "-")
            bundles[name].mkdir()
            student = load_checkpoint(
                str(pipelines / "student"), decoder=decoder and str(pipelines / decoder)
            )
            export_onnx(prepare_export(student, options), bundles[name], lambda what, share: None)
        plans = caption_plans(load_manifest(bundles["ONNX fp32"]), captions)
        references = {
            "teacher": load_checkpoint(str(pipelines / "teacher")),
            "student": load_checkpoint(str(pipelines / "student")),
            "student, tiny decoder": load_checkpoint(
                str(pipelines / "student"), decoder=str(pipelines / "tiny_vae")
            ),
        }
        for name, checkpoint in references.items():
            pictures[name] = draw_reference(checkpoint, plans, _named(report, name))
        fast = load_checkpoint(str(pipelines / "one_step"))
        once = [replace(plan, steps=1, guidance=0.0, negatives=None) for plan in plans]
        pictures["one step"] = draw_reference(fast, once, _named(report, "one step"))
        for name, bundle in bundles.items():
            pictures[name] = draw_bundle(bundle, plans, _named(report, name))
    return pictures


def _named(report: Report, name: str) -> Report:
    return lambda what, share: report(name, share)


def _ceilings(student: Path, scenes: tuple[Scene, ...]) -> dict[str, dict[str, float]]:
    """What the checker says of the true pictures, and of those after the autoencoder."""
    vae = AutoencoderKL.from_pretrained(student / "vae", torch_dtype=torch.float32)
    painted = np.stack([paint(each) for each in scenes])
    restored = []
    for images in np.array_split(painted, -(-len(painted) // 16)):
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
        restored.append(to_uint8(decoded.numpy()))
    return {
        "true pictures": score(scenes, painted).rates(),
        "true pictures, autoencoder": score(scenes, np.concatenate(restored)).rates(),
    }


def _sizes(pipelines: Path) -> dict[str, int]:
    """Parameters of each U-Net."""
    names = {"teacher": "teacher", "student": "student", "one step": "one_step"}
    return {
        name: UNet2DConditionModel.from_pretrained(pipelines / folder / "unet").num_parameters()
        for name, folder in names.items()
    }


def _markdown(scores: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(scores.values())))
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    lines += [
        f"| {name} | {' | '.join(f'{100 * row[each]:.1f}' for each in columns)} |"
        for name, row in scores.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
