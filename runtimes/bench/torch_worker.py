"""The process of diffusers, eager or compiled; `python -m kdexport.runtimes.bench.torch_worker`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from ...core.checkpoint import Checkpoint
from ...core.records import decode
from .protocol import Parts, pipeline_arguments, serve


class DiffusersWorker:
    """Draws with diffusers' own pipeline on the CPU, put together from a checkpoint."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.parts = Parts()
        self._tool, self._drawing = request["tool"], request["drawing"]
        self._checkpoint = decode(Checkpoint, self._tool["checkpoint"])
        self._pipeline: Any = None

    def import_packages(self) -> None:
        """Imports torch and diffusers."""
        import torch

        from .. import torch_pipeline  # noqa: F401

        torch.set_num_threads(self._tool["threads"])

    def load(self) -> None:
        """Loads the pipeline and fuses its adapters."""
        import torch

        from ..torch_lora import fuse_adapters
        from ..torch_pipeline import load_component, load_tokenizer, make_pipeline

        checkpoint, dtype = self._checkpoint, getattr(torch, self._tool["dtype"])
        names = (*checkpoint.text_encoders, "unet", "vae")
        parts = {name: load_component(checkpoint.component(name), dtype) for name in names}
        for name in checkpoint.text_encoders:
            tokenizer = name.replace("text_encoder", "tokenizer")
            most = parts[name].config.max_position_embeddings
            parts[tokenizer] = load_tokenizer(checkpoint, tokenizer, most)
        self._pipeline = make_pipeline(checkpoint, parts, checkpoint.pipeline_class)
        self._pipeline.set_progress_bar_config(disable=True)
        fuse_adapters(self._pipeline, checkpoint)
        self._instrument(parts)

    def draw(self) -> Any:
        """Draws the picture."""
        import numpy as np
        import torch

        drawing, pipeline = self._drawing, self._pipeline
        generator = torch.Generator("cpu").manual_seed(drawing["seed"])
        factor = pipeline.vae_scale_factor
        cells = (drawing["height"] // factor, drawing["width"] // factor)
        shape = (1, pipeline.unet.config.in_channels, *cells)
        # In float32 whatever the pipeline's dtype is: in another, torch draws other numbers.
        latents = torch.randn(shape, generator=generator).to(pipeline.unet.dtype)
        skipped = self._checkpoint.clip_skip
        image = pipeline(
            **pipeline_arguments(drawing),
            generator=generator,
            latents=latents,
            **({} if skipped is None else {"clip_skip": skipped}),
        ).images[0]
        return np.asarray(image)

    def versions(self) -> dict[str, str]:
        """Versions of what draws."""
        return {name: metadata.version(name) for name in ("diffusers", "torch", "transformers")}

    def _instrument(self, parts: Mapping[str, Any]) -> None:
        """Compiles what is to be compiled, and times the components."""
        import torch

        for name in self._checkpoint.text_encoders:
            module = parts[name]
            module.forward = self.parts.timed(name, module.forward)
            if self._checkpoint.clip_skip is not None and not hasattr(module, "text_model"):
                # diffusers' clip_skip looks for the norm where transformers had it before 5.
                vars(module)["text_model"] = module
        unet, vae = parts["unet"], parts["vae"]
        if self._tool["compiled"]:
            unet.forward = torch.compile(unet.forward, dynamic=False)
            vae.decoder.forward = torch.compile(vae.decoder.forward, dynamic=False)
        unet.forward = self.parts.timed("unet", unet.forward)
        vae.decode = self.parts.timed("vae_decoder", vae.decode)


if __name__ == "__main__":
    serve(DiffusersWorker)
