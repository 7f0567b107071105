import json

import numpy as np
from kdexport.core.compare import GATES, compare, compare_images
from kdexport.core.parity import ComponentCheck, ImageCheck, ParityRecord, QualityCheck, StepCheck


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


def record(components=(), runs=(), quality=None):
    return ParityRecord({"model": "m"}, {"engine": "e"}, components, runs, {"all": 1.234}, quality)


def quality(ours, theirs):
    scores = {"overall": ours}, {"overall": theirs}
    return QualityCheck(64, *scores, 0, "overall at most 5 points lower", ours >= theirs - 0.05)


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


def test_pictures_that_follow_captions_less_well_fail():
    assert record(quality=quality(0.80, 0.82)).passed
    found = record((component(0.0),), (run(0),), quality(0.70, 0.82))
    assert not found.passed
    assert found.failures() == (
        "captions: 70.0 of 100 against 82.0, needed overall at most 5 points lower",
    )


def test_scores_are_in_the_json_only_where_there_are_any():
    assert "quality" not in record().to_json()
    data = record(quality=quality(0.9, 0.9)).to_json()
    assert json.loads(json.dumps(data))["quality"]["bundle"] == {"overall": 0.9}


def test_every_gate_has_a_verdict():
    found = record((component(0.0), component(1e-2)), (run(0),), quality(0.5, 0.9))
    assert found.verdicts == (True, False, True, False)
    assert record().verdicts == ()
