"""`.mlpackage` folders: the program, and what its inputs and outputs are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import RunError
from .protocols import Function
from .signature import Port, read_ports
from .toolbox import coremltools, quiet
from .weight_map import mapping_context

_DAMAGED = "export the model again"


@dataclass(frozen=True)
class Package:
    """A package that was read.

    Attributes:
        program: The pymil `Program`; its weights are views of the package's file.
        function: Its one function.
        inputs: What the package's description says of the inputs, in order.
        outputs: The same of the outputs.
    """

    program: Any
    function: Function
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def read_package(path: Path) -> Package:
    """Reads an ML program.

    Args:
        path: An `.mlpackage` folder.

    Raises:
        DependencyError: coremltools is not installed.
        RunError: There is no such package, it is damaged, or it is not an ML program with one
            function and tensors as inputs and outputs.
    """
    file = _model_file(Path(path))
    spec = _read_spec(file, path)
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise RunError(
            f"'{path}' is a Core ML model of the kind '{kind}'; only ML programs can be evaluated."
        )
    functions = list(spec.mlProgram.functions)
    if len(functions) != 1 or spec.description.functions:
        raise RunError(
            f"'{path}' has {max(len(functions), len(spec.description.functions))} functions "
            f"({', '.join(functions)}); only packages with one can be evaluated."
        )
    inputs = read_ports(spec.description.input, path)
    outputs = read_ports(spec.description.output, path)
    if spec.description.state:
        raise RunError(
            f"'{path}' keeps a state between runs, which the evaluator does not support."
        )
    program = _read_program(spec, file.parent / "weights", path)
    return Package(program, program.functions[functions[0]], inputs, outputs)


def _model_file(path: Path) -> Path:
    """The specification inside the package, by its manifest."""
    if not path.is_dir():
        what = "is a file, not a package folder" if path.exists() else "does not exist"
        raise RunError(f"The Core ML package '{path}' {what}.")
    try:
        manifest = json.loads((path / "Manifest.json").read_text(encoding="utf-8"))
        entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        file = path / "Data" / str(entry["path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"The Core ML package '{path}' has no readable Manifest.json; {_DAMAGED}."
        ) from error
    if not file.is_file():
        raise RunError(
            f"The Core ML package '{path}' lacks its file '{entry['path']}'; {_DAMAGED}."
        )
    return file


def _read_spec(file: Path, path: Path) -> Any:
    spec = coremltools("proto.Model_pb2").Model()
    try:
        spec.ParseFromString(file.read_bytes())
    except Exception as error:
        raise RunError(f"The Core ML package '{path}' cannot be read; {_DAMAGED}.") from error
    return spec


def _read_program(spec: Any, weights: Path, path: Path) -> Any:
    """Builds the program as `milproto.load.load` does, with a context that maps the weights."""
    load = coremltools("converters.mil.frontend.milproto.load")
    mil = coremltools("converters.mil.mil")
    try:
        with quiet():
            context = mapping_context(weights)
            program = mil.Program()
            for name, function in spec.mlProgram.functions.items():
                program.add_function(
                    name, load._load_function(context, function, spec.specificationVersion)
                )
    except RunError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise RunError(
            f"The program of the Core ML package '{path}' cannot be read ({reason[:300]}); "
            f"{_DAMAGED}."
        ) from error
    return program
