"""Made-up weights: the models they make run, on the scale of trained ones, and hide no tensor."""

import json

import diffusers
import numpy as np
import pytest
import torch
from kdexport.core.errors import CheckpointError
from kdexport.export.draw import Draw
from kdexport.export.random_weights import draws
from kdexport.export.zoo import zoo
from PIL import Image
from safetensors.torch import load_file
from torch import nn

NAMES = tuple(zoo())
PROMPTS = ("a golden vase with different flowers", "a dog running on the beach at sunset")


def _pipeline(folder, dtype=torch.float32):
    index = json.loads((folder / "model_index.json").read_text())
    pipeline = getattr(diffusers, index["_class_name"]).from_pretrained(folder, torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _embeddings(pipeline, prompt):
    return pipeline.encode_prompt(
        prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )


def _unet(pipeline, latents, prompt, timestep):
    encoded = _embeddings(pipeline, prompt)
    added = None
    if len(encoded) == 4:  # SDXL
        edge = float(8 * latents.shape[-1])
        ids = torch.tensor([[edge, edge, 0, 0, edge, edge]])
        added = {"text_embeds": encoded[2], "time_ids": ids}
    return pipeline.unet(latents, timestep, encoded[0], added_cond_kwargs=added).sample


def _difference(one, other):
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_two_steps(narrow, name):
    pipeline = _pipeline(narrow(name))
    guidance = zoo()[name].guidance
    control = {"image": Image.new("RGB", (128, 128), "red")} if zoo()[name].controlnet else {}
    images = pipeline(
        PROMPTS[0],
        num_inference_steps=2,
        guidance_scale=guidance,
        output_type="np",
        generator=torch.Generator().manual_seed(0),
        **control,
    ).images
    assert images.shape == (1, 128, 128, 3)
    assert np.isfinite(images).all()
    assert 0.1 < images.std() < 0.45


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_scales(narrow, name):
    """Outputs have the scale of a trained model's, and depend on prompt, time and latents."""
    pipeline = _pipeline(narrow(name))
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    one, other = (_embeddings(pipeline, prompt)[0] for prompt in PROMPTS)
    assert 0.5 < one.std() < 1.5
    assert _difference(one, other) > 0.3

    output = _unet(pipeline, latents, PROMPTS[0], 999)
    assert 0.7 < output.std() < 1.4
    assert 0.01 < _difference(_unet(pipeline, latents, PROMPTS[1], 999), output) < 0.5
    assert 0.01 < _difference(_unet(pipeline, latents, PROMPTS[0], 500), output) < 0.5
    # What is left of pure noise after one step: 14.6 (latents - output).
    assert 1 < 14.6 * (latents - output).std() < 6

    vae = pipeline.vae
    image = vae.decode(latents / vae.config.scaling_factor).sample
    assert 0.25 < image.std() < 0.6
    assert image.std(dim=(2, 3)).min() > 0.2
    assert (image.abs() > 1).float().mean() < 0.1
    encoded = vae.encode(image)
    mean = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean
    assert 0.4 < vae.config.scaling_factor * mean.std() < 1.5


@pytest.mark.parametrize("name", ["bk-sdm-base", "koala-1b", "sdxs-512-dreamshaper"])
@torch.no_grad()
def test_nothing_overflows_in_float16(narrow, name):
    pipeline = _pipeline(narrow(name), torch.float16)
    # The SDXL pipeline would upcast its VAE, whose trained weights overflow; these must not.
    pipeline.vae.register_to_config(force_upcast=False)
    peaks = []

    def watch(module, inputs, output):
        if torch.is_tensor(output) and output.is_floating_point():
            peaks.append(output.abs().max().item())

    for each in zoo()[name].models():
        for module in getattr(pipeline, each).modules():
            module.register_forward_hook(watch)
    steps = max(2, zoo()[name].steps // 8)
    guidance = zoo()[name].guidance
    generator = torch.Generator().manual_seed(0)
    options = {"guidance_scale": guidance, "generator": generator, "output_type": "np"}
    images = pipeline(PROMPTS[0], num_inference_steps=steps, **options).images
    assert np.isfinite(images).all()
    assert images.std() > 0.1
    assert max(peaks) < 255  # whose square float16 still holds


@pytest.mark.parametrize("name", ["bk-sdm-tiny", "koala-700m"])
@torch.no_grad()
def test_every_bias_and_norm_of_the_unet_is_noticed(narrow, name):
    """Neutralising any of them changes the output by more than the float32 parity gate, 1e-4."""
    pipeline = _pipeline(narrow(name))
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    encoded = _embeddings(pipeline, PROMPTS[0])
    added = {"text_embeds": encoded[2], "time_ids": torch.ones(1, 6)} if len(encoded) == 4 else None
    unet = pipeline.unet

    def run():
        return unet(latents, 500, encoded[0], added_cond_kwargs=added).sample

    reference, unnoticed = run(), []
    vectors = {key: each for key, each in unet.named_parameters() if each.ndim == 1}
    assert vectors
    for tensor_name, tensor in vectors.items():
        kept = tensor.clone()
        tensor.fill_(1.0 if "norm" in tensor_name and tensor_name.endswith("weight") else 0.0)
        if _difference(run(), reference) < 1e-4:
            unnoticed.append(tensor_name)
        tensor.copy_(kept)
    assert not unnoticed


def test_a_tensor_does_not_depend_on_the_others(narrow):
    """Two models share the tensors that have the same component, name and shape."""
    one, other = (
        load_file(narrow(name) / "vae" / "diffusion_pytorch_model.safetensors")
        for name in ("bk-sdm-base", "koala-1b")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_no_two_tensors_are_alike(narrow):
    encoders = [
        load_file(narrow("koala-1b") / each / "model.safetensors")
        for each in ("text_encoder", "text_encoder_2")
    ]
    name = "text_model.encoder.layers.0.self_attn.{}.bias".format
    biases = [encoder[name(each)] for encoder in encoders for each in ("q_proj", "k_proj")]
    heads = {tuple(bias[:8].tolist()) for bias in biases}
    assert len(heads) == 4


def test_a_class_without_rules_is_refused():
    with pytest.raises(CheckpointError, match="no rules for random weights of a Gru, only"):
        draws("Gru", nn.Linear(1, 1))


def test_a_layer_without_a_rule_is_refused():
    with pytest.raises(CheckpointError, match=r"no rule for the random weights of 'gru\.weight_ih"):
        draws("AutoencoderTiny", nn.ModuleDict({"gru": nn.GRU(2, 2)}))


def test_a_draw_has_its_mean_and_deviation():
    values = Draw((400, 500), 0.5, mean=2.0).array(0, "unet", "x")
    assert values.dtype == np.float32
    assert abs(values.mean() - 2.0) < 0.01
    assert abs(values.std() - 0.5) < 0.01
    centred = Draw((3, 4, 3, 3), 1.0, centred=True).array(0)
    assert np.allclose(centred.sum(axis=(1, 2, 3)), 0, atol=1e-5)
