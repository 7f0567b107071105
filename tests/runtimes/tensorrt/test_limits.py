"""What a profile allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import OptionError, RunError
from kdexport.core.manifest import Component, EngineRecord, TensorSpec
from kdexport.runtimes.plan import make_plan
from kdexport.runtimes.request import Request
from kdexport.runtimes.tensorrt.limits import bounds, check_plan, check_shapes

SAMPLE = TensorSpec("sample", "float32", ("batch", 4, "height", "width"))
UNET = Component("unet", "u", "mixed", (SAMPLE, TensorSpec("timestep", "float32", ())), (), 0)


def engine(low, high):
    profile = {"sample": (low, low, high), "timestep": ((), (), ())}
    return EngineRecord("unet", "unet.sm89.rtx.engine", "rtx", "sm_89", "1", "0" * 64, profile)


RECORD = engine((1, 4, 6, 8), (4, 4, 12, 8))


def test_shapes_inside():
    check_shapes(RECORD, UNET, {"sample": (4, 4, 6, 8), "timestep": ()})
    assert bounds(RECORD, "sample", 2) == (6, 12)
    assert bounds(RECORD, "timestep", 0) is None
    assert bounds(RECORD, "time_ids", 0) is None


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 4, 6, 8), r"'unet.sm89.rtx.engine' takes 1 to 4 for 'batch' of its input 'sample'"),
        ((1, 4, 13, 8), r"takes 6 to 12 for 'height' .*, not 13; stay within that, or build"),
        ((1, 4, 6, 9), r"takes 8 for 'width' of its input 'sample', not 9"),
        ((1, 3, 6, 8), r"takes 4 for dimension 1"),
    ],
)
def test_shapes_outside(shape, message):
    with pytest.raises(RunError, match=message):
        check_shapes(RECORD, UNET, {"sample": shape, "timestep": ()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images_per_prompt": 3}, r"draw 1 to 2 images at once with guidance, not 3; .*batch=…"),
        ({"images_per_prompt": 5, "guidance": 1.0}, r"draw 1 to 4 images at once without guidance"),
        ({"height": 40}, r"a height of 48 to 96 pixels, not 40; choose .* --profile height=…"),
        ({"width": 72}, r"a width of 64 pixels, not 72"),
    ],
)
def test_plans_outside(sd, options, message):
    plan = make_plan(Request("a", **options), sd.manifest)
    with pytest.raises(OptionError, match=message):
        check_plan(plan, sd.manifest, RECORD)


def test_an_engine_for_guidance_only(sd):
    only = engine((2, 4, 1, 1), (2, 4, 16, 16))
    check_plan(make_plan(Request("a"), sd.manifest), sd.manifest, only)
    with pytest.raises(OptionError, match=r"draw 2 images at once without guidance, not 1"):
        check_plan(make_plan(Request("a", guidance=0.0), sd.manifest), sd.manifest, only)
    odd = engine((1, 4, 1, 1), (1, 4, 16, 16))
    with pytest.raises(OptionError, match=r"draw no images at once with guidance, not 1"):
        check_plan(make_plan(Request("a"), sd.manifest), sd.manifest, odd)


@given(
    images=st.integers(1, 9),
    guided=st.booleans(),
    low=st.integers(1, 6),
    more=st.integers(0, 12),
    height=st.integers(1, 20),
)
def test_a_plan_is_allowed_where_its_shapes_are(sd, images, guided, low, more, height):
    record = engine((low, 4, low, 1), (low + more, 4, low + more, 16))
    options = {"guidance": 2.0 if guided else 1.0, "height": 8 * height}
    plan = make_plan(Request("a", images_per_prompt=images, **options), sd.manifest)
    shape = (images * (1 + guided), *plan.latent_shape[1:])

    def refused(check):
        try:
            check()
        except (OptionError, RunError):
            return True
        return False

    shapes = {"sample": shape, "timestep": ()}
    assert refused(lambda: check_plan(plan, sd.manifest, record)) is refused(
        lambda: check_shapes(record, UNET, shapes)
    )
