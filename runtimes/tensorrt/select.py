"""Which engine of a bundle fits a machine; NVIDIA's rules, without a call into any library.

An engine of TensorRT for RTX runs on the compute capability that it was compiled for, with the
release that compiled it. One of TensorRT runs on the compute capability that it was tuned on, or on
any GPU from Ampere on where it was built with that hardware compatibility; with the version that
built it, or with a later one where it was built to be version compatible (both: "Engine
Compatibility" in NVIDIA's documentation of TensorRT 11 and of TensorRT for RTX).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ...core.engines import ENGINES
from ...core.errors import ProviderError, listing
from ...core.gpus import target_name
from ...core.manifest import EngineRecord, Manifest

_AMPERE = (8, 0)
# The first version that builds and runs version compatible engines.
_COMPATIBLE = (8, 6)


@dataclass(frozen=True)
class Machine:
    """A GPU and the software on it.

    Attributes:
        gpu: Name of the GPU, as its driver has it.
        capability: Its compute capability.
        memory: Its memory, in bytes.
        driver: Version of CUDA that the driver supports, such as `12.8`.
        tensorrt: Version of the installed TensorRT.
    """

    gpu: str
    capability: tuple[int, int]
    memory: int
    driver: str
    tensorrt: str

    @property
    def target(self) -> str:
        """The compute capability as engines name it, such as `sm_89`."""
        return target_name(self.capability)


def select_engines(manifest: Manifest, kind: str, machine: Machine) -> tuple[EngineRecord, ...]:
    """The engines of a bundle that a machine runs, one for each component.

    Args:
        manifest: Of the bundle.
        kind: `rtx` or `native`.
        machine: The GPU, and the version of TensorRT that runs such engines.

    Raises:
        ProviderError: A component has no engine that fits; the message says what there is, what
            the machine has, and what to do.
    """
    return tuple(
        _select(component.role, manifest.engines, kind, machine)
        for component in manifest.components
    )


def fits_gpu(engine: EngineRecord, capability: tuple[int, int]) -> bool:
    """Whether an engine runs on a compute capability."""
    built = capability_of(engine.capability)
    if built == capability:
        return True
    portable = engine.kind == "native" and engine.settings.get("compatibility") == "ampere-plus"
    return portable and min(built, capability) >= _AMPERE


def fits_version(engine: EngineRecord, version: str) -> bool:
    """Whether a version of TensorRT runs an engine of its kind."""
    if engine.tensorrt == version:
        return True
    compatible = engine.kind == "native" and bool(engine.settings.get("version_compatible"))
    return compatible and _numbers(version) >= _numbers(engine.tensorrt) >= _COMPATIBLE


def capability_of(target: str) -> tuple[int, int]:
    """`sm_89` as numbers; the last digit is the minor one."""
    digits = target.removeprefix("sm_")
    return int(digits[:-1]), int(digits[-1])


def _select(
    role: str, engines: Iterable[EngineRecord], kind: str, machine: Machine
) -> EngineRecord:
    title = ENGINES[kind].title
    own = [each for each in engines if each.role == role]
    of_kind = [each for each in own if each.kind == kind]
    if not of_kind:
        raise ProviderError(_lacks_kind(role, own, kind))
    here = [each for each in of_kind if fits_gpu(each, machine.capability)]
    if not here:
        targets = listing(sorted({each.capability for each in of_kind}))
        raise ProviderError(
            f"The engines of '{role}' are for {targets}, but this machine's {machine.gpu} is "
            f"{machine.target}; build one with `kdexport tensorrt --gpu {machine.target}` "
            f"(--engine native where {ENGINES['rtx'].title} does not know the GPU), or choose "
            "the runtime 'onnxruntime'."
        )
    usable = [each for each in here if fits_version(each, machine.tensorrt)]
    if not usable:
        versions = listing(sorted({each.tensorrt for each in here}))
        raise ProviderError(
            f"The engine of '{role}' for {machine.target} was built with {title} {versions}, but "
            f"{machine.tensorrt} is installed here; install {versions}, build the engines again, "
            "or choose the runtime 'onnxruntime'."
        )
    return next((each for each in usable if each.capability == machine.target), usable[0])


def _lacks_kind(role: str, own: Iterable[EngineRecord], kind: str) -> str:
    others = [each for each in dict.fromkeys(engine.kind for engine in own) if each != kind]
    if not others:
        return (
            f"The bundle has no engine of '{role}'; build it again with `kdexport tensorrt`, or "
            "choose the runtime 'onnxruntime'."
        )
    other = ENGINES[others[0]]
    return (
        f"The bundle has no engine of '{role}' for {ENGINES[kind].title}, only one for "
        f"{other.title}; choose the runtime '{other.runtime}', or build one with "
        f"`kdexport tensorrt --engine {kind}`."
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:4])
