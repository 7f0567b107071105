"""Prompt to picture from a bundle, without torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from ..core.errors import OptionError, RunError
from ..core.image_sampler import ImageSampler, ImageStart, load_image_sampler
from ..core.manifest import Manifest, check_files, load_manifest, load_sampler
from ..core.sampler import Sampler, SamplerTable
from .components import Components
from .conditioning import Conditioning
from .denoise import Step
from .hub import find_bundle
from .image import to_images
from .loop import Loop
from .picture import Picture
from .plan import Plan, make_plan
from .registry import Engine, require_runtime
from .request import Request

Progress = Callable[[Step], None]


class NotExecutedWarning(UserWarning):
    """A TensorRT bundle is run without its engines, for nobody chose and there is no GPU."""

    def __str__(self) -> str:
        return (
            "There is no NVIDIA GPU, so the bundle's engines are not executed: ONNX Runtime runs "
            "the ONNX files that they were built from; choose the runtime 'onnxruntime' where that "
            "is what you want."
        )


class Pipeline:
    """A bundle that draws.

    Make it with `Pipeline.load`; use it as a context manager, or call `close`, to free it. One
    pipeline serves one thread at a time.
    """

    def __init__(self, bundle: Path, manifest: Manifest, loop: Loop) -> None:
        self.bundle = bundle
        self.manifest = manifest
        self._loop = loop
        self._components = loop.components
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
        revision: str | None = None,
        token: str | None = None,
        offline: bool = False,
    ) -> Pipeline:
        """Loads a bundle.

        Args:
            bundle: The folder with `manifest.json`; or, as a string, `owner/name` of a repository
                of the Hugging Face Hub that holds a bundle, where there is no such folder.
            runtime: The engine, a key of `runtimes.registry.RUNTIMES`; None takes the one that
                reads such bundles here, which for a TensorRT bundle is that of its engines where
                there is an NVIDIA GPU, and ONNX Runtime elsewhere, with a warning.
            provider: What the engine runs on, such as `cpu` or `cuda`; None takes the CPU, for
                TensorRT engines the first GPU, for Core ML itself the compute units that the
                bundle was made for.
            threads: CPU threads, or None for the engine's default.
            low_memory: Open each component only while it is used, for the price of opening it
                again for every picture; ONNX Runtime also keeps weights of few bits as they are,
                for the price of turning them into floats in every step.
            check: Compare the SHA-256 of every file with the manifest. Where that is left out, ONNX
                Runtime does not look for what an earlier program made of these files, either.
            revision: Branch, tag or commit of the repository; None takes the default branch.
            token: Access token of the Hub, or None for the one that is logged in.
            offline: Use only what the Hub's cache holds.

        Raises:
            BundleError: No bundle, a changed or missing file, or one for another runtime; or the
                Hub does not deliver it.
            OptionError: No such runtime or provider, or a revision of a folder.
            DependencyError: The engine's package is not installed.
            ProviderError: The provider is not available.
            RunError: The engine cannot load a component.
        """
        if runtime is not None:
            require_runtime(runtime)
        folder = find_bundle(bundle, revision=revision, token=token, offline=offline)
        manifest = load_manifest(folder)
        engine = Engine.choose(manifest, folder, runtime, provider, threads)
        engine = replace(engine, low_memory=low_memory, cached=check)
        if runtime is None and manifest.engines and not engine.engines:
            warnings.warn(NotExecutedWarning(), stacklevel=2)
        if check:
            check_files(manifest, folder)
        loop = engine.loop(manifest, folder)
        loop.open()
        return cls(folder, manifest, loop)

    @property
    def components(self) -> Components:
        """The bundle's models on their engine."""
        return self._loop.components

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
        images = to_images(self.decode(step), step.plan, self.manifest)
        return images[0] if isinstance(prompt, str) and images_per_prompt == 1 else images

    def plan(self, request: Request) -> Plan:
        """A request with the bundle's defaults filled in, checked; raises as `__call__` does."""
        plan = self._plan(request)
        self._table(plan)
        return plan

    def generate(self, request: Request | Plan) -> Generator[Step, None, None]:
        """Denoises; the request is checked at once, the work is done as the caller iterates.

        To cancel, stop iterating; closing the generator frees what it holds.

        Yields:
            A `Step` after every model call, the last one with the final latents for `decode`.
        """
        plan = self._plan(request)
        start = None if plan.init is None else self._start(plan)
        return self._loop.run(plan, self._table(plan), start)

    def encode(self, request: Request | Plan) -> Conditioning:
        """The conditioning that `generate` feeds the U-Net for a request."""
        return self._loop.encode(self._plan(request))

    def decode(self, latents: NDArray[np.float32] | Step) -> NDArray[np.uint8]:
        """Decodes final latents.

        Args:
            latents: The last step; where a device holds its latents, they stay there. Or
                `(n, channels, height / factor, width / factor)`, as `Step.latents` has them.

        Returns:
            `(n, height, width, 3)`, 8-bit RGB.

        Raises:
            OptionError: The latents have the wrong rank or number of channels.
            RunError: The decoder failed, or gave NaN or infinite values.
        """
        channels = self.manifest.latents.channels
        shape = latents.plan.latent_shape if isinstance(latents, Step) else latents.shape
        if len(shape) != 4 or shape[1] != channels or not shape[0]:
            raise OptionError(
                f"The latents to decode must have the shape (images, {channels}, height, width), "
                f"not {shape}."
            )
        return self._loop.decode(latents)

    def close(self) -> None:
        """Frees every component; the pipeline cannot draw afterwards."""
        self._loop.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _plan(self, request: Request | Plan) -> Plan:
        plan = request if isinstance(request, Plan) else make_plan(request, self.manifest)
        self._loop.check(plan)
        return plan

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
