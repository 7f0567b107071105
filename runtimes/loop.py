"""What draws with a bundle's components: prompts to conditioning, noise to latents, to pixels.

`Loop` works on NumPy arrays with any `Runner`; an engine that keeps them on a device brings a
subclass, which `registry.Engine.loop` makes.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.image_sampler import ImageStart
from ..core.manifest import Manifest
from ..core.sampler import SamplerTable
from .components import Components, call_by_rows, require_finite
from .conditioning import Conditioning, encode
from .control import ControlNet
from .denoise import Step, denoise
from .image import to_uint8
from .image_start import EncodedPicture, encode_picture
from .plan import Plan
from .tokenizer import ClipTokenizer


class Loop:
    """Draws; owns the components.

    Attributes:
        components: The bundle's models on their engine.
    """

    def __init__(self, manifest: Manifest, bundle: Path, components: Components) -> None:
        """Takes the closed components.

        Raises:
            BundleError: A tokenizer cannot be read.
        """
        self.components = components
        self._manifest = manifest
        self._tokenizers = tuple(ClipTokenizer(each, bundle) for each in manifest.text)

    def open(self) -> None:
        """Opens what stays open; raises `RunError` where the engine cannot."""
        self.components.open()

    def close(self) -> None:
        """Frees everything; nothing can be drawn afterwards."""
        self.components.close()

    def check(self, plan: Plan) -> None:
        """Raises `OptionError` where the bundle may draw a plan but its engines cannot."""

    def encode(self, plan: Plan) -> Conditioning:
        """Encodes the prompts of a plan; raises as `conditioning.encode`."""
        return encode(plan, self._manifest, self.components, self._tokenizers)

    def run(
        self, plan: Plan, table: SamplerTable, start: ImageStart | None
    ) -> Generator[Step, None, None]:
        """Denoises.

        Args:
            plan: What to draw.
            table: The sampler's table; with a picture, that of its start.
            start: How the schedule begins with the plan's picture, or None without one.

        Yields:
            A `Step` after every model call, the last one with the final latents.

        Raises:
            RunError: An engine failed, or a component gave NaN or infinite values.
        """
        conditioning = self.encode(plan)
        picture = self._picture(plan, start)
        with ExitStack() as stack:
            controlnet = None
            if plan.control is not None:
                runner = stack.enter_context(self.components.use("controlnet"))
                controlnet = ControlNet(runner, plan, plan.control)
            unet = stack.enter_context(self.components.use("unet"))
            yield from denoise(unet, plan, table, conditioning, picture, controlnet)

    def decode(self, latents: NDArray[np.float32] | Step) -> NDArray[np.uint8]:
        """Decodes final latents, one image at a time so that memory does not grow with them.

        Args:
            latents: `(n, channels, height / factor, width / factor)`, or the step that has them.

        Returns:
            `(n, height, width, 3)`, 8-bit RGB.

        Raises:
            RunError: The decoder failed, or gave NaN or infinite values.
        """
        array = latents.latents if isinstance(latents, Step) else latents
        space = self._manifest.latents
        scaled = array / np.float32(space.scaling_factor) + np.float32(space.shift_factor)
        with self.components.use("vae_decoder") as decoder:
            decoded = call_by_rows(decoder, "latent_sample", scaled, ["sample"], most=1)["sample"]
        return to_uint8(require_finite(decoded, "The vae_decoder"))

    def _picture(self, plan: Plan, start: ImageStart | None) -> EncodedPicture | None:
        if plan.init is None or start is None:
            return None
        return encode_picture(plan.init, start, self._manifest, self.components)
