"""The figures of compressed forms, as a file and as a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kdexport.calib.figures import FormFigures, read_figures, save_figures
from kdexport.calib.plot import plot_figures
from kdexport.core.errors import BundleError
from PIL import Image

_FORM = FormFigures(
    form="int8",
    backend="onnx",
    bundle="onnx-int8",
    bytes=10_000_000,
    unet_bytes=4_000_000,
    component_psnr_db={"unet": 53.0, "vae_decoder": None},
    image_psnr_db=47.0,
    image_ssim=0.99,
    passed=True,
    scores={"overall": 0.8},
    reference_scores={"overall": 0.85},
    seconds={"export": 3.0, "verify": 2.0},
)


def test_there_and_back_the_smallest_first(tmp_path: Path) -> None:
    larger = replace(_FORM, form="fp32", unet_bytes=16_000_000, image_psnr_db=None)
    save_figures([larger, _FORM], tmp_path / "figures.json")
    assert read_figures(tmp_path / "figures.json") == [_FORM, larger]
    assert read_figures(tmp_path / "none.json") == []


@pytest.mark.parametrize("text", ["{", "[3]", '[{"form": "int8"}]', "3"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "figures.json"
    file.write_text(text)
    with pytest.raises(BundleError, match=r"cannot be read .* move the file away"):
        read_figures(file)


@pytest.mark.parametrize("scored", [True, False])
def test_a_picture_of_all_backends(tmp_path: Path, scored: bool) -> None:
    forms = [
        replace(_FORM, backend=backend, form=f"form{index}", unet_bytes=(index + 1) * 10**6)
        for index, backend in enumerate(("onnx", "coreml", "tensorrt"))
    ]
    if not scored:
        forms = [replace(each, scores=None, reference_scores=None) for each in forms]
    forms[0] = replace(forms[0], image_psnr_db=None)
    plot_figures("demo", forms, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > picture.height * (2 if scored else 1)
        assert len(set(picture.convert("L").resize((64, 64)).getdata())) > 3
