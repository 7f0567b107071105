"""Prompt to picture from a bundle, without torch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from ..core.errors import OptionError, RunError
from ..core.image_sampler import ImageSampler, ImageStart, load_image_sampler
from ..core.manifest import Component, Manifest, check_files, load_manifest, load_sampler
from ..core.sampler import Sampler, SamplerTable
from .base import Runner
from .components import Components, call_by_rows, require_finite
from .conditioning import Conditioning, encode
from .control import ControlNet
from .denoise import Step, denoise
from .image import to_images, to_uint8
from .image_start import encode_picture
from .picture import Picture
from .plan import Plan, make_plan
from .registry import Engine, require_runtime
from .request import Request
from .tokenizer import ClipTokenizer

Progress = Callable[[Step], None]


class Pipeline:
    """A bundle that draws.

    Make it with `Pipeline.load`; use it as a context manager, or call `close`, to free it. One
    pipeline serves one thread at a time.
    """

    def __init__(self, bundle: Path, manifest: Manifest, components: Components) -> None:
        self.bundle = bundle
        self.manifest = manifest
        self._components = components
        self._tokenizers = tuple(ClipTokenizer(each, bundle) for each in manifest.text)
        self._samplers: dict[str, Sampler] = {}
        self._image_samplers: dict[str, ImageSampler] = {}

    @classmethod
    def load(
        cls,
        bundle: Path | str,
        *,
        runtime: str | None = None,
        provider: str | None = None,
        threads: int | None = None,
        low_memory: bool = False,
        check: bool = True,
    ) -> Pipeline:
        """Loads a bundle.

        Args:
            bundle: The folder with `manifest.json`.
            runtime: The engine, a key of `runtimes.registry.RUNTIMES`; None takes the one that
                reads such bundles here.
            provider: What the engine runs on, such as `cpu` or `cuda`; None takes the CPU, for
                Core ML itself the compute units that the bundle was made for.
            threads: CPU threads, or None for the engine's default.
            low_memory: Open each component only while it is used, for the price of opening it
                again for every picture.
            check: Compare the SHA-256 of every file with the manifest.

        Raises:
            BundleError: No bundle, a changed or missing file, or one for another runtime.
            OptionError: No such runtime or provider.
            DependencyError: The engine's package is not installed.
            ProviderError: The provider is not available.
            RunError: The engine cannot load a component.
        """
        folder = Path(bundle)
        if runtime is not None:
            require_runtime(runtime)
        manifest = load_manifest(folder)
        engine = Engine.choose(manifest, folder, runtime, provider, threads)
        if check:
            check_files(manifest, folder)

        def make(component: Component) -> Runner:
            return engine.component(component, folder)

        pipeline = cls(folder, manifest, Components(manifest, make, low_memory))
        pipeline._components.open()
        return pipeline

    @overload
    def __call__(
        self,
        prompt: str,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int | None = None,
        height: int | None = None,
        width: int | None = None,
        images_per_prompt: Literal[1] = 1,
        scheduler: str | None = None,
        latents: NDArray[Any] | None = None,
        init: Picture | None = None,
        strength: float | None = None,
        control: Picture | Sequence[Picture] | None = None,
        control_scale: float | None = None,
        progress: Progress | None = None,
    ) -> Image: ...

    @overload
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | Sequence[str] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int | None = None,
        height: int | None = None,
        width: int | None = None,
        images_per_prompt: int = 1,
        scheduler: str | None = None,
        latents: NDArray[Any] | None = None,
        init: Picture | None = None,
        strength: float | None = None,
        control: Picture | Sequence[Picture] | None = None,
        control_scale: float | None = None,
        progress: Progress | None = None,
    ) -> Image | list[Image]: ...

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | Sequence[str] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int | None = None,
        height: int | None = None,
        width: int | None = None,
        images_per_prompt: int = 1,
        scheduler: str | None = None,
        latents: NDArray[Any] | None = None,
        init: Picture | None = None,
        strength: float | None = None,
        control: Picture | Sequence[Picture] | None = None,
        control_scale: float | None = None,
        progress: Progress | None = None,
    ) -> Image | list[Image]:
        """Draws. The arguments are the fields of `Request`; `progress` is told of every step.

        Returns:
            One image for one prompt given as a string, otherwise a list, the images of a prompt
            together. `image.info` says how each was drawn, the seed included.

        Raises:
            OptionError: The bundle cannot draw this; the message says what it can.
            SamplerError: The sampler has no table for so many steps, or cannot begin there.
            BundleError: The bundle has no such sampler, or none that starts from a picture.
            RunError: An engine failed, or a component gave NaN or infinite values.
        """
        request = Request(
            prompt=prompt,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance=guidance,
            seed=seed,
            height=height,
            width=width,
            images_per_prompt=images_per_prompt,
            scheduler=scheduler,
            latents=latents,
            init=init,
            strength=strength,
            control=control,
            control_scale=control_scale,
        )
        step: Step | None = None
        for step in self.generate(request):
            if progress is not None:
                progress(step)
        if step is None:
            raise RunError("The sampler's table has no steps; export the model again.")
        images = to_images(self.decode(step.latents), step.plan, self.manifest)
        return images[0] if isinstance(prompt, str) and images_per_prompt == 1 else images

    def plan(self, request: Request) -> Plan:
        """A request with the bundle's defaults filled in, checked; raises as `__call__` does."""
        plan = make_plan(request, self.manifest)
        self._table(plan)
        return plan

    def generate(self, request: Request | Plan) -> Generator[Step, None, None]:
        """Denoises; the request is checked at once, the work is done as the caller iterates.

        To cancel, stop iterating; closing the generator frees what it holds.

        Yields:
            A `Step` after every model call, the last one with the final latents for `decode`.
        """
        plan = request if isinstance(request, Plan) else make_plan(request, self.manifest)
        return self._generate(plan, self._table(plan))

    def encode(self, request: Request | Plan) -> Conditioning:
        """The conditioning that `generate` feeds the U-Net for a request."""
        plan = request if isinstance(request, Plan) else make_plan(request, self.manifest)
        return encode(plan, self.manifest, self._components, self._tokenizers)

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Decodes final latents, one image at a time so that memory does not grow with them.

        Args:
            latents: `(n, channels, height / factor, width / factor)`, as the last `Step` has them.

        Returns:
            `(n, height, width, 3)`, 8-bit RGB.

        Raises:
            OptionError: The latents have the wrong rank or number of channels.
            RunError: The decoder failed, or gave NaN or infinite values.
        """
        space = self.manifest.latents
        if latents.ndim != 4 or latents.shape[1] != space.channels or not len(latents):
            raise OptionError(
                f"The latents to decode must have the shape (images, {space.channels}, height, "
                f"width), not {latents.shape}."
            )
        scaled = latents / np.float32(space.scaling_factor) + np.float32(space.shift_factor)
        with self._components.use("vae_decoder") as decoder:
            decoded = call_by_rows(decoder, "latent_sample", scaled, ["sample"], most=1)["sample"]
        return to_uint8(require_finite(decoded, "The vae_decoder"))

    def close(self) -> None:
        """Frees every component; the pipeline cannot draw afterwards."""
        self._components.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _generate(self, plan: Plan, table: SamplerTable) -> Generator[Step, None, None]:
        conditioning = encode(plan, self.manifest, self._components, self._tokenizers)
        picture = None
        if plan.init is not None:
            start = self._start(plan)
            picture = encode_picture(plan.init, start, self.manifest, self._components)
        with ExitStack() as stack:
            controlnet = None
            if plan.control is not None:
                runner = stack.enter_context(self._components.use("controlnet"))
                controlnet = ControlNet(runner, plan, plan.control)
            unet = stack.enter_context(self._components.use("unet"))
            yield from denoise(unet, plan, table, conditioning, picture, controlnet)

    def _table(self, plan: Plan) -> SamplerTable:
        if plan.scheduler not in self._samplers:
            self._samplers[plan.scheduler] = load_sampler(
                self.manifest, self.bundle, plan.scheduler
            )
        table = self._samplers[plan.scheduler].table(plan.steps)
        return table if plan.init is None else self._start(plan).table(table)

    def _start(self, plan: Plan) -> ImageStart:
        if plan.scheduler not in self._image_samplers:
            self._image_samplers[plan.scheduler] = load_image_sampler(
                self.manifest, self.bundle, plan.scheduler
            )
        return self._image_samplers[plan.scheduler].start(plan.steps, plan.skipped)
