"""The models that are measured, and how much."""

from __future__ import annotations

from dataclasses import dataclass

from .alternate import Rounds
from .sides import Drawing


@dataclass(frozen=True)
class Case:
    """A model to measure.

    Attributes:
        name: What the table calls it.
        model: Its name in the zoo.
        drawing: What is drawn.
        float32: Also verify it in float32, once: what TF32 would spoil.
    """

    name: str
    model: str
    drawing: Drawing
    float32: bool = False


CASES: dict[str, Case] = {
    "bk-sdm-small": Case(
        "BK-SDM-Small 512×512, 25 steps",
        "bk-sdm-small",
        Drawing(steps=25, guidance=7.5, height=512, width=512),
        float32=True,
    ),
    "koala-700m": Case(
        "KOALA-700M 1024×1024, 25 steps",
        "koala-700m",
        Drawing(steps=25, guidance=7.5, height=1024, width=1024),
    ),
    "sdxs-512": Case(
        "SDXS-512 with TAESD, 1 step",
        "sdxs-512-0.9",
        Drawing(steps=1, guidance=0.0, height=512, width=512),
    ),
}


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: Pictures of each side.
        compiled: Mode of `torch.compile`.
        verify_steps: Denoising steps of a verification, whose reference runs on the CPU.
    """

    rounds: Rounds
    compiled: str
    verify_steps: int


FULL = Effort(Rounds(warmups=2, counted=10), "max-autotune-no-cudagraphs", 4)
QUICK = Effort(Rounds(warmups=1, counted=2), "default", 1)
