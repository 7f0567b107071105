"""Adapters by hand, in the forms in which they are found on the Hub.

An adapter is a dict from a module, `(component, path)`, to its `Factors`.
"""

import json
from dataclasses import dataclass

import torch
from safetensors.torch import save_file

# Every kind of layer that is adapted: attention, feed-forward, convolutions of 1x1 and 3x3 with and
# without a stride, embeddings of the time, the first and the last layer.
UNET = (
    "conv_in",
    "conv_out",
    "time_embedding.linear_1",
    "down_blocks.0.attentions.0.proj_in",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0",
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2",
    "down_blocks.0.downsamplers.0.conv",
    "down_blocks.1.resnets.0.conv1",
    "down_blocks.1.resnets.0.conv_shortcut",
    "down_blocks.1.resnets.0.time_emb_proj",
    "up_blocks.1.attentions.0.proj_out",
)
# Also the attention processors of before 2023 could hold only these.
UNET_ATTENTION = tuple(path for path in UNET if ".attn" in path)
TEXT = (
    "text_model.encoder.layers.0.self_attn.q_proj",
    "text_model.encoder.layers.0.self_attn.k_proj",
    "text_model.encoder.layers.0.self_attn.v_proj",
    "text_model.encoder.layers.1.self_attn.out_proj",
    "text_model.encoder.layers.1.mlp.fc1",
    "text_model.encoder.layers.1.mlp.fc2",
)
KOHYA_PREFIXES = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}


@dataclass
class Factors:
    """One low-rank update; `alpha` None leaves it out of the file."""

    down: torch.Tensor
    up: torch.Tensor
    alpha: float | None

    def delta(self):
        """What is added to the weight, float64, flat behind the first axis."""
        rank = len(self.down)
        scale = 1.0 if self.alpha is None else self.alpha / rank
        return scale * (self.up.double().flatten(1) @ self.down.double().flatten(1))


def make_factors(shape, rank, alpha=None, seed=0, dtype=torch.float32):
    """Random factors for a weight of `shape`."""
    generator = torch.Generator().manual_seed(seed)
    out, inputs, *kernel = shape
    down = torch.randn(rank, inputs, *kernel, generator=generator)
    up = torch.randn(out, rank, *[1] * len(kernel), generator=generator)
    return Factors((0.3 * down).to(dtype), (0.3 * up).to(dtype), alpha)


def make_adapter(weights, modules, ranks=(4,), alphas=(None,), dtype=torch.float32):
    """An adapter of `modules`, whose ranks and alphas take turns; `weights` by component."""
    adapter = {}
    for index, (component, path) in enumerate(modules):
        shape = weight_of(weights[component], path).shape
        rank, alpha = ranks[index % len(ranks)], alphas[index % len(alphas)]
        adapter[component, path] = make_factors(shape, rank, alpha, index, dtype)
    return adapter


def weight_of(tensors, path):
    """The weight of a module, with or without `text_model` in front as transformers has it."""
    return tensors[weight_name(tensors, path)]


def weight_name(tensors, path):
    for candidate in (path, path.removeprefix("text_model.")):
        if f"{candidate}.weight" in tensors:
            return f"{candidate}.weight"
    raise KeyError(path)


def kohya(adapter):
    """`lora_unet_down_blocks_0_….lora_down.weight`, with alphas."""
    tensors = {}
    for (component, path), factors in adapter.items():
        stem = f"{KOHYA_PREFIXES[component]}_{path.replace('.', '_')}"
        tensors[f"{stem}.lora_down.weight"] = factors.down
        tensors[f"{stem}.lora_up.weight"] = factors.up
        if factors.alpha is not None:
            tensors[f"{stem}.alpha"] = torch.tensor(factors.alpha)
    return tensors


def diffusers(adapter):
    """`unet.….lora.down.weight` and `text_encoder.….lora_linear_layer.down.weight`."""
    tensors = {}
    for (component, path), factors in adapter.items():
        layer = "lora" if component == "unet" else "lora_linear_layer"
        tensors[f"{component}.{path}.{layer}.down.weight"] = factors.down
        tensors[f"{component}.{path}.{layer}.up.weight"] = factors.up
    return tensors


def diffusers_old(adapter):
    """`unet.….attn1.processor.to_q_lora.down.weight`: attention layers only."""
    names = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
    tensors = {}
    for (component, path), factors in adapter.items():
        parent, layer = path.removesuffix(".0").rsplit(".", 1)
        parent = f"{parent}.processor" if component == "unet" else parent
        stem = f"{component}.{parent}.{names.get(layer, layer)}_lora"
        tensors[f"{stem}.down.weight"] = factors.down
        tensors[f"{stem}.up.weight"] = factors.up
    return tensors


def peft_names(adapter):
    """`unet.….lora_A.weight`: what diffusers saves today."""
    tensors = {}
    for (component, path), factors in adapter.items():
        tensors[f"{component}.{path}.lora_A.weight"] = factors.down
        tensors[f"{component}.{path}.lora_B.weight"] = factors.up
    return tensors


def save_peft(folder, adapter, binary=False, **config):
    """A PEFT folder of an adapter of one component."""
    folder.mkdir(parents=True)
    tensors = {}
    for (_, path), factors in adapter.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = factors.down
        tensors[f"base_model.model.{path}.lora_B.weight"] = factors.up
    if binary:
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        save_file(tensors, folder / "adapter_model.safetensors")
    component = next(iter(adapter))[0]
    classes = {"unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel"}
    config = {
        "peft_type": "LORA",
        "auto_mapping": {"base_model_class": classes[component], "parent_library": "…"},
        "target_modules": [path for _, path in adapter],
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
