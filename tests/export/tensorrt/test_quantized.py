"""Engines whose weights have few bits."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from kdexport.core.errors import CalibrationError, ExportError, OptionError, RecipeError
from kdexport.core.manifest import load_manifest
from kdexport.core.profiles import shape_ranges
from kdexport.core.quantization import Quantization
from kdexport.core.ranges import LayerRange, TensorRange
from kdexport.core.recipe import PRESETS, LayerFormats, Recipe, preset_recipe
from kdexport.core.tensorrt_options import TensorrtOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.onnx_bundle import export_onnx
from kdexport.export.tensorrt.build import build_engine, check_request
from kdexport.export.tensorrt.graph import read_graph
from kdexport.export.tensorrt.key import engine_key
from kdexport.export.tensorrt.prepare import prepare_tensorrt, request_digest
from kdexport.export.tensorrt.request import EngineRequest
from kdexport.runtimes.ort import OrtRunner
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("tensorrt_rtx")

SHORT = {"schedulers": (), "max_steps": 2}
# Wide enough for what random weights of this size make of random latents.
RANGE = TensorRange(-6.0, 6.0, 6.0, 6.0)
BUILT = ("int8-static", "fp8", "int8", "int4", "hybrid")


@pytest.fixture(scope="module")
def checkpoint(micro_pipeline):
    return load_checkpoint(str(micro_pipeline))


@pytest.fixture(scope="module")
def quantization(checkpoint):
    """`quantization("fp8")`: a preset for the smallest U-Net, as TensorRT takes it."""
    weights = prepare_tensorrt(checkpoint, TensorrtOptions(**SHORT)).onnx.pipeline.weights["unet"]
    shapes = {name: tensor.shape for name, tensor in weights.tensors.items()}
    layers = [name.removesuffix(".weight") for name in shapes if name.endswith(".weight")]
    ranges = dict.fromkeys(layers, LayerRange(RANGE, RANGE))

    def make(name):
        return Quantization(name, preset_recipe(name, {"unet": shapes}), ranges, "signed")

    return make


@pytest.fixture(scope="module")
def unets(checkpoint, quantization, tmp_path_factory):
    """`unets("fp8")`: the request for an engine of the U-Net in a format, or None; and its record.

    Only the U-Net is written.
    """
    made = {}

    def write(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("onnx")
            options = TensorrtOptions(quantization=quantization(name) if name else None, **SHORT)
            prepared = prepare_tensorrt(checkpoint, options)
            parts = tuple(each for each in prepared.onnx.parts if each.role == "unet")
            onnx_only = replace(prepared.onnx, parts=parts)
            (component,) = export_onnx(onnx_only, folder, lambda what, share: None).components
            factor = prepared.onnx.pipeline.latents.factor
            ranges = shape_ranges(component, prepared.profile, 2, factor)
            file = folder / component.file
            made[name] = EngineRequest("unet", file, "rtx", (8, 9), ranges), component
        return made[name]

    return write


def feed_of(request):
    random = np.random.default_rng(0)
    return {
        name: np.full((), 401.0, np.float32)
        if name == "timestep"
        else random.standard_normal(best).astype(np.float32)
        for name, (_, best, _) in request.ranges.items()
    }


@pytest.mark.parametrize("name", BUILT)
def test_engines(unets, name, tmp_path):
    request, component = unets(name)
    record = component.compression
    assert record["recipe"] == name
    assert 0 < record["layers"]["quantized"] < record["layers"]["all"]
    assert sum(record["formats"].values()) == record["layers"]["quantized"]
    build_engine(request, tmp_path / "engine", lambda share: None)
    assert (tmp_path / "engine").read_bytes().startswith(b"vtrt")


@pytest.mark.parametrize("name", BUILT)
def test_graphs_are_what_tensorrt_fuses(unets, name):
    """Standard operators; symmetric integers; what is quantized enters its layer directly."""
    request, component = unets(name)
    proto = onnx.load(request.onnx)
    stored = {each.name: each for each in proto.graph.initializer}
    assert {each.domain for each in proto.opset_import} == {""}
    makers = {output: node for node in proto.graph.node for output in node.output}
    entering = 0
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            zero = numpy_helper.to_array(stored[node.input[2]])
            assert not zero.astype(np.float32).any()
            assert stored[node.input[2]].data_type in (TensorProto.INT8, TensorProto.FLOAT8E4M3FN)
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            kinds = [makers[each].op_type for each in node.input[:2] if each in makers]
            if kinds == ["DequantizeLinear"] * 2:
                entering += 1
                assert makers[makers[node.input[0]].input[0]].op_type == "QuantizeLinear"
                # The bias stays a float.
                assert all(each not in makers for each in node.input[2:])
    formats = Counter(component.compression["formats"])
    assert entering == formats["int8-static"] + formats["fp8"]


@pytest.mark.parametrize("name", BUILT)
def test_the_onnx_files_run_on_the_cpu(unets, name):
    outputs = []
    for each in (None, name):
        request, _ = unets(each)
        with OrtRunner(request.onnx) as runner:
            outputs.append(runner.run(feed_of(request))["out_sample"].astype(np.float64))
    plain, ours = outputs
    error = np.linalg.norm(ours - plain) / np.linalg.norm(plain)
    assert 1e-4 < error < (0.3 if name == "int4" else 0.1)


def test_keys(unets):
    keys = {name: engine_key(unets(name)[0], "1.7") for name in (None, *BUILT)}
    assert len(set(keys.values())) == len(keys)
    assert engine_key(unets("fp8")[0], "1.7") == keys["fp8"]


def test_the_same_bytes_again(checkpoint, unets, quantization, tmp_path):
    request, _ = unets("fp8")
    prepared = prepare_tensorrt(
        checkpoint, TensorrtOptions(quantization=quantization("fp8"), **SHORT)
    )
    parts = tuple(each for each in prepared.onnx.parts if each.role == "unet")
    export_onnx(replace(prepared.onnx, parts=parts), tmp_path, lambda what, share: None)
    again = replace(request, onnx=tmp_path / "unet" / "model.onnx")
    assert engine_key(again, "1.7") == engine_key(request, "1.7")


def test_digests(checkpoint, quantization):
    plain = TensorrtOptions(**SHORT)
    fp8 = replace(plain, quantization=quantization("fp8"))
    other = LayerRange(RANGE, TensorRange(-1.0, 1.0, 1.0, 1.0))
    ranged = dict.fromkeys(fp8.quantization.ranges, other)
    digests = [
        request_digest(checkpoint, each, None)
        for each in (
            plain,
            fp8,
            replace(plain, quantization=quantization("int8")),
            replace(fp8, quantization=replace(fp8.quantization, ranges=ranged)),
        )
    ]
    # What was asked for is known before the ranges are.
    digests += [request_digest(checkpoint, plain, None, each) for each in ("12" * 32, "34" * 32)]
    assert len(set(digests)) == len(digests)
    assert request_digest(checkpoint, fp8, None, "12" * 32) == digests[-2]


@pytest.mark.parametrize(
    ("name", "gpu", "complaint"),
    [
        (
            "fp8",
            "3090",
            r"^The format fp8 computes in float8, which GPUs have from sm_89 on; sm_86 \(.*\) has "
            r".* int4; choose a newer GPU, or quantize to int8 or int8-static\.$",
        ),
        ("int4", "T4", r"^The format int4 computes in int4, which GPUs have from sm_80 on; "),
    ],
)
def test_gpus_are_refused_before_the_export(checkpoint, quantization, name, gpu, complaint):
    options = TensorrtOptions(gpus=("4090", gpu), quantization=quantization(name), **SHORT)
    with pytest.raises(OptionError, match=complaint):
        prepare_tensorrt(checkpoint, options)


@pytest.mark.parametrize("name", [each for each in PRESETS if each not in (*BUILT, "float")])
def test_formats_that_engines_lack(quantization, name):
    with pytest.raises(RecipeError, match=f"(ONNX|TensorRT).* no {name}; choose "):
        TensorrtOptions(quantization=quantization(name))


def test_unsigned_activations(quantization):
    with pytest.raises(OptionError, match="takes symmetric activations only"):
        TensorrtOptions(quantization=replace(quantization("fp8"), activations="unsigned"))


@pytest.mark.parametrize("precision", ["fp8", "int8", "int4"])
def test_precisions_that_are_formats(precision):
    message = rf"not {precision} but fp16, bf16 or fp32; choose --quantize {precision}"
    with pytest.raises(OptionError, match=message):
        TensorrtOptions(precision=precision)


def test_a_layer_without_a_range(checkpoint, quantization):
    fp8 = quantization("fp8")
    ranges = {name: each for name, each in fp8.ranges.items() if not name.startswith("up_blocks")}
    options = TensorrtOptions(quantization=replace(fp8, ranges=ranges), **SHORT)
    with pytest.raises(CalibrationError, match="says nothing about the activations of up_blocks"):
        prepare_tensorrt(checkpoint, options)


def test_a_recipe_of_another_model(checkpoint):
    recipe = Recipe({"unet": LayerFormats("int8", {"no.such.weight": "float"})})
    options = TensorrtOptions(quantization=Quantization("r", recipe, None, "signed"), **SHORT)
    with pytest.raises(RecipeError, match="which no weight of the unet is called"):
        prepare_tensorrt(checkpoint, options)


@pytest.mark.parametrize("operator", ["QuantizeLinear", "DynamicQuantizeLinear"])
def test_unsigned_activations_of_a_bundle(graphs, tmp_path, operator):
    """What `kdexport onnx --quantize` makes for CPUs and phones."""
    port = (TensorProto.FLOAT, ("batch", 4))
    if operator == "QuantizeLinear":
        nodes = [helper.make_node(operator, ["x", "scale", "zero"], ["q"], name="layer/Q")]
    else:
        nodes = [helper.make_node(operator, ["x"], ["q", "scale", "zero"], name="layer/Q")]
    nodes.append(helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]))
    weights = [
        numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
        numpy_helper.from_array(np.array(128, np.uint8), "zero"),
    ]
    constants = weights if operator == "QuantizeLinear" else []
    path = graphs.save(tmp_path / "model.onnx", nodes, {"x": port}, {"y": port}, constants)
    assert read_graph(path).unsigned == "layer/Q"
    message = r"quantizes activations to unsigned integers \('layer/Q'\), .* `kdexport tensorrt"
    with pytest.raises(ExportError, match=message):
        check_request(graphs.request(path))


def test_other_bundles_quantize_nothing(micro_bundle):
    for component in load_manifest(micro_bundle).components:
        assert component.compression is None
        assert read_graph(micro_bundle / component.file).unsigned is None
