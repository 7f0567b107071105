"""Profiles held against the inputs of a network."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import OptionError
from kdexport.export.tensorrt.libraries import make_log
from kdexport.export.tensorrt.profile import add_profile, require_profile

INPUTS = {"sample": ("batch", 4, "height", "width"), "timestep": (), "ids": (1, 6)}
FITTING = {
    "sample": ((1, 4, 8, 8), (2, 4, 8, 16), (8, 4, 64, 64)),
    "timestep": ((), (), ()),
    "ids": ((1, 6), (1, 6), (1, 6)),
}


def test_fitting():
    require_profile(INPUTS, FITTING, "unet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"noise": ((1,), (1,), (1,))},
            "The profile of 'unet' has the input 'noise', and the network takes only sample, "
            "timestep, ids.",
        ),
        (
            {"ids": None},
            "The profile of 'unet' leaves out the input 'ids'; give its smallest, best and "
            "largest shape.",
        ),
        (
            {"ids": ((1, 6), (6,), (1, 6))},
            "The profile of 'unet' gives 'ids' 1 dimensions as its best shape, and the network "
            "takes 2: (1, 6).",
        ),
        (
            {"sample": ((1, 4, 8, 8), (1, 4, 8, 8), (1, 3, 8, 8))},
            "The profile of 'unet' gives dimension 1 of 'sample' the size 3, and in the network "
            "it is fixed at 4: (batch, 4, height, width); export the model for that size, or "
            "leave it dynamic.",
        ),
        (
            {"sample": ((1, 4, 8, 8), (1, 4, 16, 8), (1, 4, 8, 8))},
            "The profile of 'unet' gives dimension 2 ('height') of 'sample' the sizes 8, 16 and "
            "8; they must be at least 1 and in the order smallest, best, largest.",
        ),
        (
            {"sample": ((0, 4, 8, 8), (1, 4, 8, 8), (1, 4, 8, 8))},
            "The profile of 'unet' gives dimension 0 ('batch') of 'sample' the sizes 0, 1 and 1; "
            "they must be at least 1 and in the order smallest, best, largest.",
        ),
    ],
)
def test_refusals(changes, message):
    ranges = {name: shapes for name, shapes in (FITTING | changes).items() if shapes}
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        require_profile(INPUTS, ranges, "unet")


@given(
    st.lists(st.integers(1, 4) | st.sampled_from(["batch", "height"]), max_size=3),
    st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=3, max_size=3),
)
def test_what_fits(shape, ranges):
    fits = all(len(sizes) == len(shape) for sizes in ranges) and all(
        0 < least <= best <= most and (isinstance(known, str) or {least, best, most} == {known})
        for known, least, best, most in zip(shape, *ranges, strict=True)
    )
    if fits:
        require_profile({"x": shape}, {"x": ranges}, "unet")
    else:
        with pytest.raises(OptionError, match="The profile of 'unet' gives "):
            require_profile({"x": shape}, {"x": ranges}, "unet")


@pytest.mark.parametrize(("shape", "profiles"), [((-1, 4), 1), ((2, 4), 0)])
def test_given_to_tensorrt(shape, profiles):
    """A network of fixed shapes has no profile."""
    library = pytest.importorskip("tensorrt_rtx")
    builder = library.Builder(make_log(library))
    network = builder.create_network(0)
    tensor = network.add_input("x", library.float32, shape)
    network.mark_output(network.add_activation(tensor, library.ActivationType.RELU).get_output(0))
    config = builder.create_builder_config()
    add_profile(builder, network, config, {"x": ((1, 4), (2, 4), (3, 4))})
    assert config.num_optimization_profiles == profiles
