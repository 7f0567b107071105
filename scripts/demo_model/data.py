"""Captions and pictures of the world as tensors."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from kdexport.calib.world.captions import scenes
from kdexport.calib.world.paint import paint
from kdexport.calib.world.scene import Scene
from torch import Tensor

_SEED = 1


def training_scenes(count: int) -> list[Scene]:
    """The first training scenes; no caption of theirs is held out."""
    return list(islice(scenes(_SEED, held_out=False), count))


def pictures(painted: list[Scene]) -> Tensor:
    """The pictures of scenes, `(n, 3, SIZE, SIZE)` float32 from -1 to 1."""
    stacked = np.stack([paint(each) for each in painted])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1
