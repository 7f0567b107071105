import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import BundleError, OptionError
from kdexport.core.manifest import Component, Shapes, TensorSpec
from kdexport.core.profiles import Extent, Profile, require_drawable, shape_ranges

SHAPES = Shapes(multiple=64, height=None, width=None, batch=None)


def profile(batch="1", height="512", width="512"):
    return Profile.parse([f"batch={batch}", f"height={height}", f"width={width}"], 1)


def component(role, **inputs):
    specs = tuple(TensorSpec(name, "float32", shape) for name, shape in inputs.items())
    return Component(role, f"{role}/model.onnx", "mixed", specs, (), 1)


@given(st.lists(st.integers(1, 4096), min_size=3, max_size=3))
def test_extents(sizes):
    extent = Extent(*sorted(sizes))
    assert Extent.parse(str(extent)) == extent
    assert extent.values() == tuple(sorted(sizes))
    assert extent.fixed == (len(set(sizes)) == 1)
    assert Extent.parse(str(sizes[0])).values() == (sizes[0],) * 3
    if sizes != sorted(sizes):
        with pytest.raises(OptionError, match="in the order minimum, optimum, maximum"):
            Extent(*sizes)


@pytest.mark.parametrize("text", ["", "a", "1,2", "1,2,3,4", "1,,2", "-1", "1.5", "512x512"])
def test_texts_that_are_no_extent(text):
    with pytest.raises(OptionError, match=f"'{text}' is no range of sizes; give one number, or"):
        Extent.parse(text)


def test_what_is_left_out():
    assert Profile.parse([], 512) == profile()
    assert Profile.parse([], (512, 768)) == profile(width="768")
    assert Profile.parse(["batch=1,2,4", "width = 768"], 512) == profile("1,2,4", "512", "768")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["batch"], "'batch' is no profile; give NAME=MIN,OPT,MAX, where the name is batch, heig"),
        (["depth=1"], "'depth=1' is no profile; .* batch, height or width"),
        (["batch=1", "batch=2"], "profile of batch was given twice"),
        (["batch=0"], "'0,0,0' is no range of sizes: they must be at least 1"),
        (["height=768,512,1024"], "'768,512,1024' is no range .* the order minimum, optimum, max"),
    ],
)
def test_refused(texts, message):
    with pytest.raises(OptionError, match=message):
        Profile.parse(texts, 512)


def test_ranges_of_a_guided_model():
    wanted = profile("1,2,4", "512", "512,768,1024")
    unet = component(
        "unet",
        sample=("batch", 4, "height", "width"),
        timestep=(),
        encoder_hidden_states=("batch", 77, 768),
        down_block_residual_1=("batch", 8, "height // 2", "width // 2"),
    )
    assert shape_ranges(unet, wanted, 2, 8) == {
        "sample": ((1, 4, 64, 64), (4, 4, 64, 96), (8, 4, 64, 128)),
        "timestep": ((), (), ()),
        "encoder_hidden_states": ((1, 77, 768), (4, 77, 768), (8, 77, 768)),
        "down_block_residual_1": ((1, 8, 32, 32), (4, 8, 32, 48), (8, 8, 32, 64)),
    }
    control = component("controlnet", controlnet_cond=("batch", 3, "8 * height", "8 * width"))
    assert shape_ranges(control, wanted, 2, 8)["controlnet_cond"] == (
        *((1, 3, 512, 512), (4, 3, 512, 768), (8, 3, 512, 1024)),
    )
    text = component("text_encoder", input_ids=("batch", 77))
    assert shape_ranges(text, wanted, 2, 8)["input_ids"] == ((1, 77), (4, 77), (8, 77))
    decoder = component("vae_decoder", latent_sample=("batch", 4, "height", "width"))
    assert shape_ranges(decoder, wanted, 2, 8)["latent_sample"] == (
        *((1, 4, 64, 64), (2, 4, 64, 96), (4, 4, 64, 128)),
    )
    # In pixels, and one picture at a time.
    encoder = component("vae_encoder", sample=("batch", 3, "height", "width"))
    assert shape_ranges(encoder, wanted, 2, 8)["sample"] == (
        *((1, 3, 512, 512), (1, 3, 512, 768), (1, 3, 512, 1024)),
    )


def test_ranges_without_guidance():
    unet = component("unet", sample=("batch", 4, "height", "width"))
    ranges = shape_ranges(unet, profile("2,3,4"), 1, 8)
    assert [shape[0] for shape in ranges["sample"]] == [2, 3, 4]


def test_fixed_dimensions_stay():
    unet = component("unet", sample=(2, 4, 64, 64), time_ids=("batch", 6))
    ranges = shape_ranges(unet, profile(), 2, 8)
    assert ranges == {"sample": ((2, 4, 64, 64),) * 3, "time_ids": ((1, 6), (2, 6), (2, 6))}


def test_unknown_dimension():
    unet = component("unet", sample=("frames", 4, "height", "width"))
    with pytest.raises(BundleError, match="dimension 'frames' of 'unet' is not one that profiles"):
        shape_ranges(unet, profile(), 2, 8)


@pytest.mark.parametrize(
    ("shapes", "wanted", "message"),
    [
        ({"height": 512}, {"height": "768"}, "height=768,768,768 .* height is fixed at 512"),
        ({"width": 512}, {"width": "512,512,768"}, "width=512,512,768 .* width is fixed at 512 pi"),
        ({}, {"height": "500,512,512"}, "has 500, but the height must be a multiple of 64"),
        ({"batch": 2}, {"batch": "2"}, "batch=2,2,2 .* takes 2 rows only \\(2 for an image\\)"),
    ],
)
def test_what_a_bundle_does_not_take(shapes, wanted, message):
    bundle = Shapes(**{"multiple": 64, "height": None, "width": None, "batch": None, **shapes})
    with pytest.raises(OptionError, match=message):
        require_drawable(profile(**wanted), bundle, 2)


def test_what_a_bundle_takes():
    require_drawable(profile("1,2,4", "512,576,1024"), SHAPES, 2)
    require_drawable(profile(), Shapes(64, 512, 512, 2), 2)
