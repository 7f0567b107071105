"""The weight file of a package, mapped into memory in place of being read.

coremltools copies every weight while it builds the program. The context below puts views of the
mapped file in place of the copies, one constant after the other, so that a gigabyte of weights
costs no memory until they are used, and the system may drop them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import RunError
from .toolbox import coremltools

# MIL's blob format: each entry begins with these 64 bytes, the data lies elsewhere in the file.
_ENTRY = np.dtype(
    [("sentinel", "<u4"), ("kind", "<u4"), ("bytes", "<u8"), ("offset", "<u8"), ("rest", "V40")]
)
_SENTINEL = 0xDEADBEEF
# Smaller constants may as well stay copies.
_LEAST_BYTES = 4096


class MappedWeights:
    """Reads a blob file as coremltools' own reader does, and remembers views of what was read."""

    def __init__(self, file: Path, reader: Any) -> None:
        self._file = file
        self._reader = reader
        # Copy on write, so that torch takes the views without a warning; nothing writes to them.
        self._bytes = np.memmap(file, dtype=np.uint8, mode="c")
        self.views: list[NDArray[Any]] = []

    def read_fp16_data(self, offset: int) -> NDArray[Any]:
        """The bits of the float16 numbers at `offset`, uint16 of shape (count,)."""
        return self._view(offset, np.uint16)

    def read_float_data(self, offset: int) -> NDArray[Any]:
        """The float32 numbers at `offset`."""
        return self._view(offset, np.float32)

    def read_uint8_data(self, offset: int) -> NDArray[Any]:
        """The uint8 numbers at `offset`."""
        return self._view(offset, np.uint8)

    def read_int8_data(self, offset: int) -> NDArray[Any]:
        """The int8 numbers at `offset`."""
        return self._view(offset, np.int8)

    def __getattr__(self, name: str) -> Any:
        # The rarer types, and those of less than a byte, which have to be unpacked.
        return getattr(self._reader, name)

    def _view(self, offset: int, dtype: Any) -> NDArray[Any]:
        head = self._bytes[offset : offset + _ENTRY.itemsize]
        if head.size < _ENTRY.itemsize:
            raise RunError(f"The weight file '{self._file}' is too short; export the model again.")
        entry = head.view(_ENTRY)[0]
        start, size = int(entry["offset"]), int(entry["bytes"])
        if int(entry["sentinel"]) != _SENTINEL or start + size > self._bytes.size:
            raise RunError(f"The weight file '{self._file}' is damaged; export the model again.")
        view: NDArray[Any] = self._bytes[start : start + size].view(dtype)
        if size >= _LEAST_BYTES:
            self.views.append(view)
        return view


def mapping_context(folder: Path) -> Any:
    """A context for coremltools' loader whose constants are views of the files in `folder`.

    Args:
        folder: The package's folder of weights; it need not exist.
    """
    load = coremltools("converters.mil.frontend.milproto.load")
    readers = {
        str(file): MappedWeights(file, load.BlobReader(str(file)))
        for file in sorted(folder.glob("*"))
        if file.is_file()
    }

    class MappingContext(load.TranscriptionContext):  # type: ignore[misc, name-defined]
        def register_var_with_name(self, name: str, var: Any) -> None:
            super().register_var_with_name(name, var)
            for reader in readers.values():
                for constant in _constants(var) if reader.views else ():
                    _put_view(constant, reader.views)
                reader.views.clear()

    context = MappingContext(str(folder))
    context.blob_reader_from_filename.update(readers)
    return context


def _constants(variable: Any) -> Iterator[Any]:
    """A constant itself, or what a compressed one is made of."""
    operation = variable.op
    if operation is None:
        return
    if operation.op_type == "const":
        yield operation
    elif operation.op_type.startswith("constexpr_"):
        for given in operation.inputs.values():
            if given.op is not None and given.op.op_type == "const":
                yield given.op


def _put_view(constant: Any, views: list[NDArray[Any]]) -> None:
    output = constant.outputs[0]
    value = output.val
    if not isinstance(value, np.ndarray):
        return
    for view in views:
        if view.nbytes == value.nbytes and view.itemsize == value.itemsize:
            mapped = view.view(value.dtype).reshape(value.shape)
            if np.array_equal(mapped.reshape(-1).view(np.uint8), value.reshape(-1).view(np.uint8)):
                output._sym_val.val = mapped
                constant.val._sym_val.val = mapped
                return
