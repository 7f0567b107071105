"""Names that say which layer an operation belongs to.

torch.export calls operations `linear_17`; coremltools keeps those names and numbers its own. Here
every node of the exported graph gets the name of its module and its operator
(`down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q_linear`), every operation that
coremltools makes of a node gets a name that begins with that of the node, and every weight is
called `<layer>_weight`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .toolbox import inside

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program

# The attribute of the wrapper below which the component lies; says nothing about the layer.
_WRAPPER = "inner"
# What the outermost `forward` is called.
_ROOT = "model"
_MAPPINGS = ("conv2d", "linear")
_SCALINGS = ("mul", "div", "add", "sub")
_WEIGHTS = ("weight", "bias", "gamma", "beta", "mean", "variance")
_HALF = "_to_fp16"


class _Origin(NamedTuple):
    """Where an operation comes from: the name of the node, and of its layer."""

    node: str
    layer: str


def name_nodes(exported: torch.export.ExportedProgram, reserved: Collection[str]) -> None:
    """Renames the nodes of an exported program by the layers they come from, in place.

    Parameters are named after themselves (`conv_in_weight`). The names are also left where
    coremltools expects the stack trace, from where they reach every operation
    (`name_operations`).

    Args:
        exported: What `torch.export` gave, decomposed or not.
        reserved: Names that no node may take: those of the model's inputs and outputs.
    """
    stored = _stored_names(exported)
    names, layers, wanted = _Names(reserved), {}, {}
    for node in exported.graph.nodes:
        if node.name in stored:
            wanted[node] = names.unique(identifier(stored[node.name]))
        elif node.op in ("call_function", "get_attr"):
            layers[node] = identifier(_layer(node)) or _ROOT
            wanted[node] = names.unique(f"{layers[node]}_{_what(node)}")
    before = {node: node.name for node in wanted}
    for node, name in wanted.items():
        node._rename(name)
    for node, layer in layers.items():
        node.meta["stack_trace"] = f"{node.name} {layer}"
    after = {name: node.name for node, name in before.items()}
    signature = exported.graph_signature
    for spec in (*signature.input_specs, *signature.output_specs):
        if spec.arg.name in after:
            spec.arg.name = after[spec.arg.name]


def name_operations(program: Program) -> None:
    """Renames the operations that coremltools numbered (`op_12`), in place, by their layers.

    An operation is named after the node that it was made of, or where coremltools made it of
    nothing, after what it reads; a constant after the operation that uses it. Names that are right
    already stay.
    """
    for function in program.functions.values():
        names = _Names((*function.inputs, *(output.name for output in function.outputs)))
        outputs = {id(output) for output in function.outputs}
        for operation in function.operations:
            if operation.op_type == "const":
                wanted = _constant_name(operation)
            else:
                wanted = _operation_name(operation)
            operation.name = names.unique(wanted)
            for index, output in enumerate(operation.outputs):
                if id(output) not in outputs:
                    suffix = f"_{index}" if len(operation.outputs) > 1 else ""
                    output.name = operation.name + suffix


class _Names:
    """Hands out each name once, with a number appended from the second time on."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._counts: dict[str, int] = {}

    def unique(self, wanted: str) -> str:
        """`wanted`, or `wanted_1` and so on where that is taken."""
        name = wanted
        while name in self._taken:
            self._counts[wanted] = self._counts.get(wanted, 0) + 1
            name = f"{wanted}_{self._counts[wanted]}"
        self._taken.add(name)
        return name


def _stored_names(exported: torch.export.ExportedProgram) -> dict[str, str]:
    """Name in the module of every parameter, buffer and constant, by its placeholder."""
    return {
        spec.arg.name: str(spec.target)
        for spec in exported.graph_signature.input_specs
        if spec.target is not None
    }


def _layer(node: torch.fx.Node) -> str:
    """Dotted path of the module whose `forward` called the operator.

    A constant factor or shift that coremltools merges into the layer before it counts as that
    layer.
    """
    source = _scaled(node)
    stack = (node if source is None else source).meta.get("nn_module_stack")
    if not stack:
        return ""
    path, _ = list(stack.values())[-1]
    return str(path)


def _what(node: torch.fx.Node) -> str:
    return "scaled" if _scaled(node) is not None else _operator(node)


def _scaled(node: torch.fx.Node) -> torch.fx.Node | None:
    """The convolution or linear layer whose result a node scales or shifts by numbers."""
    if _operator(node) not in _SCALINGS or len(node.args) != 2:
        return None
    source, factor = node.args
    if not isinstance(source, torch.fx.Node) or not isinstance(factor, (int, float)):
        return None
    return source if _operator(source) in _MAPPINGS else _scaled(source)


def _operator(node: torch.fx.Node) -> str:
    target: Any = node.target
    name = getattr(target, "_opname", None) or getattr(target, "__name__", None) or str(target)
    return str(name).strip("_")


def identifier(path: str) -> str:
    """A dotted path as a name that MIL takes."""
    name = path.removeprefix(f"{_WRAPPER}.") if path != _WRAPPER else ""
    name = re.sub(r"\W+", "_", name).strip("_")
    return f"_{name}" if name[:1].isdigit() else name


def _origin(operation: Operation) -> _Origin | None:
    """The node that an operation was made of; None for parameters and for what passes add."""
    source = inside("converters.mil.mil.scope").ScopeSource.EXIR_STACK_TRACE
    trace = (operation.scopes.get(source) or [None])[0]
    # Casts of inputs have single letters here.
    if not isinstance(trace, str) or " " not in trace:
        return None
    return _Origin(*trace.split(" ", 1))


def _operation_name(operation: Operation) -> str:
    name, kind = str(operation.name), str(operation.op_type)
    origin = _origin(operation)
    if origin is None:
        if not _is_numbered(name, kind):
            return name
        reads = [each for each in operation.inputs.values() if hasattr(each, "name")]
        moving = [each.name for each in reads if each.op is None or each.op.op_type != "const"]
        return f"{moving[0]}_{kind}" if moving else name
    if name.startswith(origin.node):
        return name
    return origin.node if origin.node.endswith(f"_{kind}") else f"{origin.node}_{kind}"


def _is_numbered(name: str, kind: str) -> bool:
    """Whether a name says nothing: `transpose_88`, or `i_cast` for an input."""
    return re.fullmatch(rf"{kind}(_\d+)?|\w_{kind}", name) is not None


def _constant_name(operation: Operation) -> str:
    name, users = str(operation.name), operation.outputs[0].child_ops
    if not users:
        return name
    parameters = (key for key, value in users[0].inputs.items() if value is operation.outputs[0])
    parameter, owner, origin = next(parameters, "value"), _origin(users[0]), _origin(operation)
    if owner is not None and parameter in _WEIGHTS and not name.endswith(_HALF):
        return f"{owner.layer}_{parameter}"
    named = not _is_numbered(name, "const") if origin is None else name.startswith(origin.layer)
    if named or name.endswith(_HALF):
        return name
    return f"{users[0].name}_{parameter}"
