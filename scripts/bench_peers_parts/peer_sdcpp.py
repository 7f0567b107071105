"""stable-diffusion.cpp, through its package for Python; it reads the model as diffusers has it.

It draws noise of its own, and knows neither PNDM nor the models' own schedulers, so its pictures do
not compare; Euler calls the U-Net as often as there are steps, PNDM once more.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from peer_shared import main, protocol

# Its level of messages that are errors.
_ERROR = 3


class StableDiffusionCpp:
    """Draws with stable-diffusion.cpp; what its components take it does not say."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.parts = protocol.Parts()
        self._tool, self._drawing = request["tool"], request["drawing"]
        self._model: Any = None
        self._keep: Any = None
        self._errors: list[str] = []

    def import_packages(self) -> None:
        """Imports the package, and listens to its errors."""
        import stable_diffusion_cpp

        @stable_diffusion_cpp.sd_log_callback
        def keep(level: int, text: bytes, _: Any) -> None:
            if level == _ERROR:
                self._errors.append(text.decode("utf-8", errors="replace").strip())

        self._keep = keep
        stable_diffusion_cpp.sd_set_log_callback(keep, None)

    def load(self) -> None:
        """Loads the model, in `weights` of its own kinds."""
        from stable_diffusion_cpp import StableDiffusion

        self._model = StableDiffusion(
            model_path=self._tool["folder"],
            n_threads=self._tool["threads"],
            wtype=self._tool["weights"],
            diffusion_flash_attn=self._tool["flash"],
            vae_decode_only=True,
            verbose=True,
        )
        # A model that it cannot load is a null pointer, which crashes once it draws.
        if not self._model.model:
            raise RuntimeError(f"it cannot load this model: {'; '.join(self._errors)}")

    def draw(self) -> Any:
        """Draws with Euler's method."""
        import numpy as np

        drawing = self._drawing
        images = self._model.generate_image(
            prompt=drawing["prompt"],
            width=drawing["width"],
            height=drawing["height"],
            # At most 1 means none there too, and one row of the U-Net.
            cfg_scale=max(drawing["guidance"], 1.0),
            sample_steps=drawing["steps"],
            sample_method="euler",
            seed=drawing["seed"],
        )
        return np.asarray(images[0])

    def versions(self) -> dict[str, str]:
        """Version of the package."""
        name = "stable-diffusion-cpp-python"
        return {name: metadata.version(name)}


def export(model: str, folder: str) -> None:
    """There is nothing to convert."""
    raise NotImplementedError(f"'{model}' is read as it is")


if __name__ == "__main__":
    sys.exit(main(StableDiffusionCpp, export))
