"""The weights of a MIL program, and what the module calls them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import RecipeError, listing
from ...core.formats import is_worth_it
from .layer_names import identifier

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program

# What has weights that are worth it. Not `gather`: a table of embeddings is read row by row, and
# Core ML would have to unpack it as a whole. Apple leaves it out, too.
_WEIGHTED = ("conv", "linear")
_HALF = "_to_fp16"


@dataclass(frozen=True)
class ProgramWeight:
    """A constant that layers are made of.

    Attributes:
        variable: The output of the constant, output channels first.
        users: The operations that take it as their weight.
    """

    variable: Any
    users: tuple[Operation, ...]

    @property
    def is_half(self) -> bool:
        """Whether it is float16; others stay in float32 for their precision."""
        return bool(self.variable.val.dtype == np.float16)


def program_weights(program: Program) -> dict[str, ProgramWeight]:
    """The weights that may be stored in another format, by MIL's names, in their order."""
    return dict(_weights(program))


def called(names: Iterable[str], weights: Mapping[str, ProgramWeight]) -> dict[str, str]:
    """Name in the program to name in the module, for names of the module.

    Args:
        names: Names with dots, such as `conv_in.weight`.
        weights: Those of the program.

    Raises:
        RecipeError: Two of the names are the same in a program, or the program lacks one.
    """
    found: dict[str, str] = {}
    for name in names:
        other = found.setdefault(identifier(name), name)
        if other != name:
            raise RecipeError(
                f"The weights {other} and {name} are both called '{identifier(name)}' in a Core ML "
                "program; leave them as they are."
            )
    missing = [name for key, name in found.items() if key not in weights]
    if missing:
        raise RecipeError(
            f"The Core ML program has no weights {listing(missing)} that could be compressed; it "
            f"has {listing(weights)}."
        )
    return found


def _weights(program: Program) -> Iterator[tuple[str, ProgramWeight]]:
    for function in program.functions.values():
        seen: set[int] = set()
        for operation in function.operations:
            variable = operation.inputs.get("weight") if operation.op_type in _WEIGHTED else None
            if variable is None or id(variable) in seen or not _is_stored(variable):
                continue
            seen.add(id(variable))
            users = tuple(each for each in variable.child_ops if each.op_type in _WEIGHTED)
            yield str(variable.name).removesuffix(_HALF), ProgramWeight(variable, users)


def _is_stored(variable: Any) -> bool:
    return (
        variable.op is not None and variable.op.op_type == "const" and is_worth_it(variable.shape)
    )
