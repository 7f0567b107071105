"""Text encoders with Apple's inputs and outputs, against transformers."""

import copy

import pytest
import torch
import transformers
from kdexport.core.compare import compare
from kdexport.core.errors import CheckpointError
from kdexport.export.coreml.convert import to_program
from kdexport.export.coreml.wrap_text import AppleTextEncoder

TOKENS = 12
KINDS = ["CLIPTextModel", "CLIPTextModelWithProjection"]


@pytest.fixture(scope="module", params=KINDS)
def encoder(request, micro):
    return make(micro, request.param)


def make(micro, kind, **changes):
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(**{**micro.TEXT, "num_hidden_layers": 3, **changes})
    return getattr(transformers, kind)(config).eval().requires_grad_(False)


def tokens():
    ids = torch.randint(0, 90, (1, TOKENS), generator=torch.Generator().manual_seed(3))
    ids[0, 7:] = 95
    return ids


def near(got, wanted):
    return compare(got.numpy(), wanted.numpy()).relative_l2 < 1e-5


def pooled(result):
    return result.text_embeds if "text_embeds" in result else result.pooler_output


def test_stable_diffusion(encoder):
    wanted = encoder(tokens())
    module = AppleTextEncoder(copy.deepcopy(encoder), xl=False)
    state, whole = module(tokens().float())
    assert near(state, wanted.last_hidden_state)
    assert near(whole, pooled(wanted))
    assert [port.name for port in module.outputs] == ["last_hidden_state", "pooled_outputs"]
    assert [port.sizes({}) for port in module.inputs] == [(1, TOKENS)]
    assert {port.dtype for port in (*module.inputs, *module.outputs)} == {torch.float32}
    assert module.outputs[0].sizes({}) == tuple(state.shape)
    assert module.outputs[1].sizes({}) == tuple(whole.shape)


def test_sdxl(encoder):
    wanted = encoder(tokens(), output_hidden_states=True)
    module = AppleTextEncoder(copy.deepcopy(encoder), xl=True)
    state, whole = module(tokens().float())
    assert near(state, wanted.hidden_states[-2])
    assert near(whole, pooled(wanted))
    assert [port.name for port in module.outputs] == ["hidden_embeds", "pooled_outputs"]
    assert module.outputs[0].alias == "hidden_states.2"
    projected = hasattr(encoder, "text_projection")
    assert module.outputs[1].alias == ("text_embeds" if projected else "pooler_output")


@pytest.mark.parametrize("skip", [1, 2])
def test_clip_skip_of_stable_diffusion(encoder, skip):
    """As `StableDiffusionPipeline.encode_prompt` takes it, for the prompt and for the other one."""
    states = encoder(tokens(), output_hidden_states=True)
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    module = AppleTextEncoder(copy.deepcopy(encoder), xl=False, skip=skip)
    skipped, _, plain = module(tokens().float())
    assert near(skipped, norm(states.hidden_states[-(skip + 1)]))
    assert near(plain, states.last_hidden_state)
    assert [(port.name, port.alias) for port in module.outputs[::2]] == [
        ("last_hidden_state", "skipped_hidden_state"),
        ("unskipped_last_hidden_state", "last_hidden_state"),
    ]


def test_clip_skip_of_sdxl(encoder):
    states = encoder(tokens(), output_hidden_states=True).hidden_states
    module = AppleTextEncoder(copy.deepcopy(encoder), xl=True, skip=1)
    skipped, _, plain = module(tokens().float())
    assert near(skipped, states[-3])
    assert near(plain, states[-2])
    assert [(port.name, port.alias) for port in module.outputs[::2]] == [
        ("hidden_embeds", "hidden_states.1"),
        ("unskipped_hidden_embeds", "hidden_states.2"),
    ]


def test_masks_are_finite_in_float16(encoder):
    """The mask of transformers is minus infinity there."""
    module = AppleTextEncoder(copy.deepcopy(encoder), xl=True)
    wanted = module(tokens().float())
    half = copy.deepcopy(module).half()
    masks = [each for name, each in half.named_buffers() if name.endswith("causal")]
    assert len(masks) == 3
    assert all(mask.isfinite().all() and mask.dtype == torch.float16 for mask in masks)
    for got, one in zip(half(tokens().float()), wanted, strict=True):
        assert got.isfinite().all()
        assert compare(got.float().numpy(), one.numpy()).relative_l2 < 5e-3


def test_nothing_is_added_to_the_checkpoint(encoder):
    module = AppleTextEncoder(copy.deepcopy(encoder), xl=False)
    assert module.inner.state_dict().keys() == encoder.state_dict().keys()


def test_a_token_does_not_see_the_next_ones(encoder):
    module = AppleTextEncoder(copy.deepcopy(encoder), xl=False)
    other = tokens()
    other[0, 5] = 1
    one, two = module(tokens().float())[0], module(other.float())[0]
    assert torch.equal(one[:, :5], two[:, :5])
    assert not torch.allclose(one[:, 5:], two[:, 5:])


def test_another_architecture():
    config = transformers.BertConfig(
        vocab_size=96, hidden_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(CheckpointError, match="BertModel is no CLIP text encoder"):
        AppleTextEncoder(transformers.BertModel(config), xl=False)


# 2 is what old configs say, with which the pooled token is the one of the highest id.
@pytest.mark.parametrize(("end", "target"), [(95, "iOS16"), (2, "iOS18")])
def test_coremltools_follows(micro, end, target):
    pytest.importorskip("coremltools")
    encoder = make(micro, KINDS[1], num_hidden_layers=1, eos_token_id=end)
    module = AppleTextEncoder(encoder, xl=False, skip=1)
    main = to_program(module, [{"height": 1, "width": 1}], target).functions["main"]
    assert [each.name for each in main.outputs] == [port.name for port in module.outputs]
    constants = [each.val.val for each in main.operations if each.op_type == "const"]
    numbers = [each for each in constants if getattr(each, "dtype", None) == "float32"]
    assert min(each.min() for each in numbers if each.size) == -1e4
