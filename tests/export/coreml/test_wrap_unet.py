"""U-Nets with Apple's inputs and outputs, and what coremltools makes of them."""

import copy

import diffusers
import pytest
import torch
from kdexport.core.compare import compare
from kdexport.core.errors import OptionError
from kdexport.export.coreml.convert import to_program
from kdexport.export.coreml.epsilon import ToEpsilon
from kdexport.export.coreml.wrap_unet import AppleUnet

TOKENS = 12
SIZE = {"height": 8, "width": 6}
NOISE = torch.linspace(0.99, 0.01, 1000)
HALF, FULL = torch.float16, torch.float32
# One transformer of two heads: what coremltools takes grows with the layers.
SMALL = {
    "block_out_channels": (8,),
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("UpBlock2D",),
}


def unet(micro, **changes):
    torch.manual_seed(0)
    made = diffusers.UNet2DConditionModel(**{**micro.UNET, **changes})
    return made.eval().requires_grad_(False)


def described(ports):
    return [(port.name, port.dtype, port.sizes(SIZE)) for port in ports]


@pytest.mark.parametrize("rows", [1, 2])
def test_the_contract(micro, rows):
    module = AppleUnet(unet(micro), rows=rows)
    assert described(module.inputs) == [
        ("sample", HALF, (rows, 4, 8, 6)),
        ("timestep", HALF, (rows,)),
        ("encoder_hidden_states", HALF, (rows, 24, 1, 77)),
    ]
    assert described(module.outputs) == [("noise_pred", FULL, (rows, 4, 8, 6))]
    assert [port.alias for port in module.inputs] == [port.name for port in module.inputs]
    assert module.outputs[0].alias == "out_sample"


def test_the_contract_of_sdxl_and_of_embedded_guidance(micro):
    module = AppleUnet(unet(micro, **micro.SDXL, time_cond_proj_dim=10), tokens=TOKENS)
    assert described(module.inputs)[3:] == [
        ("time_ids", HALF, (2, 6)),
        ("text_embeds", HALF, (2, 20)),
        ("timestep_cond", HALF, (2, 10)),
    ]
    # Every port says what it is, for Xcode.
    assert all(port.description.endswith(".") for port in (*module.inputs, *module.outputs))


@pytest.mark.parametrize("rows", [0, 3])
def test_rows_that_apple_does_not_feed(micro, rows):
    with pytest.raises(OptionError, match=f"feeds the U-Net 1 or 2 rows, not {rows}"):
        AppleUnet(unet(micro), rows=rows)


@pytest.mark.parametrize("sdxl", [False, True])
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("attention", ["original", "split-einsum"])
def test_against_diffusers(micro, sdxl, guided, attention):
    changes = (micro.SDXL if sdxl else {}) | ({"time_cond_proj_dim": 10} if guided else {})
    original = unet(micro, **changes)
    module = AppleUnet(copy.deepcopy(original), attention, rows=1, tokens=TOKENS)
    torch.manual_seed(1)
    inputs = {port.name: torch.randn(port.sizes(SIZE)) for port in module.inputs}
    inputs["timestep"] = torch.tensor([451.25])
    added = {key: inputs[key] for key in ("time_ids", "text_embeds")} if sdxl else None
    wanted = original(
        inputs["sample"],
        451.25,
        inputs["encoder_hidden_states"].squeeze(2).mT,
        timestep_cond=inputs.get("timestep_cond"),
        added_cond_kwargs=added,
    ).sample
    (got,) = module(*inputs.values())
    assert compare(got.numpy(), wanted.numpy()).relative_l2 < 1e-5


def test_a_baked_prediction(micro):
    """Nine input channels, as of inpainting models: the latents are the first four."""
    original = unet(micro, in_channels=9)
    epsilon = ToEpsilon("v_prediction", NOISE)
    module = AppleUnet(copy.deepcopy(original), tokens=TOKENS, epsilon=epsilon)
    torch.manual_seed(1)
    inputs = [torch.randn_like(each) for each in module.examples(SIZE)]
    inputs[1] = torch.tensor([400.0, 3.0])
    (got,) = module(*inputs)
    predicted = original(inputs[0], inputs[1], inputs[2].squeeze(2).mT).sample
    wanted = epsilon(predicted, inputs[0][:, :4], inputs[1])
    assert compare(got.numpy(), wanted.numpy()).relative_l2 < 1e-5
    assert not torch.allclose(got, predicted)


@pytest.mark.parametrize(
    ("attention", "slice_size", "target", "wanted"),
    [
        ("original", None, "iOS16", {"softmax": 2, "einsum": 0}),
        ("original", 20, "iOS17", {"softmax": 4, "einsum": 0}),
        ("split-einsum", None, "iOS16", {"softmax": 4, "einsum": 8, "transpose": 2}),
        ("split-einsum-v2", 20, "iOS17", {"softmax": 8, "einsum": 16, "transpose": 2}),
        ("sdpa", None, "iOS18", {"scaled_dot_product_attention": 2, "softmax": 0}),
    ],
)
def test_coremltools_keeps_the_form(micro, attention, slice_size, target, wanted):
    """Operations that tell the forms apart: 24 tokens, so one slice and a short one."""
    pytest.importorskip("coremltools")
    size = {"height": 6, "width": 4}
    # Where nothing else is to be seen.
    epsilon = ToEpsilon("v_prediction", NOISE) if attention == "original" else None
    module = AppleUnet(
        unet(micro, **SMALL), attention, slice_size, rows=1, tokens=TOKENS, epsilon=epsilon
    )
    main = to_program(module, [size], target).functions["main"]
    kinds = [each.op_type for each in main.operations]
    assert {kind: kinds.count(kind) for kind in wanted} == wanted
    assert {name: tuple(each.shape) for name, each in main.inputs.items()} == {
        port.name: port.sizes(size) for port in module.inputs
    }
    (output,) = main.outputs
    assert (output.name, tuple(output.shape)) == ("noise_pred", (1, 4, 6, 4))
    # Taken apart, the squares of the layer norms could overflow float16.
    axis = 1 if attention.startswith("split-einsum") else -1
    norms = [each for each in main.operations if each.op_type == "layer_norm"]
    assert [list(each.axes.val) for each in norms] == [[axis]] * 3


def test_each_size_can_be_traced(micro):
    module = AppleUnet(unet(micro, **SMALL), "split-einsum-v2", 20, tokens=TOKENS)
    for height, width in [(8, 6), (3, 5)]:
        size = {"height": height, "width": width}
        program = torch.export.export(module, module.examples(size)).run_decompositions({})
        inputs = [torch.randn_like(each) for each in module.examples(size)]
        torch.testing.assert_close(program.module()(*inputs), module(*inputs))
