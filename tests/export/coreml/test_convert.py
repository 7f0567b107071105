import numpy as np
import pytest
import torch
from kdexport.core.errors import ExportError, OptionError
from kdexport.export.coreml.attention import SlicedAttention
from kdexport.export.coreml.convert import to_program
from kdexport.export.coreml.ports import AppleModule, ApplePort
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.precision import Float32
from torch import nn

SIZES = ({"height": 8, "width": 8}, {"height": 12, "width": 8}, {"height": 4, "width": 16})


def run(program, feed):
    return Evaluator(program.functions["main"], Float32()).run(feed)["noise_pred"]


def small(layer, ports=1, shape=(1, 4, "height", "width")):
    class Small(AppleModule):
        summary = "Small."

        def forward(self, *inputs):
            return (self.inner(*inputs),)

    module = Small(layer)
    module.inputs = tuple(
        ApplePort(f"in_{index}", torch.float32, shape, "In.", "in") for index in range(ports)
    )
    module.outputs = (ApplePort("out", torch.float32, shape, "Out.", "out"),)
    return module


def test_it_computes_what_the_module_does(toy):
    program = toy.program()
    assert np.abs(run(program, toy.feed) - toy.given).max() < 1e-4 * np.abs(toy.given).max()


def test_weights_share_the_memory_of_the_module():
    layer = nn.Conv2d(4, 4, 3, padding=1)
    program = to_program(small(layer), [SIZES[0]], "iOS17")
    (conv,) = program.functions["main"].find_ops(op_type="conv")
    assert np.shares_memory(conv.weight.val, layer.weight.detach().numpy())


def test_several_sizes(toy):
    shares = []
    program = to_program(toy.module, SIZES, "iOS17", shares.append)
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] > 0.9
    for size in SIZES:
        feed = toy.make_feed(toy.module, size)
        given = toy.expected(toy.module, feed)
        assert np.abs(run(program, feed) - given).max() < 1e-4 * np.abs(given).max()


def test_unknown_target(toy):
    with pytest.raises(
        OptionError, match="no Core ML target 'iOS99'; choose iOS16, iOS17 or iOS18"
    ):
        to_program(toy.module, [SIZES[0]], "iOS99")


@pytest.mark.parametrize("count", [0, 129])
def test_number_of_sizes(toy, count):
    sizes = [{"height": 2 + 2 * index, "width": 8} for index in range(count)]
    with pytest.raises(OptionError, match=f"1 to 128 sizes, not {count}"):
        to_program(toy.module, sizes, "iOS18")


def test_a_size_given_twice(toy):
    with pytest.raises(OptionError, match="size 8 x 8 is given twice"):
        to_program(toy.module, [SIZES[0], SIZES[1], SIZES[0]], "iOS17")


def test_several_inputs_that_vary():
    class Sum(nn.Module):
        def forward(self, first, second):
            return first + second

    module = small(Sum(), ports=2)
    with pytest.raises(OptionError, match="shapes of in_0, in_1, which only iOS18 allows"):
        to_program(module, SIZES, "iOS17")
    program = to_program(module, SIZES, "iOS18")
    feed = {name: np.ones((1, 4, 12, 8), np.float32) for name in ("in_0", "in_1")}
    evaluated = Evaluator(program.functions["main"], Float32()).run(feed)["out"]
    assert (evaluated == 2).all()


def test_sizes_that_a_port_cannot_have():
    module = small(nn.SiLU(), shape=(1, 4, "height // 8", "width"))
    sizes = [{"height": 8, "width": 8}, {"height": 12, "width": 8}]
    with pytest.raises(OptionError, match="heights must be multiples of 8 latent cells"):
        to_program(module, sizes, "iOS17")


class Sliced(nn.Module):
    """Attention whose number of slices depends on the size."""

    def __init__(self):
        super().__init__()
        self.processor = SlicedAttention(16)

    def forward(self, image):
        tokens = image.flatten(2).transpose(1, 2)
        attended = self.processor.attend(tokens, tokens, tokens, 1, 0.5)
        return attended.transpose(1, 2).reshape(image.shape)


def test_slices_take_one_size():
    module = small(Sliced())
    to_program(module, [SIZES[0]], "iOS17")
    with pytest.raises(OptionError, match=r"'Sliced' works in slices.*takes one size only"):
        to_program(module, SIZES, "iOS17")


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.odd = nn.Module()
        self.odd.forward = torch.special.bessel_j0

    def forward(self, image):
        return self.odd(image)


def test_operators_that_coremltools_does_not_know():
    with pytest.raises(ExportError, match=r"cannot convert 'Unknown'.*odd_special_bessel_j0"):
        to_program(small(Unknown()), [SIZES[0]], "iOS17")


class Broken(nn.Module):
    def forward(self, image):
        return torch.linalg.svd(image, full_matrices=False)[0] * float(image.sum())


def test_modules_that_torch_cannot_follow():
    with pytest.raises(ExportError, match=r"torch\.export cannot follow 'Broken'"):
        to_program(small(Broken()), [SIZES[0]], "iOS17")


def test_it_can_be_stopped(toy):
    def stop(share):
        if share > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_program(toy.module, [SIZES[0]], "iOS17", stop)
