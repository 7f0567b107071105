"""A sweep as a page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from kdexport.calib.figures import FormFigures, Sweep
from kdexport.calib.plot import plot_figures
from kdexport.calib.sweep_page import write_sweep_page

_FORM = FormFigures(
    form="int8",
    backend="onnx",
    bundle="onnx-int8",
    bytes=10_000_000,
    unet_bytes=4_000_000,
    component_psnr_db={"unet": 53.04, "vae_decoder": None},
    image_psnr_db=47.0,
    image_ssim=0.99,
    broken=(),
    macs=0.98,
    passed=True,
    scores=None,
    reference_scores=None,
    seconds={},
)
_BROKEN = replace(_FORM, form="<int1>", bundle="onnx-a b", broken=("unet",), passed=False)
_SCORED = replace(
    _FORM, form="palette6", backend="coreml", bundle="c", image_psnr_db=None,
    scores={"overall": 0.8375}, reference_scores={"overall": 0.85},
)  # fmt: skip


@pytest.fixture
def page(tmp_path: Path):
    def write(*forms: FormFigures) -> str:
        sweep = Sweep("demo", {}, {"steps": 4, "height": 128, "width": 64}, forms)
        plot, file = tmp_path / "figures.png", tmp_path / "figures.html"
        plot_figures(sweep.model, sweep.forms, plot)
        write_sweep_page(sweep, plot, file)
        return file.read_text(encoding="utf-8")

    return write


def test_every_form_with_the_way_to_its_report(page) -> None:
    text = page(_FORM, _SCORED)
    assert "2 of 2 forms pass" in text
    assert "128x64 pixels, 4 steps" in text
    for part in ("53.0 dB", "47.0 dB", "4.0 MB", "equal", "83.8 %", "follows 85.0 %", "Core ML"):
        assert part in text
    assert re.findall(r'<a href="([^"]+)"', text) == ["onnx-int8/report.html", "c/report.html"]
    assert "failed" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_failures_and_strange_names(page) -> None:
    text = page(_FORM, _BROKEN)
    assert "1 of 2 forms pass" in text
    assert "&lt;int1&gt;" in text
    assert "<int1>" not in text
    assert 'href="onnx-a%20b/report.html"' in text
    assert "NaN or Inf" in text
    assert 'class="verdict failed"' in text
    assert "captions" not in text


def test_it_needs_nothing_else(page) -> None:
    text = page(_FORM)
    assert "http:" not in text
    assert "https:" not in text
    assert all(each.startswith("data:") for each in re.findall(r'src="([^"]+)"', text))
