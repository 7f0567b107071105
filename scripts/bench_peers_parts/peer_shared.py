"""What the processes of the peers share; each runs in its own environment, without kdexport.

A peer is a program with a class that `Worker` of kdexport's protocol describes. Called with `export
MODEL FOLDER`, it converts instead; the last line that it prints is its peak memory as JSON.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_PROTOCOL = Path(__file__).resolve().parents[2] / "runtimes" / "bench" / "protocol.py"


def _load_protocol() -> Any:
    """The one file of kdexport that runs anywhere."""
    spec = importlib.util.spec_from_file_location("kdexport_bench_protocol", _PROTOCOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


protocol = _load_protocol()


def main(make: Callable[[Mapping[str, Any]], Any], export: Callable[[str, str], None]) -> None:
    """Draws, or converts where the command line says so."""
    if sys.argv[1:2] == ["export"]:
        export(*sys.argv[2:])
        print(json.dumps({"peak_rss": protocol.peak_rss()}))
    else:
        protocol.serve(make)


class LikeDiffusers:
    """A peer whose pipelines are called as those of diffusers are; a subclass loads one."""

    packages: tuple[str, ...] = ()

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.parts = protocol.Parts()
        self.tool, self.drawing = request["tool"], request["drawing"]
        self.pipeline: Any = None

    def pipeline_class(self, module: Any, prefix: str) -> Any:
        """The class that a peer has for the class of the model's pipeline."""
        index = Path(self.tool["folder"]) / "model_index.json"
        name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
        return getattr(module, prefix + name.removeprefix(prefix))

    def instrument(self) -> None:
        """Times the components."""
        pipeline = self.pipeline
        pipeline.set_progress_bar_config(disable=True)
        for name in ("text_encoder", "text_encoder_2", "unet"):
            part = getattr(pipeline, name, None)
            if part is not None:
                part.forward = self.parts.timed(name, part.forward)
        pipeline.vae.decode = self.parts.timed("vae_decoder", pipeline.vae.decode)

    def draw(self) -> Any:
        """Draws from the noise that diffusers draws of the seed."""
        import numpy as np
        import torch

        drawing, pipeline = self.drawing, self.pipeline
        generator = torch.Generator("cpu").manual_seed(drawing["seed"])
        arguments = protocol.pipeline_arguments(drawing)
        image = pipeline(**arguments, generator=generator).images[0]
        return np.asarray(image)

    def versions(self) -> dict[str, str]:
        """Versions of what draws."""
        return {name: metadata.version(name) for name in self.packages}
