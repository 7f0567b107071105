"""OpenVINO behind the runner interface, on hand-made graphs."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from kdexport.core.compare import compare
from kdexport.core.errors import BundleError, DependencyError, OptionError, ProviderError, RunError
from kdexport.core.manifest import TensorSpec
from kdexport.runtimes import openvino_cache
from kdexport.runtimes.openvino import MOST_SHAPES, OpenvinoRunner
from kdexport.runtimes.openvino_devices import Device, openvino_core
from kdexport.runtimes.openvino_errors import cause, unknown_operators
from kdexport.runtimes.ort import OrtRunner
from kdexport.runtimes.pipeline import Pipeline
from kdexport.runtimes.registry import Engine
from kdexport.runtimes.request import Request
from onnx import TensorProto, helper, numpy_helper

openvino = pytest.importorskip("openvino")

has_bfloat16 = pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this CPU does not compute in bfloat16",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of compiled models, empty."""
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture
def model(three_outputs):
    return three_outputs


def array(width=3, rows=1):
    return np.arange(rows * 2 * width, dtype=np.float32).reshape(rows, 2, width)


def compiled(runner):
    """The compiled models of a runner, the latest used last."""
    return [each.get_compiled_model() for each in runner._requests.values()]


def save(path, nodes, initializers, inputs, outputs, opset=21, others=()):
    """Saves a graph that may hold what `save_graph` has no types for."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    opsets = [helper.make_opsetid(name, n) for name, n in (("", opset), *others)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    )
    return path


def port(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_describes_as_onnx_runtime_does(bundles, family):
    bundle = bundles(family)
    for component in bundle.manifest.components:
        file = bundle.folder / component.file
        with OpenvinoRunner(file) as ours, OrtRunner(file) as theirs:
            assert ours.describe() == theirs.describe()
            assert ours.describe().inputs == component.inputs


def test_runs(model):
    with OpenvinoRunner(model) as runner:
        results = runner.run({"x": array()}, ["square"])
        assert list(results) == ["square"]
        np.testing.assert_array_equal(results["square"], array() ** 2)
    with pytest.raises(RunError, match="is not open"):
        runner.run({"x": array()})
    # Another time, from the same runner.
    with runner:
        np.testing.assert_array_equal(runner.run({"x": array()})["same"], array())


def test_results_share_no_memory_with_the_feed_or_one_another(model):
    x = array()
    with OpenvinoRunner(model) as runner:
        first = runner.run({"x": x})
        kept = {name: value.copy() for name, value in first.items()}
        second = runner.run({"x": x * 7})
        np.testing.assert_array_equal(second["same"], x * 7)
        x[:] = -1
        arrays = [x, *first.values(), *second.values()]
        for index, one in enumerate(arrays):
            assert not any(np.shares_memory(one, other) for other in arrays[index + 1 :])
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)


def test_arrays_in_any_order(model):
    with OpenvinoRunner(model) as runner:
        strided = np.ascontiguousarray(array(4, 3).T).T[::2, :, 1:]
        assert not strided.flags.c_contiguous
        np.testing.assert_array_equal(runner.run({"x": strided})["same"], strided)


def test_types_and_scalars(tmp_path):
    kinds = {"float16": TensorProto.FLOAT16, "int64": TensorProto.INT64, "float32": 1}
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node("Add", [name, name], [f"{name}.twice"]) for name in kinds],
        [],
        [port(name, [], dtype) for name, dtype in kinds.items()],
        [port(f"{name}.twice", [], dtype) for name, dtype in kinds.items()],
    )
    with OpenvinoRunner(path) as runner:
        results = runner.run({name: np.array(3, name) for name in kinds})
    assert {name: (value.dtype.name, value.shape) for name, value in results.items()} == {
        f"{name}.twice": (name, ()) for name in kinds
    }
    assert {float(value) for value in results.values()} == {6.0}


def test_unnamed_dimensions_agree_with_none(tiny_bundle, tmp_path):
    path = tiny_bundle.save_graph(
        tmp_path / "m.onnx",
        [helper.make_node("Concat", ["a", "b"], ["c"], axis=0)],
        [TensorSpec("a", "float32", (None,)), TensorSpec("b", "float32", (None,))],
        [TensorSpec("c", "float32", (None,))],
        {},
    )
    with OpenvinoRunner(path) as runner:
        assert runner.describe().inputs[0].shape == ("a.0",)
        result = runner.run({"a": np.zeros(2, np.float32), "b": np.ones(3, np.float32)})
    assert result["c"].tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(("dtype", "number"), [(TensorProto.STRING, 8), (TensorProto.BFLOAT16, 16)])
def test_types_that_numpy_lacks_are_refused(tmp_path, dtype, number):
    node = helper.make_node("Identity", ["a"], ["b"])
    path = save(tmp_path / "m.onnx", [node], [], [port("a", [1], dtype)], [port("b", [1], dtype)])
    runner = OpenvinoRunner(path)
    with pytest.raises(RunError, match=rf"'a' of .* not supported \(number {number} of ONNX\)"):
        runner.open()
    assert not runner.is_open


def test_a_broken_model_is_named(tmp_path, capfd):
    path = tmp_path / "broken.onnx"
    for content in (b"not a model", b"", b"\x3a\xff"):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"broken.onnx' is no ONNX model"):
            OpenvinoRunner(path).open()
    with pytest.raises(RunError, match=r"none.onnx' cannot be read \(No such file"):
        OpenvinoRunner(tmp_path / "none.onnx").open()
    # OpenVINO would have tried TensorFlow's format, aloud.
    assert capfd.readouterr().err == ""


def test_a_failing_run_is_named_with_its_cause(model):
    with OpenvinoRunner(model) as runner:
        with pytest.raises(RunError, match=r"cannot compile .* for x \(1, 2, 5\)") as info:
            runner.run({"x": array(width=5)})
        assert info.value.__cause__ is not None
        runner.run({"x": array()})


@pytest.mark.parametrize(
    ("provider", "device"),
    [
        ("cpu", Device("CPU", "fp32")),
        ("cpu-bf16", Device("CPU", "bf16")),
        ("gpu", Device("GPU", "fp16")),
        ("gpu.1-fp32", Device("GPU.1", "fp32")),
        ("npu", Device("NPU", "fp16")),
        ("cpu-mixed", Device("CPU", "mixed")),
    ],
)
def test_providers(provider, device):
    assert Device.of(provider) == device
    assert Device.of(device.provider) == device


@pytest.mark.parametrize(
    ("provider", "role", "precision"),
    [
        ("cpu-mixed", "unet", "fp32"),
        ("cpu-mixed", "controlnet", "fp32"),
        ("cpu-mixed", "vae_decoder", "bf16"),
        ("gpu.1-mixed", "text_encoder", "fp16"),
        ("cpu-bf16", "unet", "bf16"),
        ("cpu", "vae_decoder", "fp32"),
    ],
)
def test_precisions_of_components(provider, role, precision):
    device = Device.of(provider)
    assert device.of_role(role) == Device(device.name, precision)


def test_a_mixture_is_of_a_whole_bundle(model):
    with pytest.raises(OptionError, match="'cpu-mixed' is for a whole bundle"):
        OpenvinoRunner(model, "cpu-mixed")


def test_a_device_that_is_not_there(model):
    with pytest.raises(ProviderError, match=r"no device 'npu.7' here, only .*cpu.*; choose one"):
        OpenvinoRunner(model, "npu.7")
    # It would choose another one than it says.
    with pytest.raises(ProviderError, match="no device 'auto'"):
        OpenvinoRunner(model, "auto")
    with pytest.raises(OptionError, match=r"no precision 'int8'; choose .* or mixed, such"):
        OpenvinoRunner(model, "cpu-int8")


def stand_in(capabilities, properties=()):
    """A core with a GPU."""

    def get_property(device, name):
        assert device == "GPU"
        found = {"OPTIMIZATION_CAPABILITIES": capabilities, "SUPPORTED_PROPERTIES": properties}
        return found[name]

    return SimpleNamespace(available_devices=["CPU", "GPU"], get_property=get_property)


def test_a_precision_that_a_device_lacks():
    core = stand_in(["FP32", "INT8", "FP16"])
    Device.of("gpu").require(core)
    Device.of("gpu-fp32").require(core)
    with pytest.raises(ProviderError, match="not compute in bf16, only in fp32, fp16; choose"):
        Device.of("gpu-bf16").require(core)


def test_settings_are_those_that_a_device_has():
    hints = {"INFERENCE_PRECISION_HINT": "f16", "PERFORMANCE_HINT": "LATENCY"}
    device = Device.of("gpu")
    assert device.settings(stand_in([]), None) == hints
    known = {"NUM_STREAMS": "RW"}
    assert device.settings(stand_in([], known), None) == hints | {"NUM_STREAMS": 1}


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_threads(model, threads):
    with OpenvinoRunner.create(model, "cpu", threads) as runner:
        np.testing.assert_array_equal(runner.run({"x": array()})["same"], array())
        (found,) = compiled(runner)
        if threads:
            assert found.get_property("INFERENCE_NUM_THREADS") == threads
        assert found.get_property("NUM_STREAMS") == 1
        assert found.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


def test_threads_that_are_none(model):
    with pytest.raises(OptionError, match="at least 1, not 0"):
        OpenvinoRunner(model, threads=0)
    with pytest.raises(OptionError, match="'gpu' is no CPU; leave the number"):
        OpenvinoRunner(model, "gpu", 2)


def test_without_openvino_the_extra_is_named(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    openvino_core.cache_clear()
    with pytest.raises(DependencyError, match=r"pip install kdexport\[openvino\]"):
        OpenvinoRunner(model)


def test_operators_that_it_lacks_are_named(tmp_path):
    nodes = [
        helper.make_node("NhwcMaxPool", ["a"], ["b"], domain="com.microsoft"),
        helper.make_node("Det", ["b"], ["c"]),
    ]
    path = save(
        tmp_path / "m.onnx",
        nodes,
        [],
        [port("a", [2, 3])],
        [port("c", [])],
        others=[("com.microsoft", 1)],
    )
    with pytest.raises(
        BundleError,
        match=r"read Det, com.microsoft.NhwcMaxPool of .*m.onnx' .*; choose the runtime 'onnxrun",
    ):
        OpenvinoRunner(path).open()


def test_attention_in_slices_is_named(tmp_path):
    """Scan, whose body sees values around it, as `--attention sliced` writes it."""
    body = helper.make_graph(
        [helper.make_node("MatMul", ["slice", "keys"], ["product"])],
        "body",
        [port("slice", [2, 3])],
        [port("product", [2, 3])],
    )
    nodes = [
        helper.make_node("Mul", ["k", "k"], ["keys"]),
        helper.make_node("Scan", ["slices"], ["products"], body=body, num_scan_inputs=1),
    ]
    ports = [port("slices", ["n", 2, 3]), port("k", [3, 3])]
    path = save(tmp_path / "m.onnx", nodes, [], ports, [port("products", ["n", 2, 3])])
    with pytest.raises(BundleError, match=r"does not read Scan of .*; export with --atten"):
        OpenvinoRunner(path).open()


def test_what_it_says():
    # As 2026.0 says it, which lacks both.
    text = (
        "Exception from src/inference/src/cpp/core.cpp:93:\nCheck 'false' failed at a.cpp:387:\n"
        "FrontEnd API failed with GeneralFailure:\nOpenVINO does not support the following ONNX "
        "operations: com.microsoft.MultiHeadAttention, Attention\n\n\n"
    )
    assert unknown_operators(text) == ["Attention", "com.microsoft.MultiHeadAttention"]
    assert cause(RuntimeError(text)).startswith("OpenVINO does not support")
    assert cause(RuntimeError("Exception from a.cpp:1:\n")) == "Exception from a.cpp:1"
    assert cause(RuntimeError()) == "RuntimeError"


def test_compiles_for_the_shapes_that_it_is_fed(model):
    with OpenvinoRunner(model) as runner:
        assert not compiled(runner)
        for rows in (1, 2, 1, 3, 1):
            result = runner.run({"x": array(rows=rows)})["square"]
            np.testing.assert_array_equal(result, array(rows=rows) ** 2)
        found = compiled(runner)
        assert len(found) == MOST_SHAPES
        # The latest used are kept.
        assert [list(each.input("x").shape) for each in found] == [[3, 2, 3], [1, 2, 3]]
        first = runner._requests[((1, 2, 3),)]
        runner.run({"x": array()})
        assert runner._requests[((1, 2, 3),)] is first
    assert not compiled(runner)


def test_a_second_program_finds_what_was_compiled(model, cache):
    def loaded():
        with OpenvinoRunner(model) as runner:
            np.testing.assert_array_equal(runner.run({"x": array()})["square"], array() ** 2)
            return compiled(runner)[0].get_property("LOADED_FROM_CACHE")

    assert [loaded(), loaded()] == [False, True]
    (blob,) = cache.glob("*/*.blob")
    # What an interrupted program leaves.
    blob.chmod(0o644)
    os.truncate(blob, blob.stat().st_size // 2)
    assert [loaded(), loaded()] == [False, True]


def test_another_model_of_the_same_name_finds_nothing(sd, tmp_path, cache):
    """Weights of the same size, and the time of the files as it was."""
    file = tmp_path / "b" / "vae_decoder" / "model.onnx"
    file.parent.mkdir(parents=True)
    original = (sd.folder / "vae_decoder" / "model.onnx").read_bytes()
    proto = onnx.load_from_string(original)
    (weight,) = (each for each in proto.graph.initializer if each.name == "decode")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 2, "decode"))
    latents = np.ones((1, 4, 8, 8), np.float32)
    results = []
    for content in (original, proto.SerializeToString(), original):
        file.write_bytes(content)
        os.utime(file, (1, 1))
        with OpenvinoRunner(file) as runner, OrtRunner(file) as theirs:
            results.append(runner.run({"latent_sample": latents})["sample"])
            expected = theirs.run({"latent_sample": latents})["sample"]
            np.testing.assert_allclose(results[-1], expected, atol=1e-5)
    assert len({len(content) for content in (original, proto.SerializeToString())}) == 1
    assert not np.allclose(results[0], results[1], atol=1e-2)
    assert len(list(cache.iterdir())) == 2


@has_bfloat16
def test_precisions_do_not_share_what_was_compiled(model, cache):
    for provider in ("cpu-bf16", "cpu"):
        with OpenvinoRunner(model, provider) as runner:
            runner.run({"x": array()})
            assert not compiled(runner)[0].get_property("LOADED_FROM_CACHE")
    assert len(list(cache.glob("*/*.blob"))) == 2


def test_the_cache_stays_small(model, cache):
    with OpenvinoRunner(model) as runner:
        for rows in range(1, openvino_cache.MOST_KEPT + 3):
            runner.run({"x": array(rows=rows)})
    assert len(list(cache.glob("*/*.blob"))) == openvino_cache.MOST_KEPT


def test_large_models_are_not_kept_on_the_cpu(model, cache, monkeypatch):
    monkeypatch.setattr(openvino_cache, "_LARGEST_ON_CPU", model.stat().st_size - 1)
    with OpenvinoRunner(model) as runner:
        runner.run({"x": array()})
    assert not cache.exists()
    with openvino_cache.compiled_cache(model, "f16", "GPU.1") as settings:
        assert settings["CACHE_DIR"].startswith(str(cache))


def test_nothing_is_kept_where_there_is_no_room(model, cache, monkeypatch):
    full = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=10))
    monkeypatch.setattr(openvino_cache, "shutil", full)
    with OpenvinoRunner(model) as runner:
        runner.run({"x": array()})
    assert not list(cache.glob("*/*"))
    cache.with_name("file").write_text("no folder")
    monkeypatch.setenv("KDEXPORT_CACHE", str(cache.with_name("file")))
    with OpenvinoRunner(model) as runner:
        runner.run({"x": array()})


def integers(random, *shape):
    return random.integers(-127, 128, shape, dtype=np.int8)


def test_weights_of_eight_bits_are_weights_only(tmp_path):
    """Its own choice is to round the inputs of such linear layers too."""
    random = np.random.default_rng(3)
    codes, scales = integers(random, 128, 96), random.random(96).astype(np.float32) / 100
    path = save(
        tmp_path / "m.onnx",
        [
            helper.make_node("DequantizeLinear", ["codes", "scales"], ["w"], axis=1),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ],
        [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(scales, "scales")],
        [port("x", ["rows", 128])],
        [port("y", ["rows", 96])],
    )
    x = random.standard_normal((40, 128)).astype(np.float32)
    with OpenvinoRunner(path) as runner:
        result = runner.run({"x": x})["y"]
    assert compare(result, x @ (codes * scales)).relative_l2 < 1e-6


def test_static_ranges_round_as_the_file_says(tmp_path):
    """A quantized linear layer and convolution, against NumPy's integers."""
    random = np.random.default_rng(5)
    codes = integers(random, 16, 8, 1, 1)
    scales = ((1 + random.random(16)) / 500).astype(np.float32)
    step, zero = np.float32(0.03), np.uint8(120)
    constants = {"codes": codes, "scales": scales, "step": step, "zero": zero}
    path = save(
        tmp_path / "m.onnx",
        [
            helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["rounded"]),
            helper.make_node("DequantizeLinear", ["codes", "scales"], ["w"], axis=0),
            helper.make_node("Conv", ["rounded", "w"], ["y"]),
        ],
        [numpy_helper.from_array(np.array(each), name) for name, each in constants.items()],
        [port("x", ["rows", 8, "height", "width"])],
        [port("y", ["rows", 16, "height", "width"])],
    )
    x = random.standard_normal((2, 8, 6, 5)).astype(np.float32) * 2
    rounded = np.clip(np.rint(x / step) + zero, 0, 255) - np.float64(zero)
    weights = codes[:, :, 0, 0] * scales[:, None].astype(np.float64)
    expected = np.einsum("oc,nchw->nohw", weights, rounded * step)
    with OpenvinoRunner(path) as runner:
        result = runner.run({"x": x})["y"]
    # Only what lies on the edge between two integers may fall to either.
    assert compare(result, expected).psnr_db > 60


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_draws_what_onnx_runtime_draws(bundles, family):
    bundle, drawn = bundles(family), []
    for runtime in ("openvino", "onnxruntime"):
        with Pipeline.load(bundle.folder, runtime=runtime, threads=1) as pipeline:
            *_, last = pipeline.generate(Request("a cat", steps=4, seed=3, guidance=5.0))
            drawn.append((last.latents, np.asarray(pipeline.decode(last), int)))
    assert compare(drawn[0][0], drawn[1][0]).relative_l2 < 1e-5
    assert np.abs(drawn[0][1] - drawn[1][1]).max() <= 1


