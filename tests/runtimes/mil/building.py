"""Small MIL programs for the tests, from single operations and from torch modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.toolbox import coremltools, quiet

TYPES = {
    np.dtype(np.float16): "fp16",
    np.dtype(np.float32): "fp32",
    np.dtype(np.int32): "int32",
    np.dtype(np.bool_): "bool",
    np.dtype(np.int16): "int16",
    np.dtype(np.int8): "int8",
    np.dtype(np.uint8): "uint8",
}


def target(name: str) -> Any:
    return getattr(coremltools().target, name)


def builder() -> Any:
    return coremltools("converters.mil.mil").Builder


def make(body: Callable[..., Any], arrays: Mapping[str, np.ndarray], opset: str = "iOS17") -> Any:
    """A function whose inputs have the types of `arrays`; `body(mb, **variables)` gives outputs."""
    mil = coremltools("converters.mil.mil")
    specs = {}
    for name, array in arrays.items():
        shape = array.shape
        kind = getattr(mil.types, TYPES[array.dtype])
        specs[name] = mil.Builder.placeholder(shape=shape, dtype=kind, name=name)
    with quiet(), mil.Function(specs, opset_version=target(opset)) as function:
        results = body(mil.Builder, **function.inputs)
        function.set_outputs(list(results) if isinstance(results, (list, tuple)) else [results])
    return function


def apply(
    kind: str,
    tensors: Mapping[str, Any],
    opset: str = "iOS17",
    precision: Any = None,
    **options: Any,
) -> list[np.ndarray]:
    """Evaluates one operation on arrays; a list of arrays is a parameter of several tensors."""
    arrays = flat(tensors)

    def body(mb: Any, **variables: Any) -> Any:
        given = {
            name: [variables[f"{name}_{place}"] for place in range(len(value))]
            if isinstance(value, list)
            else variables[name]
            for name, value in tensors.items()
        }
        return getattr(mb, kind)(**given, **options, name="layer")

    return list(Evaluator(make(body, arrays, opset), precision).run(arrays).values())


def flat(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, value in tensors.items():
        if isinstance(value, list):
            arrays.update({f"{name}_{place}": each for place, each in enumerate(value)})
        else:
            arrays[name] = value
    return arrays


def inferred(
    kind: str, tensors: Mapping[str, Any], opset: str = "iOS17", **options: Any
) -> list[np.ndarray]:
    """What coremltools itself computes for constants, with NumPy."""
    found = []

    def body(mb: Any, dummy: Any) -> Any:
        with np.errstate(all="ignore"):
            result = getattr(mb, kind)(**tensors, **options)
        found.extend(result if isinstance(result, (list, tuple)) else [result])
        return mb.identity(x=dummy)

    make(body, {"dummy": np.zeros(1, np.float32)}, opset)
    assert all(each.val is not None for each in found), f"coremltools infers no value of {kind}"
    return [np.asarray(each.val) for each in found]


def converted(
    module: torch.nn.Module,
    examples: Sequence[torch.Tensor],
    opset: str = "iOS17",
    half: bool = False,
    package: bool = False,
    shapes: Sequence[Any] | None = None,
) -> Any:
    """A torch module as a MIL program (float32 or float16), or as an ML model to be saved."""
    ct = coremltools()
    kinds = {torch.float32: np.float32, torch.int32: np.int32}
    with quiet(), torch.no_grad():
        program = torch.export.export(module.eval(), tuple(examples)).run_decompositions({})
        for node in program.graph.find_nodes(
            op="call_function", target=torch.ops.aten.alias.default
        ):
            node.replace_all_uses_with(node.args[0])  # coremltools does not know it
            program.graph.erase_node(node)
        return ct.convert(
            program,
            convert_to="mlprogram" if package else "milinternal",
            minimum_deployment_target=target(opset),
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            inputs=[
                ct.TensorType(f"x{place}", shape or each.shape, dtype=kinds[each.dtype])
                for place, (each, shape) in enumerate(
                    zip(examples, shapes or [None] * len(examples), strict=True)
                )
            ],
            **({"skip_model_load": True} if package else {}),
        )


def feed(examples: Sequence[torch.Tensor]) -> dict[str, np.ndarray]:
    return {f"x{place}": each.numpy() for place, each in enumerate(examples)}


def relative(result: np.ndarray, reference: Any) -> float:
    """Relative L2 distance."""
    true = np.asarray(reference, dtype=np.float64)
    return float(np.linalg.norm(result.astype(np.float64) - true) / np.linalg.norm(true))


def psnr(result: np.ndarray, reference: Any) -> float:
    """Peak signal to noise ratio in dB, against the peak of the reference."""
    true = np.asarray(reference, dtype=np.float64)
    error = np.sqrt(np.mean((result.astype(np.float64) - true) ** 2))
    return float(20 * np.log10(np.abs(true).max() / error))


def apply_constants(
    kind: str, tensors: Mapping[str, Any], opset: str = "iOS17", **options: Any
) -> list[np.ndarray]:
    """Evaluates one operation whose operands are constants of the program."""
    dummy = {"dummy": np.zeros(1, np.float32)}
    function = make(
        lambda mb, dummy: getattr(mb, kind)(**tensors, **options, name="layer"), dummy, opset
    )
    return list(Evaluator(function).run(dummy).values())
