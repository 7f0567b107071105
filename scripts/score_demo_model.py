"""Scores every form of the demo model on held-out captions, and draws them side by side.

    python scripts/score_demo_model.py WORK -o DIR

WORK is the folder of train_demo_model.py. DIR gets scores.json, scores.md and sheet.png: one row
per caption, one column per form. What a form drew stays in DIR/pictures, so that an interrupted run
goes on where it stopped.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
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
from kdexport.cli.exporting import export_and_verify, export_coreml_and_verify
from kdexport.cli.progress import Report, progress
from kdexport.core.adapters import Adapter
from kdexport.core.checkpoint import Checkpoint
from kdexport.core.coreml_options import CoremlOptions
from kdexport.core.options import ModelOptions, OnnxOptions, VerifyOptions
from kdexport.core.quantization import Quantization
from kdexport.core.recipe import LayerFormats, Recipe
from kdexport.export.coreml.prepare import prepare_coreml
from kdexport.export.load import load_checkpoint
from kdexport.runtimes.image import to_uint8
from kdexport.runtimes.plan import Plan
from numpy.typing import NDArray

# Bundle to the form that it is made of, and to its precision.
ONNX = {
    "ONNX fp32": ("student", "fp32"),
    "ONNX mixed": ("student", "mixed"),
    "ONNX fp16": ("student", "fp16"),
    "ONNX fp32, tiny decoder": ("student, tiny decoder", "fp32"),
    "ONNX fp32, fast adapter": ("student, fast adapter", "fp32"),
}
# Clusters the weights of the text encoder and of the U-Net, as `--palettize 6` does.
PALETTES = Quantization(
    "palette6", Recipe({role: LayerFormats("palette6") for role in ("text_encoder", "unet")})
)
# The same for Core ML, run by the evaluator of MIL programs.
COREML = {
    "Core ML fp16": ("student", CoremlOptions(schedulers=())),
    "Core ML 6 bit": ("student", CoremlOptions(schedulers=(), quantization=PALETTES, chunk=True)),
}
ROWS = 16  # captions on the sheet


@click.command(help=__doc__)
@click.argument("work", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--captions", type=click.IntRange(min=ROWS), default=256, show_default=True)
@click.option("--form", "chosen", multiple=True, help="Only this one; may be repeated.")
def main(work: Path, output: Path, captions: int, chosen: tuple[str, ...]) -> None:
    """Draws and scores form after form."""
    scenes = held_out_scenes(captions)
    with progress(quiet=False) as report:
        captioned = [each.caption for each in scenes]
        pictures = _draw_all(work / "pipelines", output / "pictures", captioned, chosen, report)
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


def _draw_all(
    pipelines: Path, kept: Path, captions: list[str], chosen: Sequence[str], report: Report
) -> dict[str, NDArray[np.uint8]]:
    kept.mkdir(parents=True, exist_ok=True)
    forms, pictures = _forms(pipelines), {}
    plans = {
        name: caption_plans(prepare_coreml(each, CoremlOptions(schedulers=())).manifest, captions)
        for name, each in forms.items()
    }
    draw: dict[str, Callable[[], NDArray[np.uint8]]] = {
        **{name: partial(draw_reference, forms[name], plans[name]) for name in forms},
        **{name: partial(_draw_bundle, name, forms, plans, report) for name in (*ONNX, *COREML)},
    }
    if unknown := set(chosen) - set(draw):
        raise click.BadParameter(f"there is no form {', '.join(unknown)}; forms: {', '.join(draw)}")
    for name, drawn in draw.items():
        if chosen and name not in chosen:
            continue
        file = kept / f"{name}.npy"
        if not file.exists():
            result = drawn(_named(report, name)) if name in forms else drawn()
            np.save(file, result)
        pictures[name] = np.load(file)
    return pictures


def _draw_bundle(
    name: str,
    forms: Mapping[str, Checkpoint],
    plans: Mapping[str, Sequence[Plan]],
    report: Report,
) -> NDArray[np.uint8]:
    """Exports a form and draws with the bundle."""
    form = (ONNX | COREML)[name][0]
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        if name in ONNX:
            options = OnnxOptions(precision=ONNX[name][1], schedulers=())
            export_and_verify(forms[form], options, bundle, None, False, _named(report, name))
        else:
            verify, named = VerifyOptions(), _named(report, name)
            export_coreml_and_verify(
                forms[form], COREML[name][1], bundle, verify, True, False, named
            )
        return draw_bundle(bundle, plans[form], _named(report, name))


def _forms(pipelines: Path) -> dict[str, Checkpoint]:
    """What is drawn with diffusers."""

    def student(extra: ModelOptions) -> Checkpoint:
        return load_checkpoint(str(pipelines / "student"), extra=extra)

    settings = json.loads((pipelines / "fast" / "settings.json").read_text(encoding="utf-8"))
    fast = student(ModelOptions(adapters=(Adapter(str(pipelines / "fast")),)))
    defaults = {**fast.defaults, **settings["defaults"]}
    return {
        "teacher": load_checkpoint(str(pipelines / "teacher")),
        "student": student(ModelOptions()),
        "student, tiny decoder": student(ModelOptions(decoder=str(pipelines / "tiny_vae"))),
        "student, fast adapter": replace(fast, scheduler=settings["scheduler"], defaults=defaults),
    }


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
    return {
        name: UNet2DConditionModel.from_pretrained(pipelines / name / "unet").num_parameters()
        for name in ("teacher", "student")
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
