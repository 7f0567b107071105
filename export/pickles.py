"""Files of `torch.save`, opened without running what they ask for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch

from ..core.errors import WeightsError, listing
from .tensors import TORCH_DTYPES, PickledTensor

_ADVICE = "ask its author for safetensors, or convert it on a machine that you can spare"


def read_pickle(file: Path) -> dict[str, PickledTensor]:
    """Opens a pickled state dict; the tensors stay mapped to the file until they are read.

    A pickle is a program. torch's `weights_only` unpickler knows how to make tensors and containers
    of them, and refuses everything else. Training checkpoints that keep the tensors below
    `state_dict`, as the original `.ckpt` files do, are understood.

    Args:
        file: What `torch.save` wrote; files from before torch 1.6 cannot be mapped and are read
            as a whole.

    Raises:
        WeightsError: The file is damaged, asks for more than tensors, or holds no state dict.
    """
    try:
        data = torch.load(file, map_location="cpu", mmap=is_zipfile(file), weights_only=True)
    # A damaged pickle raises whatever its opcodes run into.
    except Exception as error:
        raise _refusal(file, error) from error
    if isinstance(data, dict) and isinstance(data.get("state_dict"), dict):
        data = data["state_dict"]
    return _tensors(file, data)


def _refusal(file: Path, error: Exception) -> WeightsError:
    """Without torch's own words: they advise to switch the protection off."""
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
    if wanted:
        return WeightsError(
            f"'{file}' is a pickle that holds more than tensors (it asks for {wanted[1]}), and "
            f"opening it could run any code; {_ADVICE}."
        )
    return WeightsError(
        f"'{file}' is no complete state dict of torch.save ({type(error).__name__}); download it "
        f"again, or {_ADVICE}."
    )


def _tensors(file: Path, data: Any) -> dict[str, PickledTensor]:
    if not isinstance(data, dict) or not data:
        raise WeightsError(f"'{file}' holds no tensors by name; {_ADVICE}.")
    others = [str(name) for name, value in data.items() if not _readable(value)]
    if others:
        raise WeightsError(
            f"'{file}' holds entries that are no plain tensors ({listing(others, most=4)}); "
            f"{_ADVICE}."
        )
    return {str(name): PickledTensor(tensor) for name, tensor in data.items()}


def _readable(value: Any) -> bool:
    if not isinstance(value, torch.Tensor):
        return False
    return value.dtype in TORCH_DTYPES and value.layout is torch.strided
