"""Models put together: a U-Net and its base, variants of the weights."""

import json
import shutil
import warnings

import diffusers
import pytest
import torch
from kdexport.core.errors import CheckpointError, CheckpointWarning, OptionError
from kdexport.core.options import ModelOptions
from kdexport.export.load import load_checkpoint
from safetensors.torch import load_file, save_file


def load(model, **extra):
    return load_checkpoint(str(model), extra=ModelOptions(**extra))


@pytest.fixture
def student(narrow, tmp_path):
    """What `diffengine convert --save-keys unet` writes."""
    shutil.copytree(narrow("koala-700m") / "unet", tmp_path / "student" / "unet")
    return tmp_path / "student"


def test_a_student_and_its_base(student, narrow):
    base = narrow("koala-1b")
    for folder in (student, student / "unet"):
        checkpoint = load(folder, base=str(base))
        assert checkpoint.component("unet").folder == student / "unet"
        assert checkpoint.component("unet").config["mid_block_type"] is None
        assert checkpoint.component("text_encoder_2").folder == base / "text_encoder_2"
        assert checkpoint.folder == base
        assert (checkpoint.model, checkpoint.base) == (str(folder), str(base))
        assert checkpoint.family == "sdxl"


def test_a_student_with_another_decoder(student, narrow):
    """diffengine's advice: the base's autoencoder overflows float16, so another is swapped in."""
    base, fixed = narrow("koala-1b"), narrow("koala-700m") / "vae"
    checkpoint = load(student, base=str(base), decoder=str(fixed))
    assert checkpoint.component("vae").folder == fixed


def test_a_student_with_a_text_encoder_of_its_own(student, narrow):
    shutil.copytree(narrow("koala-700m") / "text_encoder", student / "text_encoder")
    checkpoint = load(student, base=str(narrow("koala-1b")))
    assert checkpoint.component("text_encoder").folder == student / "text_encoder"
    assert checkpoint.component("text_encoder").class_name == "CLIPTextModel"


def test_a_student_alone(student):
    for folder in (student, student / "unet"):
        with pytest.raises(CheckpointError, match="only a part of a pipeline; name the pipeline"):
            load(folder)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("bk-sdm-small", r"reads text embeddings of width 64, and its base gives 24; pass the"),
        ("nowhere", "neither a folder nor a Hub id"),
    ],
)
def test_a_base_that_does_not_fit(student, narrow, base, message):
    base = base if base == "nowhere" else narrow(base)
    with pytest.raises(CheckpointError, match=message):
        load(student, base=str(base))


def test_a_base_of_another_family(student, narrow):
    path = student / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "addition_embed_type": None}))
    with pytest.raises(CheckpointError, match="does not fit into a StableDiffusionXLPipeline"):
        load(student, base=str(narrow("koala-1b")))


def test_a_part_that_is_no_unet(narrow):
    folder = narrow("bk-sdm-small")
    with pytest.raises(CheckpointError, match="is a AutoencoderKL, which kdexport cannot export"):
        load(folder / "vae", base=str(folder))


def test_a_part_that_the_base_has_no_place_for(student, narrow):
    shutil.copytree(narrow("koala-700m") / "text_encoder_2", student / "text_encoder_2")
    with pytest.raises(CheckpointError, match="no 'text_encoder_2', only"):
        load(student, base=str(narrow("bk-sdm-small")))


def test_a_whole_pipeline_needs_no_base(narrow):
    folder = str(narrow("bk-sdm-small"))
    with pytest.raises(OptionError, match="is a whole pipeline; leave out --base"):
        load(folder, base=folder)


@pytest.fixture
def varied(narrow, tmp_path):
    """A pipeline whose U-Net and text encoder have a float16 variant."""
    folder = shutil.copytree(narrow("bk-sdm-small"), tmp_path / "varied")
    names = {"unet": "diffusion_pytorch_model", "text_encoder": "model"}
    for part, name in names.items():
        tensors = load_file(folder / part / f"{name}.safetensors")
        half = {key: tensor.half() for key, tensor in tensors.items()}
        save_file(half, folder / part / f"{name}.fp16.safetensors", {"format": "pt"})
    return folder


def test_a_variant(varied):
    with pytest.warns(CheckpointWarning, match="no fp16 weights of vae; the plain ones are read"):
        checkpoint = load(varied, variant="fp16")
    variants = {name: source.variant for name, source in checkpoint.components.items()}
    assert variants == {"text_encoder": "fp16", "unet": "fp16", "vae": None}
    # diffusers makes the same choice.
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        varied, variant="fp16", torch_dtype=torch.float32, safety_checker=None
    )
    exact = load_file(varied / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    assert torch.equal(pipeline.unet.conv_in.weight, exact.half().float())
    assert not torch.equal(pipeline.unet.conv_in.weight, exact)


def test_a_variant_of_everything_is_no_reason_for_a_notice(varied):
    path = varied / "vae" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", CheckpointWarning)
        load(varied, variant="fp16")


def test_no_such_variant(varied):
    with pytest.raises(CheckpointError, match="has weights of the variant 'bf16'; leave out"):
        load(varied, variant="bf16")
