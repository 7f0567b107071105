"""Compiles the loop's kernels on the machine, and launches them.

Written without a GPU: NVRTC's part was run for real, that of the driver against a stand-in.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from ...core.errors import RunError, listing
from .kernels import SIGNATURES, SOURCE
from .libraries import Cuda
from .tensor import Argument

_TYPES: Mapping[str, Any] = {
    "p": ctypes.c_void_p,
    "i": ctypes.c_int,
    "q": ctypes.c_longlong,
    "f": ctypes.c_float,
}
_NUMBERS: Mapping[str, type[int] | type[float]] = {"p": int, "i": int, "q": int, "f": float}


def compile_kernels(cuda: Cuda, capability: tuple[int, int]) -> bytes:
    """Compiles the kernels for a compute capability; returns machine code.

    Raises:
        RunError: NVRTC does not know the GPU, or refuses the source.
        ProviderError: NVRTC is not installed.
    """
    nvrtc = cuda.nvrtc
    version = cuda.call(nvrtc.nvrtcVersion, doing="start its compiler")
    known = cuda.call(nvrtc.nvrtcGetSupportedArchs, doing="list the GPUs of its compiler")
    target = 10 * capability[0] + capability[1]
    if target not in known:
        raise RunError(
            f"CUDA's compiler {version[0]}.{version[1]} does not know sm_{target}, only "
            f"{listing([f'sm_{each}' for each in known], 30)}; install another version of NVRTC."
        )
    # Fused multiply-add would round otherwise than the other runtimes do.
    options = (f"--gpu-architecture=sm_{target}".encode(), b"--std=c++17", b"--fmad=false")
    program = cuda.call(
        nvrtc.nvrtcCreateProgram, SOURCE.encode(), b"loop.cu", 0, [], [], doing="read its kernels"
    )
    try:
        code, *_ = nvrtc.nvrtcCompileProgram(program, len(options), list(options))
        if int(code):
            raise RunError(
                f"CUDA failed to compile the kernels of the loop ({code.name}): "
                f"{_log(cuda, program)[:600]} Please report this."
            )
        size = cuda.call(nvrtc.nvrtcGetCUBINSize, program, doing="compile its kernels")
        # The bindings write into it.
        machine_code = bytearray(size)
        cuda.call(nvrtc.nvrtcGetCUBIN, program, machine_code, doing="compile its kernels")
    finally:
        cuda.call(nvrtc.nvrtcDestroyProgram, program, doing="free its compiler")
    return bytes(machine_code)


class Kernels:
    """The compiled kernels on a GPU."""

    def __init__(self, cuda: Cuda, module: Any) -> None:
        self._cuda = cuda
        self._module = module
        self._functions = {
            name: cuda.call(
                cuda.driver.cuModuleGetFunction,
                module,
                name.encode(),
                doing=f"find the kernel '{name}'",
            )
            for name in SIGNATURES
        }

    def launch(
        self, kernel: str, blocks: int, threads: int, stream: int, arguments: tuple[Argument, ...]
    ) -> None:
        """Launches a kernel over a line of blocks; raises `RunError` where CUDA refuses."""
        signature = SIGNATURES[kernel]
        values = tuple(
            _NUMBERS[letter](value) for letter, value in zip(signature, arguments, strict=True)
        )
        packed = (values, tuple(_TYPES[letter] for letter in signature))
        self._cuda.call(
            self._cuda.driver.cuLaunchKernel,
            self._functions[kernel],
            *(blocks, 1, 1),
            *(threads, 1, 1),
            0,
            stream,
            packed,
            0,
            doing=f"launch the kernel '{kernel}'",
        )

    def close(self) -> None:
        """Unloads the kernels."""
        self._cuda.call(self._cuda.driver.cuModuleUnload, self._module, doing="free its kernels")


def load_kernels(cuda: Cuda, capability: tuple[int, int]) -> Kernels:
    """Compiles the kernels and puts them on the GPU of the calling thread.

    Raises:
        RunError: The compiler or the driver refuses.
        ProviderError: NVRTC or the driver is not installed.
    """
    code = compile_kernels(cuda, capability)
    module = cuda.call(cuda.driver.cuModuleLoadData, code, doing="load its kernels")
    try:
        return Kernels(cuda, module)
    except BaseException:
        cuda.call(cuda.driver.cuModuleUnload, module, doing="free its kernels")
        raise


def _log(cuda: Cuda, program: Any) -> str:
    nvrtc = cuda.nvrtc
    size = cuda.call(nvrtc.nvrtcGetProgramLogSize, program, doing="read its compiler's log")
    log = bytearray(size)
    cuda.call(nvrtc.nvrtcGetProgramLog, program, log, doing="read its compiler's log")
    return log.decode(errors="replace").strip("\0\n ")
