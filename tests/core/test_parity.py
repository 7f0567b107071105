import json

import numpy as np
from kdexport.core.compare import GATES, compare, compare_images
from kdexport.core.parity import ComponentCheck, ImageCheck, ParityRecord, StepCheck


def component(error):
    difference = compare(np.ones(8) + error, np.ones(8))
    passed = GATES["fp32"].component_passes(difference)
    return ComponentCheck("unet", "out", "64x64", "fp32", "gate", difference, passed)


def run(level, broken=None):
    image = np.full((16, 16, 3), 100, np.uint8)
    images = () if broken else (compare_images(image + np.uint8(level), image),)
    passed = bool(images) and GATES["fp32"].image_passes(images[0])
    steps = (StepCheck(0, 999.0, compare(np.ones(2), np.ones(2))),)
    return ImageCheck("64x64", "a cat", "PSNR ≥ 45 dB", steps, images, passed, broken)


def record(components=(), runs=()):
    return ParityRecord({"model": "m"}, {"engine": "e"}, components, runs, {"all": 1.234})


def test_all_gates_hold():
    found = record((component(0.0), component(1e-6)), (run(0), run(1)))
    assert found.passed
    assert found.failures() == ()


def test_failures_say_what_and_how_far():
    found = record((component(1e-2), component(np.nan)), (run(50), run(0, "NaN at call 3")))
    assert not found.passed
    first, second, third, fourth = found.failures()
    assert first == "unet out at 64x64: relative L2 1.00e-02, PSNR 40.0 dB, needed gate"
    assert "NaN or Inf" in second
    assert third.startswith("image at 64x64: PSNR 14.2 dB")
    assert "NaN at call 3" in fourth


def test_json_has_no_infinity():
    data = record((component(0.0),), (run(0),)).to_json()
    text = json.dumps(data, allow_nan=False)
    assert json.loads(text)["components"][0]["difference"]["psnr_db"] is None
    assert data["passed"]
    assert data["runs"][0]["images"][0]["max_abs"] == 0
    assert data["seconds"] == {"all": 1.23}
