"""The loop's arithmetic on tensors: what each kernel is launched with.

Written without a GPU: run against a stand-in only.
"""

from __future__ import annotations

from ...core.errors import RunError
from .tensor import Device, Tensor

_FLOATS = ("float32", "float16")


class Checks:
    """Which result was not finite: kernels write down the least of the numbers given out here.

    Attributes:
        flag: Where they write it, one int32.
    """

    # Every byte of a flag that nothing was written to.
    _CLEAR = 0x7F

    def __init__(self, device: Device, flag: Tensor) -> None:
        """Clears the flag."""
        self._device = device
        self.flag = flag
        self._names: list[str] = []
        device.fill(flag, self._CLEAR)

    def number(self, name: str) -> int:
        """The number of the next result, which messages call `name`."""
        self._names.append(name)
        return len(self._names) - 1

    def require_finite(self) -> None:
        """Waits for all work; raises `RunError` naming the first result with NaN or Inf."""
        found = int(self._device.download(self.flag).reshape(-1)[0])
        if found < len(self._names):
            raise RunError(
                f"{self._names[found]} gave NaN or infinite values; build the engines again with "
                "--precision bf16 or fp32."
            )


def combine(
    device: Device,
    target: Tensor,
    history: Tensor,
    terms: tuple[Tensor, Tensor],
    *,
    copies: int = 1,
    scale: float = 1.0,
    factor: float = 1.0,
    shift: float = 0.0,
) -> None:
    """Evaluates a row of a sampler's table.

    Args:
        device: The GPU.
        target: Where the result goes, `copies` times one after the other; float32 or float16.
        history: The slots, `(slots, …)`, float32.
        terms: Slots (int32) and weights (float32) of the row, in order.
        copies: How often the result is written.
        scale: What the sum is divided by.
        factor: What that is divided by.
        shift: What is added to that.
    """
    count = history.size // history.shape[0]
    _require(target.size == copies * count, "combine", target)
    slots, weights = terms
    device.launch(
        "combine",
        count,
        (
            *(target.address, _half(target), copies, count),
            *(history.address, slots.address, weights.address, slots.size),
            *(scale, factor, shift),
        ),
    )


def guide(
    device: Device, target: Tensor, raw: Tensor, guidance: float, checks: Checks, name: str
) -> None:
    """Classifier-free guidance on a model output whose first half are the negative rows.

    Args:
        device: The GPU.
        target: Where the guided output goes, float32.
        raw: The output, twice as large, float32 or float16.
        guidance: The guidance scale.
        checks: Where values that are not finite are written down.
        name: What messages call the output.
    """
    _require(target.dtype == "float32" and raw.size == 2 * target.size, "guide", target)
    device.launch(
        "guide",
        target.size,
        (
            *(target.address, raw.address, _half(raw), target.size, guidance),
            *(checks.flag.address, checks.number(name)),
        ),
    )


def place(
    device: Device, target: Tensor, source: Tensor, checks: Checks, name: str, *, first: int = 0
) -> None:
    """Copies to the columns of a tensor that has as many rows, converting between floats.

    Args:
        device: The GPU.
        target: Where it goes; its last dimension is that of the columns.
        source: What is copied.
        checks: Where values that are not finite are written down.
        name: What messages call the source.
        first: The first column.
    """
    width, columns = target.shape[-1], source.shape[-1]
    rows = source.size // columns
    _require(target.size == rows * width and first + columns <= width, "place", target)
    device.launch(
        "place",
        source.size,
        (
            *(target.address, _half(target), width, first),
            *(source.address, _half(source), rows, columns),
            *(checks.flag.address, checks.number(name)),
        ),
    )


def check(device: Device, source: Tensor, checks: Checks, name: str) -> None:
    """Looks for values that are not finite; `name` is what messages call the source."""
    device.launch(
        "place",
        source.size,
        (
            *(0, 0, source.size, 0),
            *(source.address, _half(source), 1, source.size),
            *(checks.flag.address, checks.number(name)),
        ),
    )


def _half(tensor: Tensor) -> int:
    _require(tensor.dtype in _FLOATS, "a kernel", tensor)
    return int(tensor.dtype == "float16")


def _require(holds: bool, kernel: str, tensor: Tensor) -> None:
    if not holds:
        raise RunError(
            f"{kernel} does not take a tensor of {tensor.dtype} with the shape {tensor.shape}; "
            "please report this."
        )
