"""Pictures that steer a run through a ControlNet, made ready as diffusers' pipelines do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.errors import OptionError
from ..core.manifest import ControlRecord
from .base import Runner
from .components import call, require_finite
from .picture import Picture, as_image

if TYPE_CHECKING:
    from .plan import Plan


@dataclass(frozen=True, eq=False)
class Control:
    """What steers a run, checked against the bundle.

    Attributes:
        pictures: One for all prompts, or one for each, as the user gave them.
        scale: Factor of the ControlNet's residuals.
        invert: Whether the pictures are inverted first.
    """

    pictures: tuple[Image.Image, ...]
    scale: float
    invert: bool


def plan_control(
    pictures: Picture | Sequence[Picture] | None,
    scale: float | None,
    record: ControlRecord | None,
    prompts: int,
) -> Control | None:
    """What steers a run, or None where the bundle has no ControlNet.

    Args:
        pictures: One picture for all prompts, or one for each.
        scale: Factor of the residuals, or None for the bundle's default.
        record: What the manifest says of the ControlNet.
        prompts: Number of prompts.

    Raises:
        OptionError: There are no pictures but the bundle needs one, or the other way round, they
            are not as many as the prompts, or one of them is none.
    """
    if record is None:
        if pictures is not None or scale is not None:
            raise OptionError(
                "The bundle has no ControlNet, so it takes neither a control picture nor a control "
                "scale; leave them out, or export again with --controlnet."
            )
        return None
    if pictures is None:
        raise OptionError(
            "The bundle's ControlNet needs a picture to draw after; give one (--control FILE on "
            "the command line, control=… in Python)."
        )
    several = pictures if isinstance(pictures, Sequence) else [pictures]
    checked = tuple(as_image(each, "control picture") for each in several)
    if len(checked) not in {1, prompts}:
        raise OptionError(
            f"There are {prompts} prompts but {len(checked)} control pictures; give one for all, "
            "or one for each."
        )
    return Control(checked, float(record.scale if scale is None else scale), record.invert)


def control_pixels(control: Control, height: int, width: int) -> NDArray[np.float32]:
    """The pictures as a ControlNet reads them.

    After the inversion, if any, this is `VaeImageProcessor(do_convert_rgb=True,
    do_normalize=False).preprocess` of diffusers: a picture is resized in its own mode, not keeping
    the aspect ratio, and then turned to RGB.

    Args:
        control: The pictures.
        height: Height of the image that is drawn, in pixels.
        width: Its width.

    Returns:
        `(pictures, 3, height, width)`, 0 to 1.
    """
    arrays = []
    for picture in control.pictures:
        if control.invert:
            picture = Image.fromarray(255 - np.asarray(picture.convert("RGB")))
        resized = picture.resize((width, height), Image.Resampling.LANCZOS).convert("RGB")
        arrays.append(np.asarray(resized).astype(np.float32) / np.float32(255))
    return np.ascontiguousarray(np.stack(arrays).transpose(0, 3, 1, 2))


def control_inputs(control: Control, plan: Plan) -> dict[str, NDArray[np.float32]]:
    """The inputs of a ControlNet that the U-Net does not have, a row for each of its rows.

    Args:
        control: The pictures.
        plan: What is drawn with them.
    """
    pixels = control_pixels(control, plan.height, plan.width)
    # Row after row, as the text embeddings: the images of one prompt lie together.
    rows = np.repeat(pixels, plan.latent_shape[0] // len(pixels), axis=0)
    return {
        "controlnet_cond": np.concatenate([rows, rows]) if plan.guided else rows,
        "conditioning_scale": np.array(control.scale, np.float32),
    }


class ControlNet:
    """The ControlNet of one run: from what the U-Net is fed to what else it is fed."""

    def __init__(self, runner: Runner, plan: Plan, control: Control) -> None:
        """Prepares the pictures; `runner` is open and stays so while this is used."""
        self._runner = runner
        signature = runner.describe()
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        self._own = control_inputs(control, plan)

    def __call__(self, feed: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Runs the ControlNet once.

        Args:
            feed: The other inputs of the U-Net by name, a row for each of its rows.

        Returns:
            The residuals, by the names that they have as inputs of the U-Net, float32.

        Raises:
            RunError: The ControlNet failed, or gave NaN or infinite values.
        """
        # An SDXL U-Net may be fed more than its ControlNet takes.
        fed = {name: array for name, array in feed.items() if name in self._inputs}
        residuals = call(self._runner, {**fed, **self._own}, self._outputs)
        for residual in residuals.values():
            require_finite(residual, "The controlnet")
        return residuals
