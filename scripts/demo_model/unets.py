"""The U-Nets: a teacher with SD 1's blocks, and a student with blocks removed."""

from __future__ import annotations

import re

from diffusers import UNet2DConditionModel
from kdexport.calib.world.scene import SIZE
from torch import Tensor

from .text import WIDTH

_CHANNELS = (48, 64, 64, 168)
_HEADS = (2, 4, 4, 8)
_CROSS_DOWN, _CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"


def make_teacher() -> UNet2DConditionModel:
    """Four levels, two layers per block, a middle block: Stable Diffusion 1's U-Net, narrow."""
    return _unet(layers=2, middle="UNetMidBlock2DCrossAttn")


def make_student(teacher: UNet2DConditionModel) -> UNet2DConditionModel:
    """The teacher without its middle block and with one layer per block, as BK-SDM-Small is.

    It starts from the teacher's remaining layers: the first of every down block, the first and the
    last of every up block (BK-SDM, arXiv 2305.15798, section 3.1).
    """
    student = _unet(layers=1, middle=None)
    student.load_state_dict(_remaining(teacher.state_dict(), student))
    return student


def _unet(*, layers: int, middle: str | None) -> UNet2DConditionModel:
    """The innermost level has no attention, as in Stable Diffusion 1."""
    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        layers_per_block=layers,
        mid_block_type=middle,
        block_out_channels=_CHANNELS,
        down_block_types=(_CROSS_DOWN, _CROSS_DOWN, _CROSS_DOWN, "DownBlock2D"),
        up_block_types=("UpBlock2D", _CROSS_UP, _CROSS_UP, _CROSS_UP),
        attention_head_dim=_HEADS,
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
    )


def _remaining(teacher: dict[str, Tensor], student: UNet2DConditionModel) -> dict[str, Tensor]:
    """The teacher's tensors under the student's names; the last layer of an up block moves."""
    last = re.compile(r"^(up_blocks\.\d\.(?:resnets|attentions))\.1\.")
    return {name: teacher[last.sub(r"\1.2.", name)] for name in student.state_dict()}
