"""Made-up adapters, against the libraries that read such files."""

import diffusers
import peft
import pytest
import torch
from kdexport.core.checkpoint import ComponentSource
from kdexport.export.make_adapter import write_adapter
from kdexport.export.zoo_types import AdapterPiece
from safetensors.torch import load_file


def projections(unet):
    names = ("to_q", "to_k", "to_v", "to_out.0")
    return [name for name, _ in unet.named_modules() if name.endswith(names) and "attn" in name]


def test_peft_reads_every_tensor(narrow):
    folder = narrow("sdxs-512-dreamshaper-anime")
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    plain = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    count = len(projections(unet))
    model = peft.PeftModel.from_pretrained(unet, folder / "adapter")
    read = [name for name, _ in model.named_parameters() if ".lora_" in name]
    assert len(read) == 2 * count > 0
    merged = model.merge_and_unload().state_dict()
    changed = {name for name in plain if not torch.equal(plain[name], merged[name])}
    assert changed == {f"{name}.weight" for name in projections(unet)}


def test_diffusers_reads_every_tensor(narrow):
    folder = narrow("segmind-vegart")
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    pipeline.load_lora_weights(folder / "adapter")
    read = [name for name, _ in pipeline.unet.named_parameters() if ".lora_" in name]
    file = folder / "adapter" / "pytorch_lora_weights.safetensors"
    assert len(read) == len(load_file(file)) > 0


@pytest.mark.parametrize("format", ["peft", "kohya"])
def test_the_seed_decides_every_byte(narrow, tmp_path, format):
    folder = narrow("bk-sdm-tiny") / "unet"
    config = diffusers.UNet2DConditionModel.load_config(folder)
    unet = ComponentSource("unet", "diffusers", "UNet2DConditionModel", folder, config)
    contents = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_adapter(tmp_path / name, AdapterPiece(format, 4), unet, seed)
        (file,) = (tmp_path / name).glob("*.safetensors")
        contents.append(file.read_bytes())
    assert contents[0] == contents[1] != contents[2]
