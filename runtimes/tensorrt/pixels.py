"""Latents on the device to 8-bit pixels on the host.

Written without a GPU: run against a stand-in only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..components import require_finite
from ..image import to_uint8
from .buffers import Workspace
from .runner import TensorrtRunner
from .tensor import Device, Tensor


def decode_tensor(
    device: Device, workspace: Workspace, decoder: TensorrtRunner, latents: Tensor
) -> NDArray[np.uint8]:
    """Decodes latents, as many images at a time as the engine takes.

    Args:
        device: The GPU.
        workspace: Where memory comes from.
        decoder: The open decoder.
        latents: As the decoder takes them, `(images, channels, height, width)`.

    Returns:
        `(images, height, width, 3)`, 8-bit RGB.

    Raises:
        RunError: The decoder failed, or gave NaN or infinite values.
    """
    parts = []
    for piece, count in _pieces(device, workspace, decoder, latents):
        decoded = decoder.enqueue({"latent_sample": piece})["sample"]
        pixels = device.download(decoded.rows(0, count)).astype(np.float32, copy=False)
        parts.append(to_uint8(require_finite(pixels, "The vae_decoder")))
    return np.concatenate(parts)


def _pieces(
    device: Device, workspace: Workspace, decoder: TensorrtRunner, latents: Tensor
) -> Iterator[tuple[Tensor, int]]:
    """Pieces of the sizes that the engine takes, the last row repeated where they are few."""
    least, most = decoder.rows("latent_sample")
    for start in range(0, latents.shape[0], most):
        count = min(most, latents.shape[0] - start)
        shape = (max(count, least), *latents.shape[1:])
        piece = workspace.tensor("latent_sample", latents.dtype, shape)
        for row in range(shape[0]):
            source = start + min(row, count - 1)
            device.copy(piece.rows(row, row + 1), latents.rows(source, source + 1))
        yield piece, count
