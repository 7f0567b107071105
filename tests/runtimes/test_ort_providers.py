"""ONNX Runtime's providers: their options, plugins, and what compiling ones are told."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from kdexport.core.errors import OptionError, ProviderError, RunError
from kdexport.core.manifest import EngineRecord, TensorSpec, load_manifest, save_manifest
from kdexport.runtimes import ort_libraries, ort_setup
from kdexport.runtimes.ort import OrtRunner
from kdexport.runtimes.ort_options import OrtOptions
from kdexport.runtimes.ort_providers import (
    COMPILING,
    DEVICES,
    PROVIDERS,
    Setup,
    provider_options,
    session_providers,
)
from kdexport.runtimes.ort_setup import component_ranges, make_setup, require_in_range
from kdexport.runtimes.pipeline import Pipeline
from onnx import helper

# Names that ONNX Runtime and NVIDIA document; a session with any other is refused.
DOCUMENTED = {
    "cuda": {
        *("device_id", "gpu_mem_limit", "arena_extend_strategy", "cudnn_conv_algo_search"),
        *("do_copy_in_default_stream", "cudnn_conv_use_max_workspace", "enable_cuda_graph"),
        *("use_tf32", "prefer_nhwc", "fuse_conv_bias", "sdpa_kernel", "tunable_op_enable"),
    },
    "tensorrt": {
        *("device_id", "trt_engine_cache_enable", "trt_engine_cache_path"),
        *("trt_timing_cache_enable", "trt_timing_cache_path", "trt_cuda_graph_enable"),
        *("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"),
        *("trt_builder_optimization_level", "trt_max_workspace_size"),
    },
    "nv_tensorrt_rtx": {
        *("device_id", "enable_cuda_graph", "nv_runtime_cache_path", "nv_max_workspace_size"),
        *("nv_profile_min_shapes", "nv_profile_opt_shapes", "nv_profile_max_shapes"),
    },
}
RANGES = {"sample": ((1, 4, 3), (2, 4, 6), (8, 4, 6)), "text": ((1, 77), (2, 77), (8, 77))}


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_options_are_text_under_documented_names(provider, graphs):
    options = provider_options(provider, Setup(graphs, RANGES, Path("e"), Path("t")))
    assert set(options) <= DOCUMENTED.get(provider, set())
    assert all(isinstance(value, str) for value in options.values())
    if provider in DEVICES:
        key = "trt_cuda_graph_enable" if provider == "tensorrt" else "enable_cuda_graph"
        assert options[key] == str(int(graphs))


def test_float32_is_float32_on_cuda():
    options = provider_options("cuda", Setup())
    assert options["use_tf32"] == "0"
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"


@pytest.mark.parametrize("provider", COMPILING)
def test_profiles(provider):
    options = provider_options(provider, Setup(ranges=RANGES))
    prefix = "trt" if provider == "tensorrt" else "nv"
    assert options[f"{prefix}_profile_min_shapes"] == "sample:1x4x3,text:1x77"
    assert options[f"{prefix}_profile_opt_shapes"] == "sample:2x4x6,text:2x77"
    assert options[f"{prefix}_profile_max_shapes"] == "sample:8x4x6,text:8x77"
    # Without dynamic inputs, or a cache, nothing is said of them.
    bare = provider_options(provider, Setup())
    assert not [name for name in bare if "profile" in name or "cache" in name]
    assert not [name for name in bare if "16" in name]  # TensorRT 11 has no precision flags


def test_cuda_takes_what_tensorrt_leaves():
    setup = Setup(cuda_graphs=True)
    everything = list(PROVIDERS.values())
    names = [name for name, _ in session_providers("tensorrt", setup, everything)]
    assert names == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    (_, first), (_, second) = session_providers("tensorrt", setup, everything)
    # One graph to a session.
    assert (first["trt_cuda_graph_enable"], second["enable_cuda_graph"]) == ("1", "0")
    assert len(session_providers("tensorrt", setup, [PROVIDERS["tensorrt"]])) == 1
    assert len(session_providers("cuda", setup, everything)) == 1
    assert session_providers("cpu", Setup(), everything) == [("CPUExecutionProvider", {})]


@pytest.mark.parametrize("provider", sorted(set(PROVIDERS) - set(DEVICES)))
def test_other_providers_have_no_cuda_graphs(provider):
    with pytest.raises(OptionError, match=f"'{provider}' has no CUDA graphs; choose cuda, tens"):
        OrtOptions(provider=provider, cuda_graphs=True)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_shapes_of_an_onnx_bundle(sd, guidance):
    manifest = replace(sd.manifest, defaults=replace(sd.manifest.defaults, guidance=guidance))
    # The default is 48×64 pixels, 6×8 latents; half of it, and up to four images.
    rows = 2 if guidance > 1 else 1
    unet = component_ranges(manifest, manifest.component("unet"))
    assert unet == {
        "sample": ((1, 4, 3, 4), (rows, 4, 6, 8), (4 * rows, 4, 6, 8)),
        "encoder_hidden_states": ((1, 77, 6), (rows, 77, 6), (4 * rows, 77, 6)),
    }
    decoder = component_ranges(manifest, manifest.component("vae_decoder"))
    assert decoder == {"latent_sample": ((1, 4, 3, 4), (1, 4, 6, 8), (4, 4, 6, 8))}


def test_sides_keep_to_the_multiple(sd):
    shapes = replace(sd.manifest.shapes, multiple=40, width=64)
    manifest = replace(sd.manifest, shapes=shapes)
    smallest, _, largest = component_ranges(manifest, manifest.component("unet"))["sample"]
    # Half of 48 is no multiple of 40, so the least that is; the width has one value.
    assert (smallest[2:], largest[2:]) == ((5, 8), (6, 8))


def test_shapes_of_a_tensorrt_bundle_are_those_of_its_engines(sd):
    profile = {
        "sample": ((2, 4, 4, 4), (2, 4, 8, 8), (2, 4, 16, 16)),
        "timestep": ((), (), ()),
        "encoder_hidden_states": ((2, 77, 6),) * 3,
    }
    engine = EngineRecord("unet", "unet.plan", "native", "sm_90", "11.4", "0" * 64, profile)
    manifest = replace(sd.manifest, engines=(engine,))
    ranges = component_ranges(manifest, manifest.component("unet"))
    assert ranges == {name: profile[name] for name in ("sample", "encoder_hidden_states")}
    assert component_ranges(manifest, manifest.component("vae_decoder")) == component_ranges(
        sd.manifest, manifest.component("vae_decoder")
    )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onnxruntime"


@pytest.fixture
def own(sd, tiny_bundle, tmp_path):
    """A bundle to change."""
    folder = tmp_path / "own"
    tiny_bundle.write_bundle(sd.tiny, folder)
    return folder


@pytest.mark.parametrize("provider", COMPILING)
def test_engines_of_a_model_have_a_folder_of_their_own(own, cache, provider):
    unet = own / "unet/model.onnx"
    setup = make_setup(provider, unet, False)
    assert setup.ranges["sample"][0] == (1, 4, 3, 4)
    assert setup.engines.is_dir()
    assert setup.engines.parent == cache / provider
    assert (setup.timings == cache / provider / "timings") == (provider == "tensorrt")
    assert make_setup(provider, unet, True).engines == setup.engines
    folders = {setup.engines, make_setup(provider, own / "vae_decoder/model.onnx", False).engines}
    # Other weights of the same architecture, as the manifest has them; other shapes.
    manifest = load_manifest(own)
    files = tuple(
        replace(each, sha256="1" * 64) if each.path == "unet/model.onnx" else each
        for each in manifest.files
    )
    save_manifest(replace(manifest, files=files), own)
    folders.add(make_setup(provider, unet, False).engines)
    save_manifest(replace(manifest, shapes=replace(manifest.shapes, height=48)), own)
    folders.add(make_setup(provider, unet, False).engines)
    assert len(folders) == 4


def test_a_model_without_a_bundle(own, cache):
    (own / "manifest.json").unlink()
    unet = own / "unet/model.onnx"
    first = make_setup("tensorrt", unet, False)
    assert first.ranges == {}
    weights = unet.with_name("model.onnx.data")
    weights.write_bytes(b"weights")
    second = make_setup("tensorrt", unet, False)
    weights.write_bytes(b"WEIGHTS")
    third = make_setup("tensorrt", unet, False)
    assert len({first.engines, second.engines, third.engines}) == 3


@pytest.mark.parametrize("provider", sorted(set(PROVIDERS) - set(COMPILING)))
def test_other_providers_need_no_folder(own, cache, provider):
    assert make_setup(provider, own / "unet/model.onnx", False) == Setup()
    assert not cache.exists()


def save_fused(path):
    """A model with an operator of ONNX Runtime's own."""
    shape = [1, 4]
    graph = helper.make_graph(
        [helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft")],
        "fused",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, shape)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("provider", COMPILING)
def test_own_operators_are_refused(tmp_path, cache, provider):
    path = save_fused(tmp_path / "fused.onnx")
    with pytest.raises(RunError, match=rf"'{provider}' lacks operators of .*--attention portable"):
        make_setup(provider, path, False)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((1, 4, 3), True),
        ((8, 4, 6), True),
        ((2, 4, 5), True),
        ((9, 4, 6), False),
        ((2, 4, 2), False),
        ((2, 4, 7), False),
    ],
)
def test_ranges(shape, fits):
    feed = {"sample": np.zeros(shape), "text": np.zeros((2, 77)), "timestep": np.zeros(())}
    if fits:
        require_in_range(feed, RANGES, Path("unet.onnx"), "tensorrt")
        return
    with pytest.raises(RunError, match=r"'tensorrt' runs 'unet.onnx' with 'sample' from \(1, 4"):
        require_in_range(feed, RANGES, Path("unet.onnx"), "tensorrt")


