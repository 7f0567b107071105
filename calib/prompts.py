"""The prompts that calibration data is recorded with."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from ..core.checkpoint import Checkpoint
from ..core.errors import OptionError
from .quality import draws_the_world
from .world.captions import scenes

# Of many subjects, styles and lengths, so that what they stir in a model is as varied.
PROMPTS = (
    "a golden vase with different flowers",
    "a photo of an astronaut riding a horse on the moon",
    "portrait of an old fisherman with a white beard, dramatic light, 85mm photograph",
    "a cat",
    "an oil painting of a harbour at sunset, thick brush strokes",
    "aerial view of a river winding through a green forest",
    "a red sports car parked in front of a modern glass building, rainy night, neon reflections",
    "a bowl of ramen with egg and spring onions, food photography, top view",
    "pencil sketch of a ballet dancer",
    "the skyline of a large city at dawn, fog between the towers",
    "a group of children playing football in a dusty street",
    "macro photograph of a dragonfly on a blade of grass, dew drops, shallow depth of field",
    "isometric low-poly illustration of a small island with a lighthouse",
    "a medieval castle on a cliff above a stormy sea",
    "close-up of a woman's face with freckles and green eyes, natural light",
    "logo of a fox, flat vector design, white background",
    "a steam locomotive crossing a stone bridge in the snow",
    "interior of a cosy library with leather chairs and a fireplace",
    "a robot watering plants in a greenhouse, digital art",
    "black and white photo of an empty railway station",
    "two parrots on a branch, watercolour",
    "a desert with sand dunes under the milky way, long exposure",
    "stained glass window showing a blue peacock",
    "a wooden table with bread, cheese and grapes, still life in the style of the Dutch masters",
    "an underwater scene with a coral reef, a sea turtle and a school of yellow fish",
    "anime girl with a red umbrella walking through a night market, lanterns, rain",
    "a mountain lake, clear water, pine trees, reflections, ultra wide angle",
    "a dog wearing sunglasses on a surfboard",
    "knitted toy elephant on a grey sofa",
    "futuristic motorcycle, studio lighting, product render, highly detailed, octane render, 8k, "
    "chrome and carbon fibre, dark background, sharp focus, volumetric light",
    "crowded street market in Marrakesh, spices in baskets, warm colours",
    "abstract composition of circles and triangles in primary colours",
)


def default_prompts(checkpoint: Checkpoint, seed: int) -> tuple[str, ...]:
    """The built-in prompts; for a model of the procedural world as many captions of its training.

    Args:
        checkpoint: The model.
        seed: Of the captions.
    """
    if not draws_the_world(checkpoint):
        return PROMPTS
    drawn = islice(scenes(seed, held_out=False), len(PROMPTS))
    return tuple(scene.caption for scene in drawn)


def read_prompts(path: Path) -> tuple[str, ...]:
    """Reads prompts, one a line; blank lines and lines that start with # are skipped.

    Raises:
        OptionError: The file cannot be read, or has no prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise OptionError(
            f"The prompts '{path}' cannot be read ({error}); name a text file in UTF-8."
        ) from error
    prompts = tuple(line.strip() for line in lines)
    prompts = tuple(each for each in prompts if each and not each.startswith("#"))
    if not prompts:
        raise OptionError(f"'{path}' has no prompts; write one a line.")
    return prompts
