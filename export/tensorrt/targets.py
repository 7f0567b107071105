"""Which GPUs engines of a kind can be built for, here."""

from __future__ import annotations

from ...core.errors import OptionError, choices
from ...core.gpus import RTX_CAPABILITIES, Gpu, describe, resolve_gpu, target_name
from ...core.tensorrt_options import THIS_GPU, TensorrtOptions
from .device import local_capability
from .precision import require_types

_AMPERE = (8, 0)
# The types that the U-Net has in a precision.
_TYPES = {"bf16": ("bfloat16",)}


def resolve_targets(options: TensorrtOptions) -> tuple[Gpu, ...]:
    """The GPUs to build for, one for each compute capability.

    Args:
        options: Of the export.

    Raises:
        OptionError: The kind of engine is not built for a GPU, or the GPU lacks the precision or
            the compatibility.
        ProviderError: The GPU of this machine is wanted, and there is none.
    """
    gpus = named_targets(options)
    for gpu in gpus:
        require_target(options.engine, gpu.capability, str(gpu))
        require_types(
            _TYPES.get(options.precision, ()), gpu.capability, f"--precision {options.precision}"
        )
        require_compatibility(options.compatibility, gpu.capability)
    return gpus


def named_targets(options: TensorrtOptions) -> tuple[Gpu, ...]:
    """The GPUs that are named, one for each compute capability, whether or not engines can be.

    Raises:
        OptionError: There is no such GPU.
        ProviderError: The GPU of this machine is named, and there is none.
    """
    gpus: dict[tuple[int, int], Gpu] = {}
    for name in options.gpus:
        gpu = _this_gpu() if name == THIS_GPU else resolve_gpu(name)
        gpus.setdefault(gpu.capability, gpu)
    return tuple(gpus.values())


def require_target(kind: str, capability: tuple[int, int], name: str | None = None) -> None:
    """Raises `OptionError` where engines of a kind are not built for a GPU on this machine.

    Args:
        kind: `rtx` or `native`.
        capability: Compute capability of the GPU.
        name: What the user calls it.
    """
    what = name or describe(capability)
    if kind == "rtx":
        if capability not in RTX_CAPABILITIES:
            raise OptionError(
                f"TensorRT for RTX does not build for {what}, only for "
                f"{choices(target_name(each) for each in RTX_CAPABILITIES)}; choose --engine "
                "native, on a machine that has that GPU."
            )
        return
    here = local_capability()
    if here != capability:
        raise OptionError(
            f"TensorRT tunes engines on the GPU that they are for, and this machine's is "
            f"{target_name(here)}, not {what}; choose --gpu {THIS_GPU}, build on a machine with "
            "that GPU, or choose --engine rtx."
        )


def require_compatibility(compatibility: str, capability: tuple[int, int]) -> None:
    """Raises `OptionError` where a hardware compatibility does not begin as early as a GPU."""
    if compatibility == "ampere-plus" and capability < _AMPERE:
        raise OptionError(
            f"The compatibility 'ampere-plus' begins with {target_name(_AMPERE)}, and the engine "
            f"is built on {describe(capability)}; choose the compatibility 'none'."
        )


def _this_gpu() -> Gpu:
    capability = local_capability()
    return Gpu(target_name(capability), capability)
