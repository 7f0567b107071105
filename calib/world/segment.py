"""Takes a picture apart: its background, and the patches of every other colour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .palette import BACKGROUNDS, COLOURS, colours_on, second_tone
from .scene import SIZE

Mask = NDArray[np.bool_]
Cover = NDArray[np.float32]

LEAST = 30  # flat pixels; a patch with fewer is dirt
_FRAME = 3  # width of the rim that tells the background, pixels
_BULK = 9  # smallest side of a patch that hardly differs from the background, pixels
_REACH = 9  # side of the window around a flat pixel that its patch may fill, pixels
_NEAR = 70.0  # from a colour: certainly that colour; distances are Euclidean, in 8-bit levels
_ASIDE = 40.0  # from the line between a colour and the background: a mixture of the two
_NEIGHBOURS = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Patch:
    """Connected pixels of one colour.

    Attributes:
        colour: A name of `palette.COLOURS` or of `palette.BACKGROUNDS`.
        top: First row.
        left: First column.
        cover: How much of every pixel of its bounding box it covers, 0 to 1: more than 0 where it
            prevails, less than 1 at blurred edges and where the background shines through.
    """

    colour: str
    top: int
    left: int
    cover: Cover


def segment(image: NDArray[np.uint8]) -> tuple[str, tuple[Patch, ...]]:
    """The name of the background, and the patches that differ from it.

    Edges are never flat: between red and white lie pink pixels, and more of them after an
    autoencoder. So a colour is there only where it fills windows of 3 by 3 pixels. Around those,
    its patch takes in the pixels that are nearer to it than to the background and to other patches,
    and that look like a mixture of it and the background.

    Args:
        image: 8-bit RGB of shape `(SIZE, SIZE, 3)`.

    Raises:
        ValueError: The array has another shape or dtype.
    """
    if image.shape != (SIZE, SIZE, 3) or image.dtype != np.uint8:
        raise ValueError(
            f"expected 8-bit RGB of {SIZE} by {SIZE}, got {image.dtype} of shape {image.shape}"
        )
    names, owners, swatches = _swatches()
    median = _median(image).astype(np.float32)
    nearest = owners[_squared(median, swatches).argmin(0)]
    ground = _commonest_in_frame(nearest)
    cores = _cores(nearest, ground)
    # The median has less noise, the picture itself sharper corners.
    covers = _covers(cores, ((median + image) / 2).astype(np.float32), ground)
    patches = [
        patch
        for index, cover in covers.items()
        for patch in _patches(names[index], cover, cores[index])
    ]
    return names[ground], tuple(patches)


@cache
def _swatches() -> tuple[tuple[str, ...], NDArray[np.intp], NDArray[np.float32]]:
    """All names; of every swatch the index of its name; the swatches, a name's own colour first."""
    swatches = [*COLOURS.items(), *(each for each in BACKGROUNDS.items() if each[0] not in COLOURS)]
    swatches += [(name, second_tone(name)) for name in BACKGROUNDS]
    names = tuple(dict.fromkeys(name for name, _ in swatches))
    owners = np.array([names.index(name) for name, _ in swatches], np.intp)
    return names, owners, np.array([colour for _, colour in swatches], np.float32)


def _median(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The median of three pixels in each column, then in each row, by channel."""
    for axis in (0, 1):
        edges = [(int(axis == each),) * 2 for each in range(3)]
        padded = np.pad(image, edges, mode="edge").swapaxes(0, axis)
        before, here, after = (padded[i : i + SIZE].swapaxes(0, axis) for i in range(3))
        low, high = np.minimum(before, here), np.maximum(before, here)
        image = np.maximum(low, np.minimum(high, after))
    return image


def _squared(pixels: NDArray[np.float32], swatches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distance of every pixel from every swatch, `(swatches, SIZE, SIZE)`."""
    flat = pixels.reshape(-1, 3)
    products = swatches @ flat.T
    squared: NDArray[np.float32] = (swatches**2).sum(1)[:, None] - 2 * products
    squared += np.einsum("ij,ij->i", flat, flat)
    return squared.reshape(-1, SIZE, SIZE)


def _commonest_in_frame(labels: NDArray[np.intp]) -> int:
    frame = np.ones((SIZE, SIZE), bool)
    frame[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    return int(np.bincount(labels[frame]).argmax())


def _cores(labels: NDArray[np.intp], ground: int) -> dict[int, Mask]:
    """Where a label other than the background fills windows of 3 by 3 pixels.

    The scenes hold only colours that stand out from their background. Another one is mostly a
    shadow or a blurred line, so it counts only where it is bulky.
    """
    names, _, _ = _swatches()
    small = labels.astype(np.uint8)
    flat = _grown(ndimage.maximum_filter(small, 3) == ndimage.minimum_filter(small, 3), 3)
    clear = colours_on(names[ground])
    cores = {}
    for index in np.flatnonzero(np.bincount(labels[flat], minlength=1) >= LEAST).tolist():
        core = flat & (labels == index)
        if names[index] not in clear:
            core = _grown(~_grown(~core, _BULK), _BULK)
        if index != ground and np.count_nonzero(core) >= LEAST:
            cores[index] = core
    return cores


def _covers(cores: dict[int, Mask], pixels: NDArray[np.float32], ground: int) -> dict[int, Cover]:
    """How much of every pixel each label covers, where it prevails near its core."""
    _, owners, swatches = _swatches()
    tones = swatches[owners == ground]
    best, owned = _squared(pixels, tones).min(0), np.full((SIZE, SIZE), ground)
    along = {}
    for index, core in cores.items():
        own = swatches[owners == index]
        squared = _squared(pixels, own).min(0)
        line = own[0] - tones.mean(0)
        length = float(np.linalg.norm(line))
        along[index] = 1 + (pixels - own[0]) @ (line / length**2)
        aside = squared - ((along[index] - 1) * length) ** 2
        mixture = (squared < _NEAR**2) | (aside < _ASIDE**2)
        closer = (squared < best) & mixture & _grown(core, _REACH)
        best, owned = np.where(closer, squared, best), np.where(closer, index, owned)
    return {
        index: np.where(owned == index, along[index].clip(0.1, 1), 0).astype(np.float32)
        for index in cores
    }


def _grown(mask: Mask, size: int) -> Mask:
    """A mask dilated by a square window of odd size; outside the picture nothing is set."""
    grown: Mask = ndimage.maximum_filter(mask, size, mode="constant")
    return grown


def _patches(colour: str, cover: Cover, core: Mask) -> list[Patch]:
    """The connected parts of a label, less lines of one pixel, that hold enough of its core."""
    mask = ndimage.binary_opening(cover > 0, np.ones((2, 2), bool))
    parts, _ = ndimage.label(_grown(mask, 3), _NEIGHBOURS)
    parts = np.where(mask, parts, 0)
    return [
        Patch(colour, box[0].start, box[1].start, np.where(parts[box] == number, cover[box], 0))
        for number, box in enumerate(ndimage.find_objects(parts), 1)
        if np.count_nonzero(core[box] & (parts[box] == number)) >= LEAST
    ]
