"""VAEs with Apple's inputs, outputs and scaling, against what diffusers' pipelines do."""

import copy

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.compare import compare
from kdexport.export.coreml.convert import to_program
from kdexport.export.coreml.wrap_vae import LIBRARY_FACTORS, AppleDecoder, AppleEncoder
from kdexport.export.narrow import narrow_decoder
from kdexport.export.zoo import zoo_decoder, zoo_decoders

SIZE = {"height": 6, "width": 4}
FACTORS = list(LIBRARY_FACTORS.values())
HALF, FULL = torch.float16, torch.float32


@pytest.fixture(scope="module")
def vaes():
    """Makes a narrow twin of a decoder of the zoo once."""
    made = {}

    def get(name):
        if name not in made:
            piece = narrow_decoder(zoo_decoder(name)).vae
            torch.manual_seed(0)
            vae = getattr(diffusers, piece.class_name).from_config(dict(piece.config))
            made[name] = vae.eval().requires_grad_(False)
        return made[name]

    return get


def latents_of(vae):
    torch.manual_seed(1)
    return torch.randn(1, vae.config.latent_channels, SIZE["height"], SIZE["width"])


def own(vae):
    return vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", zoo_decoders())
def test_decoders(vaes, name, factor):
    vae = vaes(name)
    scaling, shift = own(vae)
    latents = latents_of(vae)
    wanted = vae.decode(latents / scaling + shift).sample
    module = AppleDecoder(copy.deepcopy(vae), library_factor=factor)
    (got,) = module(latents / factor)
    assert compare(got.numpy(), wanted.numpy()).relative_l2 < 1e-5
    assert module.inputs[0].sizes(SIZE) == tuple(latents.shape)
    assert module.outputs[0].sizes(SIZE) == tuple(got.shape)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", zoo_decoders())
def test_encoders(vaes, name, factor):
    """Latents as Apple's package draws them, with the noise of its normal distribution."""
    vae = vaes(name)
    scaling, shift = own(vae)
    pixels = vae.config.get("encoder_block_out_channels") or vae.config.block_out_channels
    side = 2 ** (len(pixels) - 1)
    torch.manual_seed(2)
    image = torch.rand(1, 3, 6 * side, 4 * side) * 2 - 1
    noise = latents_of(vae)
    encoded = vae.encode(image)
    if "latents" in encoded:
        drawn = encoded.latents
    else:
        drawn = encoded.latent_dist.mean + encoded.latent_dist.std * noise
    wanted = (drawn - shift) * scaling
    module = AppleEncoder(copy.deepcopy(vae), library_factor=factor)
    (moments,) = module(image)
    assert module.inputs[0].sizes(SIZE) == tuple(image.shape)
    assert module.outputs[0].sizes(SIZE) == tuple(moments.shape)
    mean, variance = moments.chunk(2, dim=1)
    got = (mean + (variance.clamp(-30, 20) / 2).exp() * noise) * factor
    assert compare(got.numpy(), wanted.numpy()).relative_l2 < 1e-5


@settings(deadline=None, max_examples=15)
@given(
    scaling=st.floats(0.05, 4),
    shift=st.none() | st.floats(-1, 1),
    factor=st.floats(0.05, 4),
)
def test_any_factors(micro, scaling, shift, factor):
    torch.manual_seed(0)
    config = {**micro.VAE, "scaling_factor": scaling, "shift_factor": shift}
    vae = diffusers.AutoencoderKL(**config).eval().requires_grad_(False)
    latents, image = torch.randn(1, 4, 4, 2), torch.rand(1, 3, 16, 8)
    wanted = vae.decode(latents / scaling + (shift or 0)).sample
    mean = (vae.encode(image).latent_dist.mean - (shift or 0)) * scaling
    deviation = vae.encode(image).latent_dist.std * scaling
    (got,) = AppleDecoder(vae, library_factor=factor)(latents / factor)
    assert compare(got.numpy(), wanted.numpy()).relative_l2 < 2e-5
    (moments,) = AppleEncoder(vae, library_factor=factor)(image)
    first, second = moments.chunk(2, dim=1)
    assert compare((first * factor).numpy(), mean.numpy()).relative_l2 < 2e-5
    assert compare(((second / 2).exp() * factor).numpy(), deviation.numpy()).relative_l2 < 2e-5


@pytest.mark.parametrize("edge", [HALF, FULL])
def test_the_contract(micro, edge):
    vae = diffusers.AutoencoderKL(**micro.VAE)
    decoder, encoder = AppleDecoder(vae, edge=edge), AppleEncoder(vae, edge=edge)
    ports = [*decoder.inputs, *decoder.outputs, *encoder.inputs, *encoder.outputs]
    assert [(port.name, port.dtype, port.sizes(SIZE)) for port in ports] == [
        ("z", edge, (1, 4, 6, 4)),
        ("image", FULL, (1, 3, 24, 16)),
        ("x", edge, (1, 3, 24, 16)),
        ("latent", FULL, (1, 8, 6, 4)),
    ]
    aliases = ["latent_sample", "sample", "sample", "latent_parameters"]
    assert [port.alias for port in ports] == aliases


def test_nothing_is_inserted_where_the_factors_agree(micro):
    """0.18215 is the default of AutoencoderKL."""
    vae = diffusers.AutoencoderKL(**micro.VAE)

    def multiplied(factor):
        module = AppleDecoder(vae, library_factor=factor)
        graph = torch.export.export(module, module.examples(SIZE)).graph
        (z,) = (node for node in graph.nodes if node.name == "inputs_0")
        return "mul" in str(next(iter(z.users)).target)

    assert not multiplied(LIBRARY_FACTORS["sd"])
    assert multiplied(LIBRARY_FACTORS["sdxl"])


@pytest.mark.parametrize(
    ("kind", "attention", "target"),
    [(AppleDecoder, "split-einsum-v2", "iOS16"), (AppleEncoder, "sdpa", "iOS18")],
)
@pytest.mark.parametrize("tiny", [False, True])
def test_coremltools_follows(micro, kind, attention, target, tiny):
    pytest.importorskip("coremltools")
    small = {**micro.VAE, "block_out_channels": (8,), "shift_factor": 0.1}
    small |= {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    vae = diffusers.AutoencoderTiny(**micro.TINY) if tiny else diffusers.AutoencoderKL(**small)
    module = kind(vae, attention, library_factor=0.13025)
    main = to_program(module, [SIZE], target).functions["main"]
    assert list(main.inputs) == [module.inputs[0].name]
    (got,) = main.outputs
    assert got.name == module.outputs[0].name
    assert tuple(got.shape) == module.outputs[0].sizes(SIZE)
