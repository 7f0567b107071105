"""An ONNX file as a network of TensorRT, strongly typed where the version knows that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import ExportError
from .libraries import Log, make_log, plain, version_numbers

if TYPE_CHECKING:
    from .graph import OnnxGraph

# The advice for codes of `ErrorCode` that begin so.
_UNSUPPORTED = "UNSUPPORTED"


@dataclass(frozen=True)
class Network:
    """A parsed network. The parser owns the weights: it must live as long as the network.

    Attributes:
        builder: `Builder`.
        definition: `INetworkDefinition`.
        parser: `OnnxParser`.
        log: What TensorRT said and says about it.
        strongly_typed: Whether every tensor has exactly the type that the ONNX file gives it.
    """

    builder: Any
    definition: Any
    parser: Any
    log: Log
    strongly_typed: bool


def parse_network(library: Any, onnx: Path, title: str) -> Network:
    """Parses an ONNX file.

    Args:
        library: `tensorrt` or `tensorrt_rtx`.
        onnx: The file; its weights lie beside it.
        title: What NVIDIA calls the library, for messages.

    Raises:
        ExportError: TensorRT does not take it; the message names the node and what to do.
    """
    log = make_log(library)
    builder = library.Builder(log)
    typed = is_strongly_typed(library)
    network = builder.create_network(_flags(library, typed))
    parser = library.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        raise ExportError(_refusal(parser, onnx, f"{title} {library.__version__}", log))
    return Network(builder, network, parser, log, typed)


def require_own_operators(graph: OnnxGraph, role: str, title: str) -> None:
    """Raises `ExportError` where a graph has operators of ONNX Runtime or of another domain.

    Args:
        graph: The ONNX file.
        role: Its component.
        title: What NVIDIA calls the library that is to parse it.
    """
    if graph.foreign is not None:
        raise ExportError(
            f"The ONNX file of '{role}' has the operator {graph.foreign}, which is not ONNX's and "
            f"which {title} cannot be relied on to have; export the model with --attention "
            "portable."
        )


def require_symmetric(graph: OnnxGraph, role: str, title: str) -> None:
    """Raises `ExportError` where activations are quantized as ONNX Runtime wants them on CPUs.

    Args:
        graph: The ONNX file.
        role: Its component.
        title: What NVIDIA calls the library that is to parse it.
    """
    if graph.unsigned is not None:
        raise ExportError(
            f"The ONNX file of '{role}' quantizes activations to unsigned integers "
            f"('{graph.unsigned}'), and {title} takes signed ones around zero only; quantize the "
            "model itself, with `kdexport tensorrt MODEL --quantize`."
        )


def is_strongly_typed(library: Any) -> bool:
    """Whether a version has strongly typed networks: from 9.1 on, and always in 11."""
    typed = hasattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    return typed or version_numbers(library.__version__) >= (11,)


def _flags(library: Any, typed: bool) -> int:
    """The bits for `create_network`; a flag that a version lacks is what it always does."""
    names = ["STRONGLY_TYPED"] if typed else ["EXPLICIT_BATCH"]
    kind = library.NetworkDefinitionCreationFlag
    return sum(1 << int(getattr(kind, name)) for name in names if hasattr(kind, name))


def _refusal(parser: Any, onnx: Path, title: str, log: Log) -> str:
    """Why the parser refused, and what to do about it."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        return f"{title} cannot parse '{onnx}' ({'; '.join(log.errors)}); export the model again."
    error = errors[0]
    reason = plain(error.desc().splitlines()[-1]) if error.desc().strip() else "no reason given"
    # The first line only says that the node is invalid.
    for line in error.desc().splitlines():
        if "Error Code" in line and "catchCudaError" not in line:
            reason = plain(line)
            break
    where = f"the node '{_node(error)}' ({_operator(error)})" if error.node() >= 0 else "the graph"
    advice = "export the model again with --precision fp16 and --attention portable"
    if _UNSUPPORTED in str(error.code()) or "Plugin not found" in reason:
        advice = (
            "it has no such operator, or not for these types; export the model with --attention "
            "portable, or run the ONNX files with ONNX Runtime"
        )
    elif "type" in reason:
        advice = (
            "every type must be right in the ONNX file, for none is converted; export the model "
            "again with `kdexport tensorrt`"
        )
    return f"{title} cannot parse {where} of '{onnx}': {reason}; {advice}."


def _node(error: Any) -> str:
    """Name of the node; versions before 10 know its number only."""
    name = error.node_name() if hasattr(error, "node_name") else ""
    return name or f"number {error.node()}"


def _operator(error: Any) -> str:
    return (error.node_operator() if hasattr(error, "node_operator") else "") or "operator unknown"
