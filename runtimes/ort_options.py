"""How ONNX Runtime runs a model, as its runner is told."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import OptionError, choices
from .ort_providers import DEVICES, PROVIDERS


@dataclass(frozen=True)
class OrtOptions:
    """How ONNX Runtime runs a model.

    Attributes:
        provider: Short name of the execution provider, a key of `PROVIDERS`.
        threads: Threads inside an operator; None takes every physical core that the program is
            granted.
        cuda_graphs: Capture the model's kernels once for each set of shapes and replay them; for
            providers of `DEVICES` only.
        low_memory: On the CPU, keep weights of few bits as they are in the file, for the price of
            turning them into floats in every run.
        cached: On the CPU, start from what an earlier program made of the model, see `ort_cache`.
    """

    provider: str = "cpu"
    threads: int | None = None
    cuda_graphs: bool = False
    low_memory: bool = False
    cached: bool = False

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise OptionError(
                f"ONNX Runtime has no provider '{self.provider}'; choose {choices(PROVIDERS)}."
            )
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"The number of threads must be at least 1, not {self.threads}.")
        if self.cuda_graphs and self.provider not in DEVICES:
            raise OptionError(
                f"The provider '{self.provider}' has no CUDA graphs; choose {choices(DEVICES)}."
            )
