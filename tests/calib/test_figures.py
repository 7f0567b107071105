"""The figures of compressed forms, as a file and as a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kdexport.calib.figures import FormFigures, Sweep, continued, read_sweep, save_sweep
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
    broken=(),
    macs=0.98,
    passed=True,
    scores={"overall": 0.8},
    reference_scores={"overall": 0.85},
    seconds={"export": 3.0, "verify": 2.0},
)


_SWEEP = Sweep("demo", {"unet/a.safetensors": "00"}, {"steps": 4}, (_FORM,))


def test_there_and_back_the_smallest_first(tmp_path: Path) -> None:
    larger = replace(_FORM, form="fp32", bundle="b", unet_bytes=16_000_000, image_psnr_db=None)
    smaller = replace(_FORM, form="int4", bundle="c", unet_bytes=3_000_000)
    sweep = _SWEEP.with_form(larger).with_form(smaller)
    assert [each.form for each in sweep.forms] == ["int4", "int8", "fp32"]
    save_sweep(sweep, tmp_path / "figures.json")
    assert read_sweep(tmp_path / "figures.json") == sweep
    again = sweep.with_form(replace(_FORM, passed=False))
    assert [each.passed for each in again.forms] == [True, False, True]


def test_a_sweep_is_continued_with_the_same_model_and_pictures(tmp_path: Path) -> None:
    file, empty = tmp_path / "figures.json", replace(_SWEEP, forms=())
    assert continued(empty, file) == empty
    save_sweep(_SWEEP, file)
    assert continued(empty, file) == _SWEEP
    for other in (replace(empty, weights_sha256={}), replace(empty, drawn={"steps": 1})):
        with pytest.raises(BundleError, match=r"of .demo., compared with steps 4; name"):
            continued(other, file)


@pytest.mark.parametrize(
    "text", ["{", "[3]", '{"kdexport_figures": 2}', '{"kdexport_figures": 1}', "3"]
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "figures.json"
    file.write_text(text)
    with pytest.raises(BundleError, match=r"cannot be read .* move the file away"):
        continued(_SWEEP, file)


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
