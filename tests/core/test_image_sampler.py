"""The starts of image to image: what a table leaves to the full one, JSON, errors."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core import manifest as m
from kdexport.core.errors import BundleError, SamplerError
from kdexport.core.image_sampler import ImageSampler, ImageStart, load_image_sampler
from kdexport.core.sampler import SamplerTable

weights = st.floats(-100, 100, width=32)
FULL = SamplerTable(
    timesteps=(999.0, 666.0, 333.0),
    initial=(1.0, 0.5, 0.25, 0.125),
    outputs=((), (-2.0,), (4.0, 3.0), (5.0, 6.0, 7.0)),
    noise=((), (0.5,), (0.75, -1.0), (0.25, 0.5, 2.0)),
    draws=(1, 1, 1),
    scale=(0.5, 1.0, 1.0, 1.0),
)
# The last two calls, of which the first has another weight than in the full run.
LATE = SamplerTable(
    timesteps=(666.0, 333.0),
    initial=(1.0, 0.5, 0.25),
    outputs=((), (8.0,), (9.0, 7.0)),
    noise=((), (-1.0,), (0.5, 2.0)),
    draws=(1, 1),
    scale=(1.0, 1.0, 1.0),
)


@st.composite
def runs(draw):
    """A full table, and a run of its last calls with some columns of its own."""
    calls = draw(st.integers(1, 6))
    draws = tuple(draw(st.lists(st.integers(0, 2), min_size=calls, max_size=calls)))

    def values(count):
        return tuple(draw(st.lists(weights, min_size=count, max_size=count)))

    def changed(rows, columns):
        return tuple(tuple(1.0 + w if j < columns else w for j, w in enumerate(r)) for r in rows)

    full = SamplerTable(
        timesteps=values(calls),
        initial=values(calls + 1),
        outputs=tuple(values(row) for row in range(calls + 1)),
        noise=tuple(values(sum(draws[:row])) for row in range(calls + 1)),
        draws=draws,
        scale=values(calls + 1),
    )
    skipped = draw(st.integers(0, calls - 1))
    drawn = sum(draws[:skipped])
    own = draw(st.integers(0, calls - skipped)), draw(st.integers(0, sum(draws[skipped:])))
    run = SamplerTable(
        timesteps=full.timesteps[skipped:],
        initial=values(calls - skipped + 1),
        outputs=changed([row[skipped:] for row in full.outputs[skipped:]], own[0]),
        noise=changed([row[drawn:] for row in full.noise[skipped:]], own[1]),
        draws=draws[skipped:],
        scale=full.scale[skipped:],
    )
    return full, run, own


@settings(deadline=None)
@given(runs())
def test_a_run_comes_back_whole_from_the_columns_of_its_own(case):
    full, run, own = case
    start = ImageStart.of(run, 0.5, 0.25, full)
    assert start.table(full) == run
    assert (len(start.outputs), len(start.fresh)) == own
    back = ImageStart.from_json(json.loads(json.dumps(start.to_json())))
    assert back.to_json() == start.to_json()


def test_a_start_keeps_what_differs_only():
    start = ImageStart.of(LATE, 0.5, 0.25, FULL)
    assert start.calls == 2
    assert start.latent == (1.0, 0.5, 0.25)
    assert start.outputs == ((8.0, 9.0),)
    assert start.fresh == ()
    assert start.table(FULL) == LATE


@pytest.mark.parametrize("change", [{"timesteps": (1.0, 2.0)}, {"draws": (2, 0)}])
def test_a_run_that_is_no_end_of_the_schedule_is_refused(change):
    if "draws" in change:
        change = {**change, "noise": ((), (1.0, 2.0), (1.0, 2.0))}
    with pytest.raises(SamplerError, match="other timesteps or draws of noise"):
        ImageStart.of(replace(LATE, **change), 0.5, 0.25, FULL)


def test_a_start_of_another_table_is_refused():
    start = ImageStart(1.0, 1.0, (1.0,) * 6)
    with pytest.raises(SamplerError, match="export the model again"):
        start.table(FULL)


def test_the_first_latent_is_float32():
    start = ImageStart(0.5, 0.25, (1.0, 1.0))
    picture, noise = np.full((2, 1), 4.0, np.float32), np.full((2, 1), 8.0, np.float32)
    latent = start.first_latent(picture, noise)
    assert latent.dtype == np.float32
    np.testing.assert_array_equal(latent, np.full((2, 1), 4.0, np.float32))


@pytest.fixture
def sampler():
    late = ImageStart.of(LATE, 0.5, 0.25, FULL)
    return ImageSampler("pndm", {2: (None, late), 3: (None, late, late)})


def test_json_round_trip(sampler):
    assert ImageSampler.from_json(json.loads(json.dumps(sampler.to_json()))) == sampler


@pytest.mark.parametrize(("steps", "first"), [(2, 0), (2, 2), (4, 0), (2, -1)])
def test_a_missing_start_is_named(sampler, steps, first):
    assert sampler.start(3, 2).calls == 2
    with pytest.raises(SamplerError, match=rf"'pndm' cannot begin at step {first + 1} of {steps}"):
        sampler.start(steps, first)


def test_loading(sampler, tmp_path):
    (tmp_path / "a.image.json").write_text(json.dumps(sampler.to_json()))
    spec = m.TensorSpec("sample", "float32", ("batch",))
    manifest = m.Manifest(
        schema_version=1,
        backend="onnx",
        family="sd",
        tools={},
        source=m.SourceRecord("x", None, {}, "StableDiffusionPipeline"),
        components=(m.Component("unet", "unet", "fp32", (spec,), (spec,), 1),),
        text=(),
        zero_negative=False,
        latents=m.Latents(4, 8, 1.0, 0.0),
        shapes=m.Shapes(8, None, None, None),
        defaults=m.Defaults(2, 1.0, 8, 8, None, "a"),
        samplers=(
            m.SamplerRecord("a", "PNDMScheduler", "a.json", (2,), "a.image.json"),
            m.SamplerRecord("b", "IPNDMScheduler", "b.json", (2,)),
        ),
    )
    assert load_image_sampler(manifest, tmp_path, "a") == sampler
    with pytest.raises(BundleError, match=r"'b' of this bundle cannot start .*; choose one of a"):
        load_image_sampler(manifest, tmp_path, "b")
    without = replace(manifest, samplers=manifest.samplers[1:])
    with pytest.raises(BundleError, match="no samplers that start from a picture; export"):
        load_image_sampler(without, tmp_path, "b")
