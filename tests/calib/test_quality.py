"""Scoring pictures of held-out captions."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from kdexport.calib.quality import (
    _check,
    caption_plans,
    draws_the_world,
    held_out_scenes,
    measure_quality,
    score,
)
from kdexport.calib.world.captions import is_held_out
from kdexport.calib.world.paint import paint
from kdexport.core.compare import gates_for
from kdexport.core.errors import OptionError
from kdexport.core.manifest import load_manifest


@pytest.fixture(scope="module")
def manifest(micro_pipeline, tmp_path_factory):
    from kdexport.cli.main import main

    folder = tmp_path_factory.mktemp("quality") / "bundle"
    few = ["--schedulers", "", "--max-steps", "1"]
    with pytest.raises(SystemExit) as stop:
        main(["onnx", str(micro_pipeline), "-o", str(folder), "--no-verify", *few])
    assert stop.value.code == 0
    return load_manifest(folder)


def rows(plan):
    return plan.latent_shape[0] * (2 if plan.guided else 1)


def test_scenes_are_held_out_and_the_same_every_time():
    assert held_out_scenes(20) == held_out_scenes(30)[:20]
    assert all(is_held_out(each.caption) for each in held_out_scenes(20))


@pytest.mark.parametrize(("batch", "guidance"), [(None, 4.0), (4, 4.0), (1, 4.0), (3, 1.0)])
def test_plans_fit_the_bundle_and_draw_every_caption(manifest, batch, guidance):
    manifest = replace(
        manifest,
        shapes=replace(manifest.shapes, batch=batch),
        defaults=replace(manifest.defaults, guidance=guidance),
    )
    captions = [each.caption for each in held_out_scenes(19)]
    plans = caption_plans(manifest, captions)
    drawn = [prompt for plan in plans for prompt in plan.prompts]
    assert drawn[:19] == captions
    assert batch is None or {rows(plan) for plan in plans} == {batch}
    assert len({plan.seed for plan in plans}) == len(plans)


def test_true_pictures_pass_and_noise_fails():
    scenes = held_out_scenes(24)
    painted = np.stack([paint(each) for each in scenes])
    noise = np.random.default_rng(0).integers(0, 256, painted.shape, np.uint8)
    assert _check(scenes, painted, painted, gates_for("fp32")).passed
    found = _check(scenes, noise, painted, gates_for("fp32"))
    assert not found.passed
    assert found.bundle["overall"] < 0.3
    assert found.reference["overall"] > 0.95


@pytest.mark.parametrize(("precision", "unlike"), [("fp32", 1), ("fp16", 0)])
def test_counts_pictures_that_differ_by_the_gate_of_the_precision(precision, unlike):
    scenes = held_out_scenes(2)
    painted = np.stack([paint(each) for each in scenes])
    other = painted.copy()
    other[0] ^= 3  # at most 3 of 255: between 35 and 45 dB
    found = _check(scenes, other, painted, gates_for(precision))
    assert found.passed
    assert found.unlike == unlike


def test_pictures_of_other_captions_fail():
    scenes = held_out_scenes(24)
    painted = np.stack([paint(each) for each in scenes])
    assert not _check(scenes, np.roll(painted, 1, axis=0), painted, gates_for("fp32")).passed


def test_score_counts_captions():
    scenes = held_out_scenes(5)
    assert score(scenes, np.stack([paint(each) for each in scenes])).captions == 5


def test_every_caption_needs_a_picture():
    with pytest.raises(ValueError, match="shorter"):
        score(held_out_scenes(2), paint(held_out_scenes(1)[0])[None])


@pytest.mark.parametrize(("index", "expected"), [({}, False), ({"_kdexport_world": 1}, True)])
def test_only_models_of_the_world_are_scored(index, expected):
    assert draws_the_world(SimpleNamespace(index=index, control=None)) is expected


def test_needs_a_caption(tmp_path):
    with pytest.raises(OptionError, match="at least 1"):
        measure_quality(tmp_path, SimpleNamespace(), 0, lambda what, share: None)
