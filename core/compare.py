"""Parity: how far a result is from its reference, and whether that is near enough."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError, choices


@dataclass(frozen=True)
class Difference:
    """How a result differs from its reference.

    Attributes:
        max_abs: Largest absolute difference.
        relative_l2: L2 norm of the difference over the L2 norm of the reference.
        psnr_db: 20·log10(largest absolute reference value / RMSE), in dB.
        cosine: Cosine of the angle between the two as vectors.
        finite: Whether every value of the result is finite. Where not, the others are NaN.
    """

    max_abs: float
    relative_l2: float
    psnr_db: float
    cosine: float
    finite: bool

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values; a value that JSON lacks becomes null."""
        return {key: _json_number(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class ImageDifference:
    """How two 8-bit images differ.

    Attributes:
        max_abs: Largest difference of a channel value, 0 to 255.
        psnr_db: 20·log10(255 / RMSE), in dB.
        ssim: Structural similarity (Wang et al. 2004: 11×11 Gaussian window of 1.5 pixels, mean
            over pixels and channels).
    """

    max_abs: int
    psnr_db: float
    ssim: float

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values; an infinite PSNR becomes null."""
        return {key: _json_number(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Gates:
    """Thresholds of one precision; a component passes by relative L2 or, if that is None, by PSNR.

    Attributes:
        component_l2: Largest relative L2 error of a component's output.
        component_psnr_db: Smallest PSNR of a component's output, in dB.
        image_psnr_db: Smallest PSNR of the final 8-bit image, in dB.
    """

    component_l2: float | None
    component_psnr_db: float | None
    image_psnr_db: float

    def component_passes(self, difference: Difference) -> bool:
        """Whether a component's output is near enough; NaN or Inf never is."""
        if not difference.finite:
            return False
        if self.component_l2 is not None and not difference.relative_l2 <= self.component_l2:
            return False
        floor = self.component_psnr_db
        return floor is None or difference.psnr_db >= floor

    def image_passes(self, difference: ImageDifference) -> bool:
        """Whether the final image is near enough."""
        return difference.psnr_db >= self.image_psnr_db

    def describe(self) -> str:
        """The component gate in words."""
        parts = []
        if self.component_l2 is not None:
            parts.append(f"relative L2 ≤ {self.component_l2:g}")
        if self.component_psnr_db is not None:
            parts.append(f"PSNR ≥ {self.component_psnr_db:g} dB")
        return " and ".join(parts)


GATES: dict[str, Gates] = {
    "fp32": Gates(component_l2=1e-4, component_psnr_db=None, image_psnr_db=45.0),
    "mixed": Gates(component_l2=None, component_psnr_db=50.0, image_psnr_db=35.0),
    "fp16": Gates(component_l2=None, component_psnr_db=50.0, image_psnr_db=35.0),
    # Three bits of significand fewer than float16: errors eight times as large, which is 18 dB; the
    # picture of the demo model is 9 dB further off.
    "bf16": Gates(component_l2=None, component_psnr_db=32.0, image_psnr_db=26.0),
    # Fewer bits are a trade, not an error: these only tell a compressed model from a broken one.
    "palette8": Gates(component_l2=None, component_psnr_db=40.0, image_psnr_db=28.0),
    "palette6": Gates(component_l2=None, component_psnr_db=30.0, image_psnr_db=20.0),
    "palette4": Gates(component_l2=None, component_psnr_db=18.0, image_psnr_db=10.0),
    "palette3": Gates(component_l2=None, component_psnr_db=12.0, image_psnr_db=8.0),
    "palette2": Gates(component_l2=None, component_psnr_db=6.0, image_psnr_db=6.0),
    "palette1": Gates(component_l2=None, component_psnr_db=3.0, image_psnr_db=5.0),
    "sparse50-palette6": Gates(component_l2=None, component_psnr_db=10.0, image_psnr_db=8.0),
    "int8": Gates(component_l2=None, component_psnr_db=35.0, image_psnr_db=24.0),
    "int8-dynamic": Gates(component_l2=None, component_psnr_db=28.0, image_psnr_db=18.0),
    "int8-static": Gates(component_l2=None, component_psnr_db=22.0, image_psnr_db=14.0),
    "fp8": Gates(component_l2=None, component_psnr_db=22.0, image_psnr_db=14.0),
    "int4": Gates(component_l2=None, component_psnr_db=18.0, image_psnr_db=10.0),
}

# How far below what its recipe reached a picture may be: of other prompts, steps or sizes.
_SLACK_DB = 8.0


def gates_for(precision: str) -> Gates:
    """The gates of a precision; raises `OptionError` naming those that have gates."""
    if precision not in GATES:
        raise OptionError(f"There are no parity gates for '{precision}', only {choices(GATES)}.")
    return GATES[precision]


def gated_as(form: str) -> str:
    """The name of the gates of a weight format: several palettes are held to those of one."""
    return form.removesuffix("-grouped")


def weakest(names: Iterable[str]) -> str:
    """The precision or weight format, of several, whose gates are the loosest."""
    return min(names, key=lambda name: gates_for(name).image_psnr_db)


def expected_gates(precision: str, expected: Mapping[str, float]) -> Gates:
    """The gates of a U-Net whose recipe says what it reached where it was made.

    Args:
        precision: Of what is not compressed, whose gates are the highest that there can be.
        expected: `unet_psnr_db` and `image_psnr_db`, in dB.
    """
    own = gates_for(precision)
    unet, image = (expected[key] - _SLACK_DB for key in ("unet_psnr_db", "image_psnr_db"))
    most = math.inf if own.component_psnr_db is None else own.component_psnr_db
    return Gates(None, min(most, round(unet, 1)), min(own.image_psnr_db, round(image, 1)))


def either(first: Gates, second: Gates) -> Gates:
    """The gates of what is rounded twice, in two precisions: of each threshold the looser one."""
    exact = first.component_l2 is not None and second.component_l2 is not None
    floors = [each.component_psnr_db for each in (first, second)]
    known = [floor for floor in floors if floor is not None]
    return Gates(
        max(first.component_l2 or 0.0, second.component_l2 or 0.0) if exact else None,
        min(known, default=None),
        min(first.image_psnr_db, second.image_psnr_db),
    )


def loosest(gates: Iterable[Gates]) -> Gates:
    """The gates with the loosest image gate: a float32 decoder may follow a float16 U-Net."""
    return min(gates, key=lambda each: each.image_psnr_db)


def compare(result: NDArray[Any], reference: NDArray[Any]) -> Difference:
    """Compares two arrays of the same shape, in float64.

    Raises:
        ValueError: The shapes differ.
    """
    if result.shape != reference.shape:
        raise ValueError(f"cannot compare shape {result.shape} with {reference.shape}")
    ours = np.asarray(result, dtype=np.float64).ravel()
    theirs = np.asarray(reference, dtype=np.float64).ravel()
    if not np.isfinite(ours).all() or not np.isfinite(theirs).all():
        return Difference(math.nan, math.nan, math.nan, math.nan, finite=False)
    error = ours - theirs
    error_norm, norm = float(np.linalg.norm(error)), float(np.linalg.norm(theirs))
    if error_norm == 0.0:
        return Difference(0.0, 0.0, math.inf, 1.0, finite=True)
    rmse = error_norm / math.sqrt(error.size)
    peak = float(np.abs(theirs).max())
    product = norm * float(np.linalg.norm(ours))
    return Difference(
        max_abs=float(np.abs(error).max()),
        relative_l2=error_norm / norm if norm else math.inf,
        psnr_db=20 * math.log10(peak / rmse) if peak else -math.inf,
        cosine=float(ours @ theirs) / product if product else 0.0,
        finite=True,
    )


def compare_images(result: NDArray[np.uint8], reference: NDArray[np.uint8]) -> ImageDifference:
    """Compares two 8-bit images of shape `(height, width, 3)`.

    Raises:
        ValueError: The shapes differ, or a side is not 8-bit.
    """
    if result.shape != reference.shape or result.dtype != np.uint8 or reference.dtype != np.uint8:
        raise ValueError("compare_images needs two uint8 images of the same shape")
    ours, theirs = result.astype(np.float64), reference.astype(np.float64)
    mse = float(np.mean((ours - theirs) ** 2))
    return ImageDifference(
        max_abs=int(np.abs(ours - theirs).max()),
        psnr_db=10 * math.log10(255.0**2 / mse) if mse else math.inf,
        ssim=_ssim(ours, theirs),
    )


def _ssim(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Mean SSIM over pixels and channels, the window kept inside the image."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean1, mean2 = _blur(first), _blur(second)
    var1 = _blur(first * first) - mean1**2
    var2 = _blur(second * second) - mean2**2
    covariance = _blur(first * second) - mean1 * mean2
    luminance = (2 * mean1 * mean2 + c1) / (mean1**2 + mean2**2 + c1)
    structure = (2 * covariance + c2) / (var1 + var2 + c2)
    return float(np.mean(luminance * structure))


def _blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Separable Gaussian of 1.5 pixels over the first two axes, valid part only."""
    size = min(11, *image.shape[:2])
    offsets = np.arange(size) - (size - 1) / 2
    kernel = np.exp(-0.5 * (offsets / 1.5) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(image, size, axis=axis)
        image = windows @ kernel
    return image


def _json_number(value: float | bool) -> float | bool | None:
    return value if isinstance(value, bool) or math.isfinite(value) else None