def test_a_bundle_in_half_precision(tiny_bundle, tmp_path):
    tiny_bundle.write_bundle(tiny_bundle.make_tiny("sd"), tmp_path / "b", dtype="float16")
    drawn = []
    for runtime in ("openvino", "onnxruntime"):
        with Pipeline.load(tmp_path / "b", runtime=runtime, threads=1) as pipeline:
            *_, last = pipeline.generate(Request("a cat", steps=4, seed=3, guidance=5.0))
            drawn.append(last.latents)
    assert compare(*drawn).psnr_db > 50


@has_bfloat16
def test_bfloat16_is_computed(sd):
    file = sd.folder / "vae_decoder" / "model.onnx"
    latents = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    with OpenvinoRunner(file, "cpu-bf16") as runner, OrtRunner(file) as theirs:
        result = runner.run({"latent_sample": latents})["sample"]
        expected = theirs.run({"latent_sample": latents})["sample"]
        (found,) = compiled(runner)
    assert found.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.bf16
    assert result.dtype == np.float32
    assert 1e-4 < compare(result, expected).relative_l2 < 2e-2


_INTERRUPTED = """
import os, signal, sys, threading
import numpy as np
from kdexport.runtimes.openvino import OpenvinoRunner
runner = OpenvinoRunner(sys.argv[1])
with runner:
    runner.run({"x": np.zeros((1, 2, 3), np.float32)})
box = [runner]
del runner
thread = threading.Thread(target=box.clear)
thread.start()
thread.join()
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are not raised there")
def test_ctrl_c_after_another_thread_freed_the_last_runner(model):
    command = [sys.executable, "-c", _INTERRUPTED, str(model)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_the_bundle_of_another_engine(sd):
    with pytest.raises(BundleError, match=r"for coreml, which the runtime 'openvino' does not"):
        Engine.choose(SimpleNamespace(backend="coreml", coreml=None), sd.folder, "openvino")
    assert Engine.choose(sd.manifest, sd.folder, "openvino", "cpu-bf16").computed_in == "bf16"
    assert Engine.choose(sd.manifest, sd.folder, "openvino").computed_in == "fp32"
    assert Engine.choose(sd.manifest, sd.folder).computed_in is None
    assert Engine.choose(sd.manifest, sd.folder).precision_of("unet") is None
    mixed = Engine.choose(sd.manifest, sd.folder, "openvino", "cpu-mixed")
    assert [mixed.precision_of(each) for each in ("unet", "vae_decoder")] == ["fp32", "bf16"]
