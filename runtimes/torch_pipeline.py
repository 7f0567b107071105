"""diffusers' pipelines put together from the components of a checkpoint, in float32."""

from __future__ import annotations

from typing import Any

import diffusers
import PIL.Image
import torch
import transformers

from ..core.checkpoint import Checkpoint, ComponentSource
from ..core.errors import CheckpointError
from ..core.weight_files import SAFETENSORS, weight_files
from .plan import Plan
from .torch_single_file import load_from_single_file

# Class of a pipeline to the class of the one that starts from a picture.
_FROM_PICTURE = {
    # Not diffusers' own for these, which counts the strength otherwise than all the others.
    "LatentConsistencyModelPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionControlNetPipeline": "StableDiffusionControlNetImg2ImgPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLControlNetPipeline": "StableDiffusionXLControlNetImg2ImgPipeline",
}


def load_component(source: ComponentSource, dtype: torch.dtype = torch.float32) -> Any:
    """The module of a component, in evaluation mode.

    Args:
        source: The component.
        dtype: What it computes in, whatever the file holds; float32 is what the reference is.

    Raises:
        CheckpointError: Its library cannot load it.
    """
    library = {"diffusers": diffusers, "transformers": transformers}[source.library]
    kind = getattr(library, source.class_name)
    try:
        if source.file is not None:
            return load_from_single_file(kind, source).to(dtype).eval()
        module = kind.from_pretrained(
            source.folder,
            torch_dtype=dtype,
            variant=source.variant,
            use_safetensors=weight_files(source)[0].suffix == SAFETENSORS,
            # Over what config.json says.
            **source.repaired,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{source.library} cannot load '{source.file or source.folder}': {str(error)[:300]}"
        ) from error
    return module.eval()


def load_tokenizer(checkpoint: Checkpoint, name: str, most: int) -> Any:
    """The tokenizer in the folder `name` of a checkpoint, for texts of at most `most` tokens."""
    folder = checkpoint.folder / name
    # Before transformers 5 only the fast tokenizer reads a folder with tokenizer.json alone.
    alone = not (folder / "vocab.json").is_file()
    kind = transformers.CLIPTokenizerFast if alone else transformers.CLIPTokenizer
    tokenizer = kind.from_pretrained(folder)
    # transformers 5 leaves it at 1e30 where the files do not say, and diffusers overflows.
    tokenizer.model_max_length = most
    return tokenizer


def pipeline_class(checkpoint: Checkpoint, plan: Plan) -> str:
    """Class of the pipeline that draws a plan."""
    kind = checkpoint.pipeline_class
    return kind if plan.init is None else _FROM_PICTURE[kind]


def start_arguments(plan: Plan) -> dict[str, Any]:
    """What the pipelines take to start from noise, or from a picture."""
    if plan.init is None:
        return {"height": plan.height, "width": plan.width}
    return {"image": PIL.Image.fromarray(plan.init), "strength": plan.strength}


def make_pipeline(checkpoint: Checkpoint, parts: dict[str, Any], class_name: str) -> Any:
    """A pipeline over the checkpoint with the given parts only."""
    kind = getattr(diffusers, class_name)
    scheduler = getattr(diffusers, checkpoint.scheduler["_class_name"])
    names = ["vae", "text_encoder", "tokenizer", "unet"]
    if checkpoint.control:
        names.append("controlnet")
    options: dict[str, Any] = {"scheduler": scheduler.from_config(dict(checkpoint.scheduler))}
    if checkpoint.family == "sdxl":
        names += ["text_encoder_2", "tokenizer_2"]
        zeros = checkpoint.index.get("force_zeros_for_empty_prompt", True)
        options |= {"force_zeros_for_empty_prompt": zeros, "add_watermarker": False}
    else:
        options |= {"safety_checker": None, "feature_extractor": None}
        options |= {"requires_safety_checker": False}
    return kind(**{name: parts.get(name) for name in names}, **options)
