"""The smallest modules that have every kind of layer, as checkpoints on disk."""

import inspect
import json
import shutil

import diffusers
import torch
import transformers
from kdexport.core.checkpoint import ComponentSource

UNET = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "mid_block_type": None,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
SDXL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 20,
    "use_linear_projection": True,
}
VAE = {
    "block_out_channels": (8, 8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "norm_num_groups": 4,
}
TINY = {
    "encoder_block_out_channels": (8, 8),
    "decoder_block_out_channels": (8, 8),
    "num_encoder_blocks": (1, 1),
    "num_decoder_blocks": (1, 1),
}
TEXT = {
    "vocab_size": 96,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 12,
    "projection_dim": 20,
    "bos_token_id": 94,
    "eos_token_id": 95,
}


def save(folder, name, class_name, config):
    """Makes a module with random weights, saves it, and returns (source, module)."""
    torch.manual_seed(0)
    if class_name.startswith("CLIP"):
        library, kind = "transformers", getattr(transformers, class_name)
        module = kind(transformers.CLIPTextConfig(**config))
    else:
        library, module = "diffusers", getattr(diffusers, class_name)(**config)
    with torch.no_grad():
        for parameter, tensor in module.named_parameters():
            # Norms and biases away from one and zero, so that a lost one is noticed.
            if tensor.ndim == 1:
                tensor.add_(0.1 * torch.randn_like(tensor))
            elif not tensor.any():
                # What training starts from zero: the last convolutions of a ControlNet.
                tensor.normal_(0, tensor[0].numel() ** -0.5)
            elif "controlnet_cond_embedding" in parameter:
                # As drawn, it would hardly let a picture through.
                tensor.mul_(3)
    module.eval().save_pretrained(folder / name)
    stored = json.loads((folder / name / "config.json").read_text())
    return ComponentSource(name, library, class_name, folder / name, stored), module


def save_pipeline(folder, narrow):
    """Makes a pipeline of the smallest U-Net and VAE around the text encoder of a narrow twin."""
    shutil.copytree(narrow, folder, ignore=shutil.ignore_patterns("unet", "vae"))
    text = json.loads((folder / "text_encoder" / "config.json").read_text())
    save(
        folder, "unet", "UNet2DConditionModel", {**UNET, "cross_attention_dim": text["hidden_size"]}
    )
    save(folder, "vae", "AutoencoderKL", VAE)


def save_sdxl_pipeline(folder, narrow):
    """The same around both text encoders of a narrow twin of the SDXL family."""
    shutil.copytree(narrow, folder, ignore=shutil.ignore_patterns("unet", "vae"))
    paths = [folder / f"text_encoder{number}" / "config.json" for number in ("", "_2")]
    texts = [json.loads(path.read_text()) for path in paths]
    unet = {
        **UNET,
        **SDXL,
        "cross_attention_dim": sum(text["hidden_size"] for text in texts),
        "projection_class_embeddings_input_dim": 6 * 8 + texts[1]["projection_dim"],
    }
    save(folder, "unet", "UNet2DConditionModel", unet)
    save(folder, "vae", "AutoencoderKL", VAE)


def controlnet_config(unet, pixels):
    """The ControlNet for a U-Net's config, for a VAE with so many pixels per latent cell."""
    known = inspect.signature(diffusers.ControlNetModel.__init__).parameters
    shared = {key: value for key, value in unet.items() if key in known}
    return {
        **shared,
        # It needs one where the U-Net has none.
        "mid_block_type": unet.get("mid_block_type") or "UNetMidBlock2DCrossAttn",
        "conditioning_embedding_out_channels": (4, *(8,) * (pixels.bit_length() - 1)),
    }


def save_controlnet(folder, pipeline, pixels):
    """Makes a ControlNet for the U-Net of a pipeline's folder; see `save`."""
    unet = json.loads((pipeline / "unet" / "config.json").read_text())
    return save(folder, "controlnet", "ControlNetModel", controlnet_config(unet, pixels))
