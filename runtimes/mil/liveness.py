"""When a value is used for the last time."""

from __future__ import annotations

from collections.abc import Sequence

from .protocols import Operation, Variable


def last_uses(operations: Sequence[Operation], outputs: Sequence[Variable]) -> list[list[Variable]]:
    """The values that nothing needs any more after each operation.

    Args:
        operations: In the order of execution, without constants.
        outputs: What the program gives, and so never dies.

    Returns:
        For each operation the variables that die with it: inputs of the program and results of
        operations, among them results that nobody reads.
    """
    kept = set(outputs)
    made = {variable for operation in operations for variable in operation.outputs}
    last: dict[Variable, int] = {}
    for step, operation in enumerate(operations):
        for given in operation.inputs.values():
            for variable in given if isinstance(given, (list, tuple)) else [given]:
                if variable in made or variable.op is None:
                    last[variable] = step
        for variable in operation.outputs:
            last[variable] = step
    dying: list[list[Variable]] = [[] for _ in operations]
    for variable, step in last.items():
        if variable not in kept:
            dying[step].append(variable)
    return dying
