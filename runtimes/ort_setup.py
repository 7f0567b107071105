"""What ONNX Runtime's compiling providers are told about a model: shapes, a place for engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..core.errors import RunError
from ..core.folder import user_cache
from ..core.guidance import is_guided
from ..core.manifest import Component, Manifest
from ..core.profiles import Extent, Profile, Ranges, shape_ranges
from .model_key import model_key, recorded
from .ort_providers import COMPILING, Setup

# Most images of a batch that engines are built for, where the bundle does not say.
MOST_IMAGES = 4
# What engines depend on beside the model; TensorRT's package is named after its CUDA.
_LIBRARIES = (
    *("onnxruntime-gpu", "onnxruntime", "onnxruntime-ep-nv-tensorrt-rtx"),
    *("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx"),
)
_OWN_OPERATORS = b"com.microsoft"


def make_setup(provider: str, model: Path, cuda_graphs: bool) -> Setup:
    """What a provider's options for a model depend on.

    Engines lie in `$KDEXPORT_CACHE/onnxruntime` (`~/.cache/kdexport` where it is not set), in a
    folder named after the SHA-256 of the model, the shapes and the versions of the libraries.

    Args:
        provider: A key of `ort_providers.PROVIDERS`.
        model: The `.onnx` file; where a bundle is around it, its manifest says the shapes.
        cuda_graphs: Capture and replay CUDA graphs.

    Raises:
        RunError: The model has operators of ONNX Runtime's own, which TensorRT lacks.
        BundleError: The manifest cannot be read.
    """
    if provider not in COMPILING or not model.is_file():
        return Setup(cuda_graphs)
    require_portable(provider, model)
    manifest, component = recorded(model)
    ranges = component_ranges(manifest, component) if manifest and component else {}
    folder = user_cache() / "onnxruntime" / provider
    shapes = {name: [list(shape) for shape in each] for name, each in ranges.items()}
    engines = folder / model_key(model, manifest, shapes, _LIBRARIES)[:32]
    timings = folder / "timings" if provider == "tensorrt" else None
    for each in (engines, timings):
        if each is not None:
            each.mkdir(parents=True, exist_ok=True)
    return Setup(cuda_graphs, ranges, engines, timings)


def component_ranges(manifest: Manifest, component: Component) -> dict[str, Ranges]:
    """Shapes that engines of a component are built for, of its inputs with dynamic dimensions.

    In a TensorRT bundle they are those of its own engines. Else one to four images, and sides from
    half the default to the default: tactics are chosen for the default, and the memory of the
    engine is that of the largest shape.
    """
    for record in manifest.engines:
        if record.role == component.role:
            return _dynamic(component, record.profile)
    shapes, defaults = manifest.shapes, manifest.defaults
    profile = Profile(
        batch=Extent(1, 1, MOST_IMAGES),
        height=_side(shapes.height, defaults.height, shapes.multiple),
        width=_side(shapes.width, defaults.width, shapes.multiple),
    )
    guided = is_guided(defaults.guidance, manifest.guidance_embedding)
    ranges = shape_ranges(component, profile, 2 if guided else 1, manifest.latents.factor)
    return _dynamic(component, ranges)


def require_in_range(
    feed: Mapping[str, NDArray[Any]], ranges: Mapping[str, Ranges], model: Path, provider: str
) -> None:
    """Raises `RunError` where an input is smaller or larger than the engines are built for."""
    for name, (smallest, _, largest) in ranges.items():
        shape = feed[name].shape
        limits = zip(smallest, shape, largest, strict=True)
        if not all(low <= size <= high for low, size, high in limits):
            raise RunError(
                f"The provider '{provider}' runs '{model}' with '{name}' from {tuple(smallest)} to "
                f"{tuple(largest)}, not {shape}; draw fewer images or another size, choose the "
                "provider 'cuda', or make a bundle for such shapes with "
                "`kdexport tensorrt --profile`."
            )


def require_portable(provider: str, model: Path) -> None:
    """Raises `RunError` where a model has operators that only ONNX Runtime's own providers have."""
    # The weights lie in another file, so this is read in milliseconds.
    if _OWN_OPERATORS in model.read_bytes():
        raise RunError(
            f"The provider '{provider}' lacks operators of '{model}' that are ONNX Runtime's own; "
            "export with --attention portable, or choose the provider 'cuda'."
        )


def _dynamic(component: Component, ranges: Mapping[str, Ranges]) -> dict[str, Ranges]:
    return {
        spec.name: ranges[spec.name]
        for spec in component.inputs
        if any(not isinstance(size, int) for size in spec.shape)
    }


def _side(fixed: int | None, default: int, multiple: int) -> Extent:
    if fixed is not None:
        return Extent(fixed, fixed, fixed)
    return Extent(max(multiple, default // 2 // multiple * multiple), default, default)
