"""Constants of a program as tensors, compressed ones expanded, at the moment they are used."""

from __future__ import annotations

from torch import Tensor

from ...core.errors import RunError
from .operations import evaluate_operation
from .precision import Float32, Precision, narrowed
from .protocols import Value, Variable
from .values import constant, type_name


class Weights:
    """Reads the constants of one program.

    Args:
        precision: Expanded weights that are declared float16 are rounded but with `Float32`.
        keep: Whether compressed weights are expanded once and kept, as float16 where they are.
    """

    def __init__(self, precision: Precision, keep: bool) -> None:
        self._rounds = not isinstance(precision, Float32)
        self._keep = keep
        self._kept: dict[Variable, Tensor] = {}

    def read(self, variable: Variable) -> Value:
        """The value of a constant, floats as float32.

        Raises:
            RunError: The variable is no constant, or of a kind that is not supported.
        """
        operation = variable.op
        if operation is None or not is_constant(operation.op_type):
            raise RunError(f"The variable '{variable.name}' has no value.")
        if operation.op_type == "const":
            return constant(variable)
        if variable in self._kept:
            return self._kept[variable].float()
        return self._expand(variable)

    def _expand(self, variable: Variable) -> Tensor:
        operation = variable.op
        inputs = {name: self.read(given) for name, given in operation.inputs.items()}
        results = evaluate_operation(operation, inputs)
        result = results[list(operation.outputs).index(variable)]
        half = self._rounds and type_name(variable) == "fp16"
        if half:
            result = narrowed(result)
        if self._keep and result.is_floating_point():
            self._kept[variable] = result.half() if half else result
        return result


def is_constant(op_type: str) -> bool:
    """Whether operations of this type give the same at every run, and are computed when needed."""
    return op_type == "const" or op_type.startswith("constexpr_")
