"""Quality against size: a picture for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import DependencyError
from ..core.folder import whole_file
from .figures import FormFigures
from .labels import annotate

_MARKERS = {"onnx": "o", "coreml": "s", "tensorrt": "^"}
_NAMES = {"onnx": "ONNX", "coreml": "Core ML", "tensorrt": "TensorRT (its ONNX files)"}
# Exact pictures have no PSNR; they are drawn at the upper edge.
_EXACT_DB = 100.0
_INK, _GRID = "#1a1a1a", "#d9d9d9"
_COLOURS = {"onnx": "#0b6e99", "coreml": "#c2410c", "tensorrt": "#4d7c0f"}


def require_plotting() -> None:
    """Raises `DependencyError` where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            "Plots need the package 'matplotlib'; run pip install 'kdexport[export]'."
        ) from error


def plot_figures(model: str, figures: Sequence[FormFigures], file: Path) -> None:
    """Draws PSNR, and where there are any, scores, against the size of the U-Net.

    Args:
        model: What the forms are of.
        figures: The forms.
        file: The PNG to make, or replace.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    require_plotting()
    from matplotlib.figure import Figure

    scored = [each for each in figures if each.scores is not None]
    panels = 2 if scored else 1
    picture = Figure(figsize=(7.2 * panels, 5.4), dpi=110, layout="constrained")
    axes = picture.subplots(1, panels, squeeze=False)[0]
    psnr = [_EXACT_DB if each.image_psnr_db is None else each.image_psnr_db for each in figures]
    _panel(axes[0], figures, psnr, "PSNR of the 8-bit picture, dB")
    if scored:
        shares = [100 * (each.scores or {})["overall"] for each in scored]
        _panel(axes[1], scored, shares, "captions followed, %")
        axes[1].set_ylim(max(0.0, min(shares) - 20), 104)
        _references(axes[1], scored)
    picture.suptitle(f"{model}: quality against the size of the U-Net", color=_INK)
    # Names need to know where the points lie in the end.
    picture.draw_without_rendering()
    _names(axes[0], figures, psnr)
    if scored:
        _names(axes[1], scored, shares)
    with whole_file(file, overwrite=True) as staging:
        picture.savefig(staging, format="png")


def _references(axes: Any, scored: Sequence[FormFigures]) -> None:
    """What diffusers scores; with other noise, as where one picture is drawn at a time, anew."""
    lines = {
        each.backend: 100 * each.reference_scores["overall"]
        for each in scored
        if each.reference_scores is not None
    }
    for backend, share in lines.items():
        shared = len(set(lines.values())) == 1
        colour = _INK if shared else _COLOURS[backend]
        axes.axhline(share, color=colour, linewidth=1, linestyle="--", zorder=1)
        axes.annotate(
            "diffusers, float32",
            (0.0, share),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            ha="left",
            fontsize=8,
            color=colour,
        )
        if shared:
            break


def _panel(axes: Any, figures: Sequence[FormFigures], values: Sequence[float], label: str) -> None:
    sizes = [each.unet_bytes / 1e6 for each in figures]
    for backend in dict.fromkeys(each.backend for each in figures):
        own = [index for index, each in enumerate(figures) if each.backend == backend]
        axes.scatter(
            [sizes[index] for index in own],
            [values[index] for index in own],
            marker=_MARKERS[backend],
            s=36,
            color=_COLOURS[backend],
            label=_NAMES[backend],
            zorder=3,
        )
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel("U-Net, MB", color=_INK)
    axes.set_ylabel(label, color=_INK)
    axes.xaxis.set_major_formatter(lambda size, _: f"{size:g}")
    axes.xaxis.set_minor_formatter(lambda size, _: f"{size:g}" if f"{size:e}"[0] in "2357" else "")
    axes.grid(color=_GRID, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _names(axes: Any, figures: Sequence[FormFigures], values: Sequence[float]) -> None:
    sizes = [each.unet_bytes / 1e6 for each in figures]
    colours = [_COLOURS[each.backend] for each in figures]
    annotate(axes, [each.form for each in figures], sizes, values, colours)