def test_a_compiling_provider_draws_within_its_shapes(sd, cache, monkeypatch):
    # What holds for TensorRT, held by the CPU.
    monkeypatch.setattr(ort_setup, "COMPILING", ("cpu",))
    with Pipeline.load(sd.folder, check=False) as pipeline:
        assert pipeline("a vase", steps=1, seed=0).size == (64, 48)
        assert pipeline("a vase", steps=1, seed=0, height=24, width=32).size == (32, 24)
        with pytest.raises(RunError, match="draw fewer images or another size, choose the prov"):
            pipeline("a vase", steps=1, seed=0, height=56)
    assert len(list(cache.glob("cpu/*"))) == 3


def test_a_plugin_is_found_by_its_devices(sd, monkeypatch):
    """ONNX Runtime lists its own CPU among the devices, which plugins are found by."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", list)
    runner = OrtRunner(sd.folder / "vae_decoder/model.onnx")
    assert [each.ep_name for each in runner._devices] == ["CPUExecutionProvider"]
    latents = {"latent_sample": np.ones((1, 4, 2, 2), np.float32)}
    with runner:
        assert runner._session.get_providers() == ["CPUExecutionProvider"]
        result = runner.run(latents)["sample"]
    monkeypatch.undo()
    with OrtRunner(sd.folder / "vae_decoder/model.onnx") as usual:
        np.testing.assert_array_equal(usual.run(latents)["sample"], result)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("def get_library_path(): return 'nowhere.so'", "nowhere.so"),
        ("import _ctypes\ndef get_library_path(): return _ctypes.__file__", "CreateEpFactories"),
        ("raise OSError('no such driver')", "no such driver"),
        ("", "get_library_path"),
    ],
)
def test_a_plugin_that_cannot_be_loaded(sd, tmp_path, monkeypatch, code, cause):
    package = ort_libraries.PLUGINS["nv_tensorrt_rtx"]
    (tmp_path / f"{package}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(ProviderError, match=f"cannot load the provider .*'{package}'") as info:
        OrtRunner(sd.folder / "unet/model.onnx", OrtOptions("nv_tensorrt_rtx"))
    assert cause in str(info.value)
    assert info.value.__cause__ is not None
    sys.modules.pop(package, None)


def test_bfloat16_runs_on_the_cpu(tiny_bundle, tmp_path):
    """ONNX Runtime has no bfloat16 kernel for this; see `test_widened.py` for the rest."""
    specs = [TensorSpec("x", "float32", ("batch", 3))], [TensorSpec("y", "float32", ("batch", 3))]
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=16),
        helper.make_node("Mul", ["narrow", "weight"], ["product"]),
        helper.make_node("Tanh", ["product"], ["wave"]),
        helper.make_node("Cast", ["wave"], ["y"], to=1),
    ]
    path = tiny_bundle.save_graph(tmp_path / "m.onnx", nodes, *specs, {"weight": bfloat16(1.5)})
    x = np.array([[0.1, 0.7, -2.0]], np.float32)
    with OrtRunner(path) as runner:
        assert runner.describe().inputs == tuple(specs[0])
        result = runner.run({"x": x})["y"]
    np.testing.assert_allclose(result, np.tanh(1.5 * x), atol=0.02)
    # Rounded to bfloat16: the lower half of each float32 is empty.
    assert not (result.view(np.uint32) & 0xFFFF).any()


def bfloat16(value):
    import ml_dtypes

    return np.array(value, ml_dtypes.bfloat16)
