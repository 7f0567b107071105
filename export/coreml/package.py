"""A MIL program in its final types to an `.mlpackage` folder, the same bytes each time."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.manifest import TensorSpec
from .metadata import PackageMetadata, write_metadata
from .toolbox import Progress, converting, coremltools

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program

    from .ports import ApplePort

_MODEL = Path("Data", "com.apple.CoreML", "model.mlmodel")
_WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")

# What is left to do for a program that was optimized before.
_PASSES = (
    "common::const_elimination",
    "common::const_deduplication",
    "common::cast_optimization",
    "common::dead_code_elimination",
    "common::dedup_op_and_var_names",
)


def write_package(
    program: Program,
    path: Path,
    target: Any,
    metadata: PackageMetadata,
    descriptions: Mapping[str, str],
    progress: Progress | None = None,
) -> Any:
    """Writes a program as it is; nothing in the package depends on chance or on the date.

    Args:
        program: The program, which is consumed.
        path: The folder to write, `NAME.mlpackage`; must not exist.
        target: A member of `coremltools.target`.
        metadata: What the package says about itself.
        descriptions: A sentence for inputs and outputs, by name.
        progress: Told how far the work is.

    Returns:
        The `Model_pb2.Model`.

    Raises:
        ExportError: coremltools refuses the program.
    """
    ct = coremltools()
    path.parent.mkdir(parents=True, exist_ok=True)
    with converting(f"write '{path.name}'", progress, ((0.0, 0.0), (0.0, 0.3), (0.3, 0.6))):
        model = ct.convert(
            program,
            source="milinternal",
            convert_to="mlprogram",
            minimum_deployment_target=target,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline(pass_names=list(_PASSES), pipeline_name="final"),
            skip_model_load=True,
            package_dir=str(path),
        )
    spec = model.get_spec()
    write_metadata(spec, metadata, descriptions)
    (path / _MODEL).write_bytes(spec.SerializeToString(deterministic=True))
    _settle_manifest(path)
    if progress is not None:
        progress(1.0)
    return spec


def read_specs(features: Any, ports: Sequence[ApplePort]) -> tuple[TensorSpec, ...]:
    """Inputs or outputs of a model, as the package describes them.

    Args:
        features: What `spec.description` holds.
        ports: Say what sizes that vary are called; elsewhere the shape is that of the default.
    """
    types = coremltools().proto.FeatureTypes_pb2.ArrayFeatureType
    names = {types.FLOAT16: "float16", types.FLOAT32: "float32", types.INT32: "int32"}
    called = {port.name: port.shape for port in ports}
    specs = []
    for each in features:
        array = each.type.multiArrayType
        shapes = [tuple(shape.shape) for shape in array.enumeratedShapes.shapes]
        shape: tuple[int | str, ...] = tuple(int(size) for size in array.shape)
        if not shape or len(shapes) > 1:
            shape = called.get(each.name, shape)
        specs.append(TensorSpec(each.name, names[array.dataType], shape))
    return tuple(specs)


def bytes_of(package: Path) -> int:
    """Bytes of all files of a package."""
    return sum(each.stat().st_size for each in package.rglob("*") if each.is_file())


def _settle_manifest(package: Path) -> None:
    """Gives the items of a package identifiers that depend on their paths, not on chance."""
    file = package / "Manifest.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    items, root = {}, ""
    for name, item in data["itemInfoEntries"].items():
        fixed = str(uuid.uuid5(uuid.NAMESPACE_URL, f"kdexport:{item['path']}")).upper()
        items[fixed] = item
        if name == data["rootModelIdentifier"]:
            root = fixed
    data["itemInfoEntries"] = {name: items[name] for name in sorted(items)}
    data["rootModelIdentifier"] = root
    file.write_text(json.dumps(data, indent=4) + "\n", encoding="utf-8")
