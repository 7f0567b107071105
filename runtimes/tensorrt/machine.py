"""Which GPU this machine has, and which engines of a bundle run on it.

Written without a GPU: the questions to a driver were never answered by one.
"""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import dataclass

from ...core.errors import OptionError, ProviderError
from ...core.manifest import EngineRecord, Manifest
from .libraries import Cuda, load_cuda, tensorrt_library
from .select import Machine, select_engines

_DRIVERS = {"win32": "nvcuda.dll"}
# `CUDA_ERROR_STUB_LIBRARY` and `CUDA_ERROR_NO_DEVICE`.
_NO_GPU = (34, 100)
_PROVIDER = re.compile(r"cuda(?P<plain>-no-graphs)?(:(?P<ordinal>\d+))?")


@dataclass(frozen=True)
class Provider:
    """What a TensorRT runtime runs on: `cuda` or `cuda-no-graphs`, with `:N` for another GPU.

    Attributes:
        ordinal: Number of the GPU, from 0, as CUDA counts.
        graphs: Whether what is done again and again is recorded in CUDA graphs.
    """

    ordinal: int = 0
    graphs: bool = True

    @classmethod
    def parse(cls, text: str) -> Provider:
        """Reads the name; raises `OptionError` where it is none."""
        found = _PROVIDER.fullmatch(text)
        if found is None:
            raise OptionError(
                f"TensorRT has no provider '{text}'; choose cuda, cuda-no-graphs, or one of them "
                "with the number of a GPU, such as cuda:1."
            )
        return cls(int(found["ordinal"] or 0), found["plain"] is None)


def gpu_present() -> bool:
    """Whether there is an NVIDIA GPU and a driver, asked without any Python package.

    Raises:
        ProviderError: There is a driver that does not start.
    """
    try:
        driver = ctypes.CDLL(_DRIVERS.get(sys.platform, "libcuda.so.1"))
    except OSError:
        return False
    count = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code and code not in _NO_GPU:
        raise ProviderError(
            f"NVIDIA's driver does not start (its error code is {code}); mend its installation, or "
            "choose the runtime 'onnxruntime'."
        )
    return not code and count.value > 0


def read_machine(cuda: Cuda, ordinal: int, tensorrt: str) -> Machine:
    """Asks CUDA about a GPU.

    Args:
        cuda: The bindings.
        ordinal: Number of the GPU.
        tensorrt: Version of the installed TensorRT.

    Raises:
        ProviderError: There is no driver, or no such GPU.
        RunError: CUDA refused.
    """
    runtime = cuda.runtime
    if not cuda.call(runtime.cudaDriverGetVersion, doing="ask for the driver's version"):
        raise ProviderError(
            "This machine has no NVIDIA driver, so it runs no TensorRT engine; choose the runtime "
            "'onnxruntime'."
        )
    count = cuda.call(runtime.cudaGetDeviceCount, doing="count the GPUs")
    if ordinal >= count:
        raise ProviderError(
            f"This machine has {count} GPUs, so none with the number {ordinal}; choose one from 0 "
            "up, such as cuda:0."
        )
    found = cuda.call(runtime.cudaGetDeviceProperties, ordinal, doing="describe the GPU")
    version = cuda.call(runtime.cudaDriverGetVersion, doing="ask for the driver's version")
    name = found.name
    return Machine(
        gpu=(name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0"),
        capability=(int(found.major), int(found.minor)),
        memory=int(found.totalGlobalMem),
        driver=f"{version // 1000}.{version % 1000 // 10}",
        tensorrt=tensorrt,
    )


def engines_here(manifest: Manifest, kind: str, provider: str) -> tuple[EngineRecord, ...]:
    """The engines of a bundle that this machine runs, one for each component.

    Args:
        manifest: Of the bundle.
        kind: `rtx` or `native`.
        provider: See `Provider`.

    Raises:
        OptionError: No such provider.
        DependencyError: TensorRT or CUDA's bindings are not installed.
        ProviderError: There is no GPU, or the engines are for another GPU or TensorRT.
    """
    ordinal = Provider.parse(provider).ordinal
    library = tensorrt_library(kind)
    machine = read_machine(load_cuda(), ordinal, library.__version__)
    return select_engines(manifest, kind, machine)
