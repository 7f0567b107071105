"""Trains the demo model from nothing and writes the pipeline that ships with kdexport.

    python scripts/train_demo_model.py WORK                  # everything; hours on two CPU cores
    python scripts/train_demo_model.py WORK --until teacher  # stop after a stage

A stage that is done is not repeated, an interrupted one resumes at its last checkpoint: run the
same command again. WORK/STAGE holds the losses (losses.jsonl) and sample sheets along the way,
WORK/pipelines the finished diffusers folders. score_demo_model.py scores them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import torch
from demo_model.autoencoder import train_autoencoder, train_decoder
from demo_model.fast import train_fast, write_adapter
from demo_model.fit import Recipe
from demo_model.folders import write_autoencoder, write_pipeline
from demo_model.latents import latent_set
from demo_model.pipeline import GUIDANCE, STEPS, assemble
from demo_model.student import train_student
from demo_model.teacher import train_teacher
from demo_model.text import make_tokenizer
from demo_model.tiny_autoencoder import train_tiny_autoencoder
from diffusers import StableDiffusionPipeline

PICTURES = 32_000  # in the training set of the U-Nets

RECIPES = {
    "autoencoder": Recipe(steps=2600, batch=4, rate=1e-3, warmup=100, draw_every=200),
    "outlines": Recipe(steps=3600, batch=4, rate=3e-4, warmup=100, seed=1, draw_every=600),
    "teacher": Recipe(steps=7000, batch=32, rate=8e-4, warmup=200, draw_every=1000),
    "student": Recipe(steps=2000, batch=32, rate=6e-4, warmup=100, draw_every=500),
    "decoder": Recipe(steps=2000, batch=6, rate=3e-4, warmup=100, seed=2, draw_every=500),
    "tiny": Recipe(steps=1600, batch=6, rate=1e-3, warmup=100, draw_every=500),
    "fast": Recipe(steps=700, batch=24, rate=1e-3, warmup=30, decay=0.99, draw_every=200),
}


@click.command(help=__doc__)
@click.argument("work", type=click.Path(path_type=Path, file_okay=False))
@click.option("--until", type=click.Choice(list(RECIPES)), default="fast", show_default=True)
@click.option("--device", default=None, help="A torch device; else a GPU where there is one.")
def main(work: Path, until: str, device: str | None) -> None:
    """Runs the stages in order."""
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    for stage in _stages(work, where):
        if stage == until:
            return


def _stages(work: Path, device: torch.device) -> Iterator[str]:
    """Runs a stage, yields its name, runs the next."""
    vae = train_autoencoder(work / "autoencoder", RECIPES["autoencoder"], device)
    yield "autoencoder"
    vae = train_autoencoder(work / "outlines", RECIPES["outlines"], device, start=vae)
    yield "outlines"
    tokenizer = make_tokenizer(work / "tokenizer")
    data = latent_set(work / "latents.pt", PICTURES, vae, tokenizer, device)
    teacher, text = train_teacher(
        work / "teacher", RECIPES["teacher"], device, data, vae, tokenizer
    )
    yield "teacher"
    student = train_student(
        work / "student", RECIPES["student"], device, data, vae, tokenizer, text, teacher
    )
    yield "student"
    train_decoder(work / "decoder", RECIPES["decoder"], device, data, vae)
    _write(work, "teacher", assemble(vae, tokenizer, text, teacher))
    _write(work, "student", assemble(vae, tokenizer, text, student))
    yield "decoder"
    tiny = train_tiny_autoencoder(work / "tiny", RECIPES["tiny"], device, data, vae)
    write_autoencoder(tiny, work / "pipelines" / "tiny_vae")
    yield "tiny"
    fast = train_fast(work / "fast", RECIPES["fast"], device, data, vae, tokenizer, text, student)
    write_adapter(fast, work / "pipelines" / "fast")
    yield "fast"


def _write(work: Path, name: str, pipeline: StableDiffusionPipeline) -> None:
    folder = work / "pipelines" / name
    write_pipeline(pipeline, work / "tokenizer", folder, STEPS, GUIDANCE)


if __name__ == "__main__":
    main()
