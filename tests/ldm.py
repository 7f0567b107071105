"""Single-file checkpoints out of diffusers pipelines: names and shapes of the original code.

The inverse of what diffusers converts, written from the layout of the original repositories
(CompVis/stable-diffusion, Stability-AI/generative-models). The tests hold it against diffusers.
"""

import json
import re

import torch
from safetensors.torch import load_file, save_file

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
OPEN_CLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm": "ln_final",
}
OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def write_single_file(folder, path, leave_out=()):
    """Writes the components of a pipeline folder into one file, but for those left out."""
    tensors = {}
    parts = SDXL if (folder / "text_encoder_2").is_dir() else SD
    for name, convert in parts.items():
        if name not in leave_out:
            config = json.loads((folder / name / "config.json").read_text())
            tensors |= convert(load(folder / name), config)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors, "global_step": 7}, path)
    return path


def load(folder):
    return load_file(next(folder.glob("*.safetensors")))


def renamed(name, names):
    for new, old in names.items():
        if name.startswith(f"{new}.") or name == new:
            return name.replace(new, old, 1)
    raise KeyError(name)


def unet(tensors, config):
    stages = zip(config["down_block_types"], config["up_block_types"], strict=True)
    attentive = [("Cross" in down, "Cross" in up) for down, up in stages]
    layers = config["layers_per_block"] + 1
    return {
        f"model.diffusion_model.{unet_name(name, layers, attentive)}": tensor
        for name, tensor in tensors.items()
    }


def unet_name(name, layers, attentive):
    found = re.match(r"(down_blocks\.(\d+)|up_blocks\.(\d+)|mid_block)\.(\w+)\.(\d+)\.(.*)", name)
    if not found:
        return renamed(name, UNET)
    kind, index, rest = found[4], int(found[5]), found[6]
    rest = renamed(rest, RESNET) if kind == "resnets" else rest
    if found[2]:
        block = int(found[2]) * layers + 1
        if kind == "downsamplers":
            return f"input_blocks.{block + layers - 1}.0.{rest.replace('conv', 'op', 1)}"
        return f"input_blocks.{block + index}.{kind == 'attentions':d}.{rest}"
    if found[3]:
        block = int(found[3]) * layers
        if kind == "upsamplers":
            after = 1 + attentive[int(found[3])][1]
            return f"output_blocks.{block + layers - 1}.{after}.{rest}"
        return f"output_blocks.{block + index}.{kind == 'attentions':d}.{rest}"
    return f"middle_block.{2 * index + (kind == 'attentions')}.{rest}"


def vae(tensors, config):
    last = len(config["block_out_channels"]) - 1
    return dict(vae_tensor(name, tensor, last) for name, tensor in tensors.items())


def vae_tensor(name, tensor, last):
    attention = re.match(r"(\w+)\.mid_block\.attentions\.0\.(.*)", name)
    if attention:
        # The original has convolutions of 1x1 where diffusers has matrices.
        tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        name = f"{attention[1]}.mid.attn_1.{renamed(attention[2], VAE_ATTENTION)}"
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"down_blocks\.(\d)\.", r"down.\1.", name)
    name = re.sub(r"up_blocks\.(\d)\.", lambda m: f"up.{last - int(m[1])}.", name)
    name = re.sub(r"(down|up)samplers\.0", r"\1sample", name).replace(".resnets.", ".block.")
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    return f"first_stage_model.{name}", tensor


def text_encoder(tensors, config):
    if config["hidden_act"] == "gelu":
        return open_clip(tensors, "cond_stage_model.model.")
    prefix = "cond_stage_model.transformer."
    positions = {f"{prefix}text_model.embeddings.position_ids": torch.arange(77)[None]}
    return positions | {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def open_clip(tensors, prefix):
    converted, joined = {}, {}
    for full, tensor in tensors.items():
        name = full.removeprefix("text_model.")
        layer = re.match(r"encoder\.layers\.(\d+)\.(.*)", name)
        if name == "text_projection.weight":
            converted[f"{prefix}text_projection"] = tensor.T
        elif not layer:
            converted[prefix + renamed(name, OPEN_CLIP)] = tensor
        elif part := re.match(r"self_attn\.([qkv])_proj\.(\w+)", layer[2]):
            joined.setdefault((layer[1], part[2]), {})[part[1]] = tensor
        else:
            rest = renamed(layer[2], OPEN_CLIP_LAYER)
            converted[f"{prefix}transformer.resblocks.{layer[1]}.{rest}"] = tensor
    for (index, kind), parts in joined.items():
        name = f"{prefix}transformer.resblocks.{index}.attn.in_proj_{kind}"
        converted[name] = torch.cat([parts[each] for each in "qkv"])
    # Of no use to a pipeline, but in the files.
    return converted | {f"{prefix}logit_scale": torch.tensor(4.6)}


def sdxl_text_encoder(tensors, config):
    prefix = "conditioner.embedders.0.transformer."
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def text_encoder_2(tensors, config):
    return open_clip(tensors, "conditioner.embedders.1.model.")


SD = {"unet": unet, "vae": vae, "text_encoder": text_encoder}
SDXL = {**SD, "text_encoder": sdxl_text_encoder, "text_encoder_2": text_encoder_2}
