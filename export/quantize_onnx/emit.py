"""Adds nodes and initializers to a graph around a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from .layers import Layer

Array = NDArray[Any]
# A type, and a shape where it is known.
Kind = tuple[ir.DataType, ir.Shape | None]


class Parts:
    """Arrays that are computed from a layer's weights once and taken one by one.

    What is stored of a weight are several arrays, which are written one after the other. They are
    kept from the first that is taken until the last one is, so that a weight is read once.
    """

    def __init__(self, compute: Callable[[], Sequence[Array]]) -> None:
        """`compute` reads the weights and gives the arrays."""
        self._compute = compute
        self._waiting: dict[int, Array] = {}

    def part(self, index: int) -> Callable[[], Array]:
        """What gives the array of an index."""

        def take() -> Array:
            if index not in self._waiting:
                self._waiting = dict(enumerate(self._compute()))
            return self._waiting.pop(index)

        return take


class Emitter:
    """Adds what a layer becomes before its node; `finish` puts it in the place of the node."""

    def __init__(self, graph: ir.Graph, layer: Layer) -> None:
        """Begins with a layer of a graph."""
        self.layer = layer
        self._graph = graph
        self._names = {layer.node.name}

    def __call__(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        kind: Kind,
        domain: str = "",
        **attributes: int | Sequence[int],
    ) -> ir.Value:
        """Adds a node with one output."""
        given = ir.convenience.convert_attributes(attributes)
        return self.several(op_type, inputs, [kind], given, domain)[0]

    def several(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        kinds: Sequence[Kind],
        attributes: Sequence[ir.Attr] = (),
        domain: str = "",
    ) -> list[ir.Value]:
        """Adds a node with an output of each kind."""
        # Runtimes and their logs name what they do after nodes: after layers, then.
        name = self._fresh(f"{self.layer.name}/{op_type}")
        values = [
            ir.Value(name=f"{name}/{index}", type=ir.TensorType(dtype), shape=shape)
            for index, (dtype, shape) in enumerate(kinds)
        ]
        node = ir.Node(domain, op_type, inputs, attributes, outputs=values, name=name)
        self._graph.insert_before(self.layer.node, node)
        return values

    def again(self, *inputs: ir.Value | None, dtype: ir.DataType) -> ir.Value:
        """Adds the layer's own operator with other inputs, computing in a type."""
        node = self.layer.node
        kind = (dtype, node.outputs[0].shape)
        return self.several(node.op_type, inputs, [kind], list(node.attributes.values()))[0]

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """The value in a type; itself where it is of that type already."""
        if value.dtype == dtype:
            return value
        return self("Cast", value, kind=(dtype, value.shape), to=int(dtype))

    def constant(self, name: str, array: Array) -> ir.Value:
        """An initializer beside the layer's weight, in the type of `array`."""
        name = f"{self.layer.weight.name}/{name}"
        return self._register(ir.tensor(array, name=name), name, array.shape)

    def lazy(
        self, name: str, compute: Callable[[], Array], dtype: ir.DataType, shape: Sequence[int]
    ) -> ir.Value:
        """An initializer beside the layer's weight that is computed when it is written."""
        name = f"{self.layer.weight.name}/{name}"

        def evaluate() -> ir.TensorProtocol:
            return ir.tensor(compute().astype(dtype.numpy(), copy=False), dtype=dtype, name=name)

        tensor = ir.LazyTensor(evaluate, dtype, ir.Shape(shape), name=name)
        return self._register(tensor, name, shape)

    def finish(self, result: ir.Value) -> None:
        """Puts `result` in the place of what the layer's node gave, and removes the node."""
        node = self.layer.node
        ir.convenience.replace_nodes_and_values(
            self._graph, node, [node], [], list(node.outputs), [result]
        )

    def _fresh(self, name: str) -> str:
        free = name
        while free in self._names:
            free += "_"
        self._names.add(free)
        return free

    def _register(self, tensor: ir.TensorProtocol, name: str, shape: Sequence[int]) -> ir.Value:
        value = ir.Value(
            name=name,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(shape),
            const_value=tensor,
        )
        self._graph.register_initializer(value)
        return value
