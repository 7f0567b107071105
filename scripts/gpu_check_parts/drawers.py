"""Opens a side, ready to draw; runs in the side's own process.

Written without a GPU: diffusers and ONNX Runtime were run on a CPU, `torch.compile`, CUDA graphs
and engines were never executed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .sides import DiffusersSide, Drawing, EngineSide, OrtSide, Side

# From a seed to 8-bit pixels, `(height, width, 3)`, the text included.
Draw = Callable[[int], NDArray[np.uint8]]


def open_side(side: Side, drawing: Drawing) -> Draw:
    """Loads what a side draws with."""
    return _OPENERS[side.kind](side, drawing)


def _diffusers(side: DiffusersSide, drawing: Drawing) -> Draw:
    import diffusers
    import torch

    if side.device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} does not see a GPU")
    # float32 is what the others are compared with: all of its bits.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    dtype = getattr(torch, side.dtype)
    pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(side.model, torch_dtype=dtype)
    pipeline.to(side.device)
    pipeline.set_progress_bar_config(disable=True)
    if side.compiled is not None:
        for part in (pipeline.unet, pipeline.vae):
            part.to(memory_format=torch.channels_last)
        pipeline.unet = torch.compile(pipeline.unet, mode=side.compiled, fullgraph=True)
        pipeline.vae.decode = torch.compile(pipeline.vae.decode, mode=side.compiled)

    def draw(seed: int) -> NDArray[np.uint8]:
        image = pipeline(
            drawing.prompt,
            num_inference_steps=drawing.steps,
            guidance_scale=drawing.guidance,
            height=drawing.height,
            width=drawing.width,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        return np.asarray(image)

    return draw


def _onnxruntime(side: OrtSide, drawing: Drawing) -> Draw:
    from kdexport.core.manifest import Component, load_manifest
    from kdexport.runtimes.components import Components
    from kdexport.runtimes.loop import Loop
    from kdexport.runtimes.ort import OrtRunner
    from kdexport.runtimes.ort_options import OrtOptions
    from kdexport.runtimes.pipeline import Pipeline

    bundle = Path(side.bundle)
    manifest = load_manifest(bundle)

    def make(component: Component) -> OrtRunner:
        # Graphs need every kernel on the GPU, which the text encoders' are not.
        graphs = side.cuda_graphs and component.role == "unet"
        return OrtRunner(bundle / component.file, OrtOptions(side.provider, cuda_graphs=graphs))

    loop = Loop(manifest, bundle, Components(manifest, make))
    loop.open()
    return _pipeline(Pipeline(bundle, manifest, loop), drawing)


def _engines(side: EngineSide, drawing: Drawing) -> Draw:
    from kdexport.runtimes.pipeline import Pipeline

    pipeline = Pipeline.load(side.bundle, runtime=side.runtime, provider=side.provider, check=False)
    return _pipeline(pipeline, drawing)


def _pipeline(pipeline: Any, drawing: Drawing) -> Draw:
    def draw(seed: int) -> NDArray[np.uint8]:
        image = pipeline(
            drawing.prompt,
            steps=drawing.steps,
            guidance=drawing.guidance,
            height=drawing.height,
            width=drawing.width,
            seed=seed,
        )
        return np.asarray(image)

    return draw


_OPENERS: dict[str, Callable[[Any, Drawing], Draw]] = {
    "diffusers": _diffusers,
    "onnxruntime": _onnxruntime,
    "engines": _engines,
}
