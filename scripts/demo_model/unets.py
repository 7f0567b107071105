"""The U-Nets: a teacher with SD 1's blocks, and students with blocks removed."""

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
    return _unet(levels=4, layers=2, middle="UNetMidBlock2DCrossAttn")


def make_student(teacher: UNet2DConditionModel) -> UNet2DConditionModel:
    """The teacher without its middle block and with one layer per block, as BK-SDM-Small is.

    It starts from the teacher's remaining layers: the first of every down block, the first and the
    last of every up block (BK-SDM, arXiv 2305.15798, section 3.1).
    """
    student = _unet(levels=4, layers=1, middle=None)
    student.load_state_dict(_remaining(teacher.state_dict(), student))
    return student


def make_tiny_student(student: UNet2DConditionModel) -> UNet2DConditionModel:
    """The student without its innermost level either, as BK-SDM-Tiny and SDXS are."""
    tiny = _unet(levels=3, layers=1, middle=None)
    shifted = {
        re.sub(r"^up_blocks\.(\d)", lambda match: f"up_blocks.{int(match[1]) - 1}", name): value
        for name, value in student.state_dict().items()
        if not name.startswith("up_blocks.0.")
    }
    wanted = tiny.state_dict()
    # What joined the removed level has another shape and starts anew.
    fitting = {
        name: shifted[name]
        for name, value in wanted.items()
        if name in shifted and shifted[name].shape == value.shape
    }
    tiny.load_state_dict(wanted | fitting)
    return tiny


def _unet(*, levels: int, layers: int, middle: str | None) -> UNet2DConditionModel:
    """With four levels the innermost has no attention, as in Stable Diffusion 1."""
    down, up = [_CROSS_DOWN] * levels, [_CROSS_UP] * levels
    if levels == len(_CHANNELS):
        down[-1], up[0] = "DownBlock2D", "UpBlock2D"
    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        layers_per_block=layers,
        mid_block_type=middle,
        block_out_channels=_CHANNELS[:levels],
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        attention_head_dim=_HEADS[:levels],
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
    )


def _remaining(teacher: dict[str, Tensor], student: UNet2DConditionModel) -> dict[str, Tensor]:
    """The teacher's tensors under the student's names; the last layer of an up block moves."""
    last = re.compile(r"^(up_blocks\.\d\.(?:resnets|attentions))\.1\.")
    return {name: teacher[last.sub(r"\1.2.", name)] for name in student.state_dict()}
