"""Ports of Core ML models and the module that has them."""

import pytest
import torch
from kdexport.core.errors import OptionError
from kdexport.export.coreml.ports import AppleModule, ApplePort

PICTURE = ApplePort("x", torch.float16, (1, 3, "8 * height", "width // 2"), "A picture.", "sample")


class Twice(AppleModule):
    summary = "Doubles."
    inputs = (PICTURE, ApplePort("timestep", torch.float16, (2,), "Time.", "timestep"))
    outputs = (PICTURE,)

    def forward(self, *inputs):
        return (2 * self.inner(inputs[0]),)


def test_sizes_are_in_latent_cells():
    assert PICTURE.sizes({"height": 4, "width": 6}) == (1, 3, 32, 3)
    assert ApplePort("t", torch.float16, (2,), "Time.", "t").sizes({}) == (2,)


@pytest.mark.parametrize("size", [{}, {"height": 4}])
def test_a_size_that_says_too_little(size):
    with pytest.raises(OptionError, match=r"'x' has the shape .*give its height and width"):
        PICTURE.sizes(size)


def test_examples_are_float32_whatever_the_edges_are():
    module = Twice(torch.nn.Dropout())
    first, second = module.examples({"height": 1, "width": 2})
    assert first.shape == (1, 3, 8, 1)
    assert second.shape == (2,)
    assert first.dtype == second.dtype == torch.float32
    # In evaluation mode, nothing is dropped.
    assert (module(torch.ones_like(first))[0] == 2).all()
