"""Running a MIL function on torch's CPU kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...core.errors import RunError, listing
from .liveness import last_uses
from .operations import MOVES, evaluate_operation, function_of
from .overflow import Overflow, OverflowRunError, find_input_overflow, find_overflow, members
from .precision import AsWritten, Float32, Precision, narrowed, narrowed_constant
from .protocols import Function, Operation, Value, Values, Variable
from .values import to_numpy, to_torch, type_name
from .weights import Weights, is_constant

# Called with an operation, what it read and what it gave, rounded where it is. The tensors are
# the evaluator's own: keep a copy of what is needed later, and change nothing.
Observer = Callable[[Operation, Mapping[str, Value], tuple[Tensor, ...]], None]


class Evaluator:
    """A function of a MIL program, checked and planned once, run any number of times.

    Values are held in float32 and freed after their last use. Constants stay where the program
    has them (a package maps its weight file into memory) and become float32 when they are used.

    Args:
        function: A function of a pymil program, e.g. `program.functions["main"]`.
        precision: `AsWritten()`, the default, rounds what the program declares to be float16,
            `Float32()` rounds nothing, `Simulated(rounds)` runs a float32 program as if
            coremltools had converted the operations that `rounds` names.
        observer: Called after every operation but constants.
        on_overflow: Called where an operation makes infinity or NaN from finite numbers; None
            raises `OverflowRunError` instead. Never called with `Float32()`.
        keep_weights: Whether compressed weights are expanded once and kept, as float16 where they
            are, instead of at every use.

    Raises:
        RunError: The function has an operation that the evaluator does not support.
    """

    def __init__(
        self,
        function: Function,
        precision: Precision | None = None,
        *,
        observer: Observer | None = None,
        on_overflow: Callable[[Overflow], None] | None = None,
        keep_weights: bool = False,
    ) -> None:
        self.function = function
        self.precision: Precision = AsWritten() if precision is None else precision
        self.observer = observer
        self.on_overflow = on_overflow
        for operation in function.operations:
            if operation.op_type != "const":
                function_of(operation)
        self.operations = tuple(
            each for each in function.operations if not is_constant(each.op_type)
        )
        self._dying = last_uses(self.operations, function.outputs)
        self._narrow = [self.precision.narrows(each) for each in self.operations]
        self._weights = Weights(self.precision, keep_weights)

    @torch.no_grad()
    def run(self, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs the function once.

        Args:
            feed: An array for each input. Values beyond float16 of an input that is declared so
                become infinite with `AsWritten()`.

        Returns:
            The outputs by name, in the program's order and types; with `Float32()` those declared
            as float16 are float32. They share no memory with `feed`.

        Raises:
            OverflowRunError: An operation made infinity or NaN from finite numbers.
            RunError: An input is missing or an operation cannot take what it is given.
        """
        values = self._feed(feed)
        # Variables whose values are float16 already, so that nothing rounds them again.
        exact = set(values) if isinstance(self.precision, AsWritten) else set()
        for operation, narrow, dying in zip(
            self.operations, self._narrow, self._dying, strict=True
        ):
            inputs = self._inputs(operation, values, exact, narrow)
            results = self._compute(operation, inputs, narrow)
            if self.observer is not None:
                self.observer(operation, inputs, results)
            for variable, result in zip(operation.outputs, results, strict=True):
                values[variable] = result
                if narrow:
                    exact.add(variable)
            del inputs, results
            for variable in dying:
                del values[variable]
        return {each.name: self._result(each, values) for each in self.function.outputs}

    def _feed(self, feed: Mapping[str, NDArray[Any]]) -> dict[Variable, Tensor]:
        missing = [name for name in self.function.inputs if name not in feed]
        if missing:
            raise RunError(f"The program also takes the inputs {listing(missing)}.")
        values = {}
        for name, variable in self.function.inputs.items():
            kind = type_name(variable)
            tensor = to_torch(np.asarray(feed[name]), kind)
            half = kind == "fp16" and isinstance(self.precision, AsWritten)
            values[variable] = narrowed(tensor) if half else tensor
        return values

    def _result(self, variable: Variable, values: Mapping[Variable, Tensor]) -> NDArray[Any]:
        kind = type_name(variable)
        if kind == "fp16" and isinstance(self.precision, Float32):
            kind = "fp32"
        value = values[variable] if variable in values else self._weights.read(variable)
        if isinstance(value, Tensor):
            return to_numpy(value, kind)
        raise RunError(f"The output '{variable.name}' is no tensor.")

    def _inputs(
        self,
        operation: Operation,
        values: Mapping[Variable, Tensor],
        exact: set[Variable],
        narrow: bool,
    ) -> Values:
        """What an operation reads, by parameter; rounded where the precision says so."""

        def read(parameter: str, variable: Variable) -> Any:
            computed = variable in values
            value = values[variable] if computed else self._weights.read(variable)
            if not narrow or variable in exact or isinstance(value, str):
                return value
            if not self.precision.narrows_input(operation, parameter, variable):
                return value
            return self._narrowed_input(operation, value, computed)

        return {
            parameter: tuple(read(parameter, each) for each in given)
            if isinstance(given, (list, tuple))
            else read(parameter, given)
            for parameter, given in operation.inputs.items()
        }

    def _narrowed_input(self, operation: Operation, value: Any, computed: bool) -> Tensor:
        if not computed:
            return narrowed_constant(value)
        if self.precision.checks:
            self._report(find_input_overflow(operation, value))
        return narrowed(value)

    def _compute(self, operation: Operation, inputs: Values, narrow: bool) -> tuple[Tensor, ...]:
        results = evaluate_operation(operation, inputs)
        if operation.op_type in MOVES:
            return results
        if self.precision.checks:
            self._report(find_overflow(operation, inputs.values(), results, narrow))
        if not narrow:
            return results
        taken = {_storage(each) for value in inputs.values() for each in members(value)}
        return tuple(
            narrowed(each, owned=_storage(each) not in taken) if each.is_floating_point() else each
            for each in results
        )

    def _report(self, overflow: Overflow | None) -> None:
        if overflow is None:
            return
        if self.on_overflow is None:
            raise OverflowRunError(overflow)
        self.on_overflow(overflow)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
