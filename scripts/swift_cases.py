"""Draws what the Swift package has to draw as well: the cases of its tests.

    python scripts/swift_cases.py FOLDER

`FOLDER/bundles` holds Core ML bundles. Of each, pictures are drawn with `Pipeline`, its packages
evaluated without Core ML, for every kind of request that the bundle takes. `FOLDER/cases.json`
lists the requests; `FOLDER/python` gets the pictures that belong to them, `FOLDER/inputs` what the
requests need. The tests write theirs to `FOLDER/swift`, under the same names.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from kdexport.core.manifest import Manifest, SamplerRecord, load_manifest, load_sampler
from kdexport.runtimes.noise import TorchNoise
from kdexport.runtimes.picture import sample_picture
from kdexport.runtimes.pipeline import Pipeline
from kdexport.runtimes.tokenizer import TruncationWarning
from PIL import Image

PROMPT = "a red circle above a blue square on a white background"
OTHER = "a large green triangle"
# Longer than any text encoder reads.
LONG = ", ".join([f"{PROMPT} and {OTHER}"] * 8)
STEPS = 3

Values = dict[str, Any]


def requests(manifest: Manifest, bundle: Path) -> Iterator[tuple[str, Values]]:
    """The requests of a bundle by name, as keyword arguments of `Pipeline.__call__`.

    Args:
        manifest: Of the bundle.
        bundle: Its folder.
    """
    first = manifest.samplers[0]
    base: Values = {"prompt": PROMPT, "steps": _steps(first), "seed": 7}
    if manifest.control is not None:
        base["control"] = sample_picture()
    yield "defaults", {**base, "steps": min(manifest.defaults.steps, max(first.steps))}
    yield "guided", {**base, "guidance": 5.5, "seed": 2**32 + 11}
    yield "unguided", {**base, "guidance": 1.0}
    yield "negative", {**base, "guidance": 3.0, "negative_prompt": OTHER}
    yield "long", {**base, "prompt": LONG, "guidance": 3.0, "negative_prompt": LONG}
    two = {**base, "prompt": [PROMPT, OTHER], "images_per_prompt": 2, "guidance": 2.0}
    yield "batch", {**two, "negative_prompt": ["", OTHER]}
    yield "latents", {**base, "latents": _latents(manifest)}
    for height, width in manifest.shapes.sizes[1:]:
        yield f"size-{width}x{height}", {**base, "height": height, "width": width}
    for record in manifest.samplers[1:]:
        drawn = any(load_sampler(manifest, bundle, record.name).table(_steps(record)).draws)
        name = f"{record.name}{'-stochastic' if drawn else ''}"
        yield name, {**base, "scheduler": record.name, "steps": _steps(record)}
    if manifest.control is not None:
        yield "control", {**base, "control_scale": 0.35}
        flipped = sample_picture().transpose(Image.Transpose.ROTATE_180)
        yield "controls", {**two, "control": [sample_picture(), flipped]}
    starting = [each for each in manifest.samplers if each.image is not None]
    # The picture's own size may be none that the bundle draws.
    size = {"height": manifest.defaults.height, "width": manifest.defaults.width}
    for record, strength in zip(starting * 2, (0.45, 1.0), strict=False):
        start = {"init": sample_picture(), "strength": strength, "scheduler": record.name, **size}
        yield f"image-{record.name}-{strength}", {**base, **start, "steps": _steps(record, 4)}
    if starting:
        yield "image-batch", {**two, "init": sample_picture(), "strength": 0.7, **size}


def _steps(record: SamplerRecord, wanted: int = STEPS) -> int:
    return min(wanted, max(record.steps))


def _latents(manifest: Manifest) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Noise of another seed than the requests have."""
    space, defaults = manifest.latents, manifest.defaults
    height, width = defaults.height // space.factor, defaults.width // space.factor
    return TorchNoise(1234).normal((1, space.channels, height, width))


def draw(folder: Path, bundle: Path) -> Iterator[Values]:
    """Draws the cases of a bundle and yields their entries of `cases.json`."""
    manifest = load_manifest(bundle)
    with Pipeline.load(bundle, runtime="mil") as pipeline, warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        for kind, values in requests(manifest, bundle):
            name = f"{bundle.name}-{kind}"
            drawn = pipeline(**values)
            images = drawn if isinstance(drawn, list) else [drawn]
            pictures = [f"python/{name}-{index}.ppm" for index in range(len(images))]
            for path, image in zip(pictures, images, strict=True):
                image.save(folder / path)
            yield {
                "name": name,
                "bundle": bundle.relative_to(folder).as_posix(),
                "request": {key: _stored(folder, name, key, each) for key, each in values.items()},
                "pictures": pictures,
            }
            print(f"{name}: {len(images)} drawn", flush=True)


def _stored(folder: Path, name: str, key: str, value: Any) -> Any:
    """A value of a request as JSON: pictures and arrays are files."""
    if key in {"prompt", "negative_prompt", "control"}:
        value = value if isinstance(value, list) else [value]
        return [_stored(folder, f"{name}-{n}", "init", each) for n, each in enumerate(value)]
    if isinstance(value, Image.Image):
        path = f"inputs/{name}.ppm"
        value.save(folder / path)
        return path
    if isinstance(value, np.ndarray):
        path = f"inputs/{name}.f32"
        value.astype(np.float32).tofile(folder / path)
        return {"file": path, "shape": value.shape}
    return value


def main() -> None:
    """Draws the cases of all bundles."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    for name in ("python", "inputs", "swift"):
        (folder / name).mkdir(exist_ok=True)
    bundles = sorted(path.parent for path in folder.glob("bundles/*/manifest.json"))
    cases = [case for bundle in bundles for case in draw(folder, bundle)]
    text = json.dumps(cases, indent=1)
    (folder / "cases.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
