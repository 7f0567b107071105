"""The GPU of this machine, asked of NVIDIA's driver without any Python package.

Written without a GPU: a machine without a driver was tried, the answers of a driver are those that
the documentation of CUDA's driver API promises.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from ...core.errors import ProviderError

_DRIVERS = {"win32": "nvcuda.dll"}
# Of `CUdevice_attribute`.
_MAJOR, _MINOR = 75, 76


def local_capability() -> tuple[int, int]:
    """Compute capability of the first GPU of this machine.

    Raises:
        ProviderError: There is no driver or no GPU.
    """
    return _capability(_driver())


def local_name() -> str:
    """Name of the first GPU of this machine, such as `NVIDIA GeForce RTX 4090`.

    Raises:
        ProviderError: There is no driver or no GPU.
    """
    driver = _driver()
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    code = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0)
    _require_success(code or driver.cuDeviceGetName(name, len(name), device))
    return name.value.decode(errors="replace")


def _driver() -> Any:
    name = _DRIVERS.get(sys.platform, "libcuda.so.1")
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise ProviderError(
            f"This machine has no NVIDIA driver ({name} is missing), so it has no GPU to build "
            "for; name one, such as --gpu 4090 with --engine rtx."
        ) from error


def _capability(driver: Any) -> tuple[int, int]:
    device, values = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    code = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0)
    for attribute, value in zip((_MAJOR, _MINOR), values, strict=True):
        code = code or driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    _require_success(code)
    return values[0].value, values[1].value


def _require_success(code: int) -> None:
    if code:
        raise ProviderError(
            f"NVIDIA's driver names no GPU on this machine (its error code is {code}); name one, "
            "such as --gpu 4090 with --engine rtx."
        )
