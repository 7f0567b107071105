"""`kdexport run`: a bundle draws a picture, without torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from .common import (
    FOLDER,
    hub_options,
    json_option,
    print_json,
    provider_option,
    runtime_option,
)
from .progress import progress


@click.command(short_help="Draw PROMPT with BUNDLE, here or on the Hub.")
@click.argument("bundle")
@click.argument("prompt")
@click.option(
    "-o", "--output", type=FOLDER, default="image.png", show_default=True, help="The PNG to write."
)
@click.option("--steps", type=int, help="Denoising steps.")
@click.option("--guidance", type=float, help="Guidance scale; at most 1 turns guidance off.")
@click.option("--seed", type=int, help="Seed of the noise, as in diffusers; random if left out.")
@click.option("--negative", help="Negative prompt.")
@click.option("--scheduler", help="One of the bundle's schedulers.")
@click.option("--size", type=(int, int), metavar="H W", help="Image size in pixels.")
@click.option("--batch", type=int, default=1, show_default=True, help="Images to draw.")
@click.option("--latents", type=FOLDER, help="A .npy file with the initial noise.")
@click.option("--init", type=FOLDER, help="A picture to start from instead of noise.")
@click.option("--strength", type=float, help="How far to go from that picture, 0 to 1.")
@click.option("--control", type=FOLDER, help="The picture that the bundle's ControlNet heeds.")
@click.option("--control-scale", type=float, help="How much the ControlNet counts; 0 turns it off.")
@click.option("--threads", type=int, help="CPU threads.")
@click.option(
    "--low-memory",
    is_flag=True,
    help="Hold one component in memory at a time, and weights of few bits as they are.",
)
@hub_options
@runtime_option
@provider_option
@json_option
def run(
    bundle: str,
    prompt: str,
    output: Path,
    steps: int | None,
    guidance: float | None,
    seed: int | None,
    negative: str | None,
    scheduler: str | None,
    size: tuple[int, int] | None,
    batch: int,
    latents: Path | None,
    init: Path | None,
    strength: float | None,
    control: Path | None,
    control_scale: float | None,
    threads: int | None,
    low_memory: bool,
    revision: str | None,
    token: str | None,
    offline: bool,
    runtime: str | None,
    provider: str | None,
    as_json: bool,
) -> None:
    """Draw PROMPT with BUNDLE, a folder or the Hub id of a repository that holds a bundle.

    What is left out takes the bundle's default. A seed gives the picture that the same seed gives
    in diffusers. Several images are numbered: image-0.png, image-1.png, …

    With --init, the picture is encoded and noised, and the last steps are run, as many as
    --strength says; it is drawn at its own size, rounded down, unless --size says otherwise.
    """
    from ..runtimes.hub import find_bundle
    from ..runtimes.image import require_png_path, save_png, to_images
    from ..runtimes.picture import read_picture
    from ..runtimes.pipeline import Pipeline
    from ..runtimes.request import Request

    # Before the picture is drawn, not after.
    require_png_path(output)
    height, width = size or (None, None)
    request = Request(
        prompt=prompt,
        negative_prompt=negative,
        steps=steps,
        guidance=guidance,
        seed=seed,
        height=height,
        width=width,
        images_per_prompt=batch,
        scheduler=scheduler,
        latents=None if latents is None else _read_latents(latents),
        init=None if init is None else read_picture(init),
        strength=strength,
        control=None if control is None else read_picture(control),
        control_scale=control_scale,
    )
    folder = find_bundle(bundle, revision=revision, token=token, offline=offline)
    warnings.showwarning = _show_warning
    with progress(quiet=as_json) as report:
        report("loading", 0.0)
        with Pipeline.load(
            folder, runtime=runtime, provider=provider, threads=threads, low_memory=low_memory
        ) as pipeline:
            for step in pipeline.generate(request):
                report("denoising", (step.index + 1) / step.total)
            report("decoding", 0.0)
            pictures = pipeline.decode(step)
            images = to_images(pictures, step.plan, pipeline.manifest)
    paths = _paths(output, len(images))
    for image, path in zip(images, paths, strict=True):
        save_png(image, path)
    plan = step.plan
    if as_json:
        drawn: dict[str, Any] = {"seed": plan.seed, "steps": plan.steps, "guidance": plan.guidance}
        drawn |= {"scheduler": plan.scheduler, "height": plan.height, "width": plan.width}
        drawn |= {} if plan.init is None else {"strength": plan.strength}
        if plan.control:
            drawn["control_scale"] = plan.control.scale
        print_json({"images": [str(path) for path in paths], **drawn})
        return
    click.echo(f"Wrote {', '.join(str(path) for path in paths)} (seed {plan.seed}).")
    if pipeline.manifest.source.random_weights:
        click.echo("The weights of this bundle are random, so the picture means nothing.", err=True)


def _read_latents(path: Path) -> Any:
    import numpy as np

    from ..core.errors import OptionError

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"'{path}' is no .npy file of numbers ({error}); name one that numpy.save wrote."
        ) from error


def _paths(output: Path, count: int) -> list[Path]:
    """The output itself, or numbered siblings of it."""
    if count == 1:
        return [output]
    suffix = output.suffix or ".png"
    return [output.with_name(f"{output.stem}-{index}{suffix}") for index in range(count)]


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    click.secho(f"Warning: {message}", fg="yellow", err=True)
