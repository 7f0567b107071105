"""Prompts to what the U-Net is conditioned on, on the device; `runtimes/conditioning.py` there.

Token ids go up; the hidden states go from the text encoders' outputs straight to the U-Net's
inputs, side by side where there are two encoders, each row as often as there are images of it.

Written without a GPU: run against a stand-in only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...core.errors import BundleError
from ...core.manifest import Component, Manifest, TextEncoding
from ..components import Components
from ..guidance import guidance_embedding
from ..plan import Plan
from ..tokenizer import ClipTokenizer
from .arithmetic import Checks, place
from .buffers import Workspace
from .runner import TensorrtRunner, as_tensorrt
from .tensor import Device, Tensor


class TextEncoder:
    """Fills the U-Net's inputs that depend on the prompts."""

    def __init__(
        self, device: Device, workspace: Workspace, unet: Component, checks: Checks
    ) -> None:
        """Takes what the manifest says of the U-Net, which need not be on the GPU yet.

        Args:
            device: The GPU.
            workspace: Where the memory of the inputs comes from.
            unet: The U-Net, whose engine has the dtypes of the manifest for all but integers.
            checks: Where values that are not finite are written down.
        """
        self._device, self._workspace, self._checks = device, workspace, checks
        self._specs = {spec.name: spec for spec in unet.inputs}

    def encode(
        self,
        plan: Plan,
        manifest: Manifest,
        components: Components,
        tokenizers: Sequence[ClipTokenizer],
    ) -> dict[str, Tensor]:
        """Encodes the prompts of a plan.

        Returns:
            The U-Net's inputs beside latents and timestep, a row for each of its rows.

        Raises:
            BundleError: An SDXL bundle names no pooled output.
            RunError: A text encoder failed.
        """
        rows = plan.latent_shape[0] * (2 if plan.guided else 1)
        hidden = self._input("encoder_hidden_states", rows)
        pooled = self._input("text_embeds", rows) if manifest.family == "sdxl" else None
        if plan.guided and plan.negatives is None:
            for each in (hidden, pooled):
                if each is not None:
                    self._device.fill(each.rows(0, rows // 2), 0)
        last = [each.encoding for each in tokenizers if each.encoding.pooled_output is not None]
        if pooled is not None and not last:
            raise BundleError(
                "The manifest names no pooled output of a text encoder, which SDXL needs; export "
                "the model again."
            )
        column = 0
        for tokenizer in tokenizers:
            encoding = tokenizer.encoding
            own = pooled if last and encoding is last[-1] else None
            column += self._encode(plan, tokenizer, components, hidden, own, column)
        if column != hidden.shape[-1]:
            raise BundleError(
                f"The text encoders give {column} channels, but the U-Net takes "
                f"{hidden.shape[-1]}; export the model again."
            )
        feed = {"encoder_hidden_states": hidden}
        return feed | ({} if pooled is None else {"text_embeds": pooled}) | self._sizes(plan, rows)

    def _encode(
        self,
        plan: Plan,
        tokenizer: ClipTokenizer,
        components: Components,
        hidden: Tensor,
        pooled: Tensor | None,
        column: int,
    ) -> int:
        """Runs one encoder; returns how many columns of `hidden` it filled."""
        encoding = tokenizer.encoding
        negatives = plan.negatives or ()
        tokens = tokenizer((*negatives, *plan.prompts))
        tokenizer.warn(tokens)
        # Zero embeddings come first where they stand for the negative prompts.
        start = plan.latent_shape[0] if plan.guided and plan.negatives is None else 0
        width = 0
        with components.use(encoding.role) as runner:
            for text, results in self._outputs(as_tensorrt(runner), tokens.ids):
                name = _hidden_output(encoding, text < len(negatives))
                width = results[name].shape[-1]
                for image in range(plan.images_per_prompt):
                    row = start + text * plan.images_per_prompt + image
                    self._place(hidden.rows(row, row + 1), results[name], encoding.role, column)
                    if pooled is not None and encoding.pooled_output is not None:
                        found = results[encoding.pooled_output]
                        self._place(pooled.rows(row, row + 1), found, encoding.role, 0)
        return width

    def _outputs(
        self, runner: TensorrtRunner, ids: NDArray[np.int64]
    ) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """The outputs for each text, encoded as many at a time as the engine takes."""
        least, most = runner.rows("input_ids")
        for start in range(0, len(ids), most):
            piece = ids[start : start + most]
            padding = np.repeat(piece[-1:], max(least - len(piece), 0), axis=0)
            fed = np.concatenate([piece, padding]).astype(runner.dtype("input_ids"))
            target = self._workspace.tensor("input_ids", fed.dtype.name, fed.shape)
            self._device.upload(target, fed)
            results = runner.enqueue({"input_ids": target})
            for index in range(len(piece)):
                yield (
                    start + index,
                    {name: each.rows(index, index + 1) for name, each in results.items()},
                )

    def _sizes(self, plan: Plan, rows: int) -> dict[str, Tensor]:
        """SDXL's sizes and the embedded guidance scale."""
        arrays: dict[str, NDArray[np.float32]] = {}
        if "time_ids" in self._specs:
            # Original size, crop offset and target size.
            sizes = [plan.height, plan.width, 0, 0, plan.height, plan.width]
            arrays["time_ids"] = np.array(sizes, np.float32)
        if plan.guidance_size is not None:
            arrays["timestep_cond"] = guidance_embedding(plan.guidance, plan.guidance_size)
        feed = {}
        for name, array in arrays.items():
            feed[name] = self._input(name, rows)
            self._device.upload(feed[name], np.tile(array, (rows, 1)).astype(feed[name].dtype))
        return feed

    def _place(self, target: Tensor, source: Tensor, role: str, column: int) -> None:
        place(self._device, target, source, self._checks, f"The {role}", first=column)

    def _input(self, name: str, rows: int) -> Tensor:
        if name not in self._specs:
            raise BundleError(f"The U-Net has no input '{name}'; export the model again.")
        spec = self._specs[name]
        sizes = [int(size) for size in spec.shape[1:]]
        return self._workspace.tensor(name, spec.dtype, (rows, *sizes))


def _hidden_output(encoding: TextEncoding, negative: bool) -> str:
    return (encoding.negative_output if negative else None) or encoding.hidden_output
