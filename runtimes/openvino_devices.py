"""What OpenVINO runs on: providers by name, and how each is set up.

The CPU was tried; other devices are set up as OpenVINO documents them, and none was ever met.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from ..core.errors import DependencyError, OptionError, ProviderError, choices, listing

# Precisions of gates to OpenVINO's: the name of the hint, and the capability that a device has.
_PRECISIONS = {"fp32": ("f32", "FP32"), "fp16": ("f16", "FP16"), "bf16": ("bf16", "BF16")}
# Half precision but for the models whose errors the sampler multiplies: a model that draws in one
# step subtracts terms of about 14 times the picture.
MIXED = "mixed"
_MULTIPLIED = ("unet", "controlnet")


@dataclass(frozen=True)
class Device:
    """A device and the precision that it computes in, whatever the precision of the model.

    Attributes:
        name: OpenVINO's name of it.
        precision: A key of the parity gates, or `mixed`, which differs by component.
    """

    name: str
    precision: str

    @classmethod
    def of(cls, provider: str) -> Device:
        """Reads `cpu`, `cpu-bf16`, `cpu-mixed`, `gpu.1`: a device, and what it computes in.

        Left out, that is float32 on the CPU, and float16 on others, which are made for it.

        Raises:
            OptionError: There is no such precision.
        """
        name, dash, precision = provider.partition("-")
        known = (*_PRECISIONS, MIXED)
        if dash and precision not in known:
            raise OptionError(
                f"OpenVINO computes in no precision '{precision}'; choose {choices(known)}, "
                f"such as '{name}-{known[0]}'."
            )
        usual = "fp32" if name.lower() == "cpu" else "fp16"
        return cls(name.upper(), precision or usual)

    def of_role(self, role: str) -> Device:
        """The device in the precision that a component is computed in.

        Args:
            role: Of the component. Where the precision is `mixed`, U-Net and ControlNet are in
                float32, the others in bfloat16 on the CPU, in float16 elsewhere.
        """
        if self.precision != MIXED:
            return self
        return replace(self, precision="fp32" if role in _MULTIPLIED else self._half)

    @property
    def _half(self) -> str:
        return "bf16" if self.name == "CPU" else "fp16"

    @property
    def described(self) -> str:
        """The precision in words."""
        mixed = self.precision == MIXED
        return f"{self._half}, U-Net and ControlNet in fp32" if mixed else self.precision

    @property
    def provider(self) -> str:
        """What `of` reads."""
        return f"{self.name.lower()}-{self.precision}"

    def require(self, core: Any) -> None:
        """Raises `ProviderError` where OpenVINO lacks the device, or that the precision."""
        available = core.available_devices
        if self.name not in available:
            raise ProviderError(
                f"OpenVINO finds no device '{self.name.lower()}' here, only "
                f"{listing(each.lower() for each in available)}; choose one of these, or install "
                "the driver that the device needs."
            )
        # Asked for what it lacks, the CPU would compute in something else and not say so.
        found = _computes_in(core.get_property(self.name, "OPTIMIZATION_CAPABILITIES"))
        if self.precision not in found:
            raise ProviderError(
                f"The device '{self.name.lower()}' here does not compute in {self.precision}, only "
                f"in {listing(found)}; choose '{self.name.lower()}-{found[0]}'."
            )

    def settings(self, core: Any, threads: int | None) -> dict[str, Any]:
        """How a model is compiled: one call at a time, as fast as can be.

        Args:
            core: OpenVINO's `Core`.
            threads: CPU threads, or None for OpenVINO's own choice.
        """
        wanted: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[self.precision][0],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # Linear layers whose weights are integers would also have their inputs rounded to eight
            # bits, in groups, where nothing is said; weights only are weights only.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        if threads is not None:
            wanted["INFERENCE_NUM_THREADS"] = threads
        known = core.get_property(self.name, "SUPPORTED_PROPERTIES")
        return {name: value for name, value in wanted.items() if _is_known(name, known)}


def _computes_in(capabilities: Iterable[str]) -> list[str]:
    held = set(capabilities)
    return [name for name, (_, capability) in _PRECISIONS.items() if capability in held]


def _is_known(name: str, known: Mapping[str, str]) -> bool:
    # Hints are every device's; what it makes of the others it says itself.
    return name.endswith("_HINT") or name in known


@functools.cache
def openvino_core() -> Any:
    """The process's only `Core`; raises `DependencyError` where openvino is not installed.

    Once the last one is freed, OpenVINO 2026.4 unloads its CPU plugin, which frees the signal stack
    of the thread that loaded it: in another thread than that, so that the next Ctrl-C crashes.
    """
    return openvino_package().Core()


def openvino_package() -> ModuleType:
    """The package openvino; raises `DependencyError` where it is not installed."""
    try:
        import openvino
    # An OSError or a RuntimeError where one of its own libraries is missing.
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            "Running models in OpenVINO needs the package openvino; install it with "
            "`pip install kdexport[openvino]`."
        ) from error
    return openvino  # type: ignore[no-any-return]
