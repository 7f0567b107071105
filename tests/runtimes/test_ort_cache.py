"""Models as ONNX Runtime lays them out, kept on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import onnx
import pytest
from kdexport.core import folder as core_folder
from kdexport.core.errors import RunError
from kdexport.runtimes import ort_cache, ort_cpu
from kdexport.runtimes.ort import OrtRunner
from kdexport.runtimes.ort_options import OrtOptions
from kdexport.runtimes.pipeline import Pipeline
from kdexport.runtimes.request import Request
from onnx import TensorProto, helper, numpy_helper

KEPT = OrtOptions(cached=True, threads=1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of what is kept, empty; nothing is too small for it."""
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ort_cache, "SMALLEST", 0)
    return tmp_path / "cache" / "onnxruntime" / "cpu"


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def save(path, nodes, weights, scale=1.0):
    """A graph from `x` `(rows, 16, 4, 4)` to `y`, its weights in a file beside it."""
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    tensors.append(numpy_helper.from_array(np.float32(scale), "scale"))
    graph = helper.make_graph(
        [*nodes, helper.make_node("Mul", ["z", "scale"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 16, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.with_name(f"{path.name}.data")
    # onnx would append to it.
    data.unlink(missing_ok=True)
    onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=100)
    return path


def layers():
    """A convolution, which is rearranged, and a linear layer, which is packed."""
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MatMul", ["r", "matrix"], ["z"]),
    ]
    return nodes, {"kernel": draw(16, 16, 3, 3), "matrix": draw(4, 300)}


def bfloat16():
    nodes = [
        helper.make_node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", ["b", "matrix"], ["p"]),
        helper.make_node("Cast", ["p"], ["z"], to=TensorProto.FLOAT),
    ]
    return nodes, {"matrix": draw(4, 300).astype(ml_dtypes.bfloat16)}


def integers():
    codes = np.arange(4 * 300, dtype=np.int64).reshape(4, 300).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scales", "zeros"], ["matrix"], axis=1),
        helper.make_node("MatMul", ["x", "matrix"], ["z"]),
    ]
    scales = np.abs(draw(300)) / 100
    return nodes, {"codes": codes, "scales": scales, "zeros": np.zeros(300, np.int8)}


def body():
    """A product in the body of a Scan, with a weight from around it."""
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["slice", "matrix"], ["product"])],
        "body",
        [helper.make_tensor_value_info("slice", TensorProto.FLOAT, [16, 4, 4])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, [16, 4, 300])],
    )
    return [helper.make_node("Scan", ["x"], ["z"], body=inner, num_scan_inputs=1)], {
        "matrix": draw(4, 300)
    }


@pytest.fixture
def model(tmp_path):
    return save(tmp_path / "model.onnx", *layers())


X = draw(2, 16, 4, 4)


def run(model, options=KEPT):
    """What a model gives, and whether it came from what is kept."""
    with OrtRunner(model, options) as runner:
        started = os.fspath(runner._session._model_path or "")
        return runner.run({"x": X})["y"], "onnxruntime" in started


def entries(cache):
    return sorted(each.name for each in cache.iterdir()) if cache.is_dir() else []


def refuse(*arguments, **options):
    raise AssertionError("nothing was to be made")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("graph", [layers, bfloat16, integers, body])
def test_a_second_start_gives_the_same_bits(
    tmp_path, cache, monkeypatch, graph, threads, low_memory
):
    model = save(tmp_path / "model.onnx", *graph())
    expected, kept = run(model, OrtOptions(low_memory=low_memory))
    assert not kept
    assert not cache.exists()
    options = OrtOptions(cached=True, threads=threads, low_memory=low_memory)
    first, kept = run(model, options)
    assert kept
    assert len(entries(cache)) == 1
    monkeypatch.setattr(ort_cache, "whole_folder", refuse)
    # What one number of threads has packed, another runs.
    second, kept = run(model, OrtOptions(cached=True, low_memory=low_memory))
    assert kept
    for result in (first, second):
        np.testing.assert_array_equal(result, expected)


def test_weights_are_kept_as_they_are_packed(model, cache):
    run(model)
    (folder,) = cache.iterdir()
    kept = onnx.load(folder / "model.onnx", load_external_data=False)
    assert (folder / "model.onnx.data").is_file()
    keys = {
        entry.key
        for tensor in kept.graph.initializer
        for entry in tensor.external_data
        if entry.key.startswith("prepacked")
    }
    assert keys


def test_another_model_of_the_same_name_finds_nothing(tmp_path, cache):
    """Weights of the same size, and the time of the files as it was."""
    results = []
    for scale in (1.0, 2.0, 1.0):
        model = save(tmp_path / "model.onnx", *layers(), scale)
        for file in (model, model.with_name("model.onnx.data")):
            os.utime(file, (1, 1))
        results.append(run(model)[0])
    np.testing.assert_array_equal(results[1], results[0] * 2)
    np.testing.assert_array_equal(results[2], results[0])
    assert len(entries(cache)) == 2
    # Now in the file beside it.
    nodes, weights = layers()
    run(save(tmp_path / "model.onnx", nodes, weights | {"matrix": draw(4, 300) + 1}))
    assert len(entries(cache)) == 3


def test_another_processor_finds_nothing(model, cache, monkeypatch):
    run(model)
    monkeypatch.setattr(ort_cache, "processor", lambda: "another")
    run(model)
    assert len(entries(cache)) == 2
    monkeypatch.setattr(ort_cache, "processor", lambda: None)
    assert run(model)[1] is False


def test_another_version_finds_nothing(model, cache, monkeypatch):
    run(model)
    other = SimpleNamespace(__version__="0.0", get_build_info=lambda: "")
    monkeypatch.setattr(ort_cache, "onnxruntime_package", lambda: other)
    run(model)
    assert len(entries(cache)) == 2


def test_other_options_find_nothing(tmp_path, cache):
    model = save(tmp_path / "model.onnx", *integers())
    for low_memory in (False, True, False):
        run(model, OrtOptions(cached=True, low_memory=low_memory))
    assert len(entries(cache)) == 2


def truncated(folder):
    data = folder / "model.onnx.data"
    os.truncate(data, data.stat().st_size - 1)


def without_data(folder):
    (folder / "model.onnx.data").unlink()


def garbled(folder):
    (folder / "model.onnx").write_bytes(b"not a model")


def emptied(folder):
    for each in folder.iterdir():
        each.unlink()


@pytest.mark.parametrize("damage", [truncated, without_data, garbled, emptied])
def test_what_is_damaged_is_made_anew(model, cache, damage):
    expected, _ = run(model)
    (folder,) = cache.iterdir()
    sizes = {each.name: each.stat().st_size for each in folder.iterdir()}
    damage(folder)
    result, kept = run(model)
    assert kept
    np.testing.assert_array_equal(result, expected)
    assert entries(cache) == [folder.name]
    assert {each.name: each.stat().st_size for each in folder.iterdir()} == sizes


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError, RuntimeError])
def test_an_interrupted_start_leaves_nothing(model, cache, monkeypatch, error):
    session = ort_cpu._session

    def broken(source, settings):
        made = session(source, settings)
        if settings.optimized_model_filepath:
            raise error
        return made

    with monkeypatch.context() as patch:
        patch.setattr(ort_cpu, "_session", broken)
        if error is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                run(model)
        else:
            assert run(model)[1] is False
    assert entries(cache) == []
    assert run(model)[1] is True


def test_nothing_is_kept_where_there_is_no_room(model, cache, monkeypatch):
    full = SimpleNamespace(free=10)
    monkeypatch.setattr(core_folder.shutil, "disk_usage", lambda _: full)
    assert run(model)[1] is False
    assert entries(cache) == []


FRESH = """
import sys
from pathlib import Path
import numpy as np
from kdexport.runtimes import ort_cache
from kdexport.runtimes.ort import OrtRunner
from kdexport.runtimes.ort_options import OrtOptions
ort_cache.SMALLEST = 0
{before}
with OrtRunner(Path(sys.argv[1]), OrtOptions(cached=True, threads=1)) as runner:
    result = runner.run({{"x": np.load(sys.argv[2])}})["y"]
print(result.tobytes().hex()[-64:])
"""


def fresh(model, tmp_path, before=""):
    """Another program that runs the model."""
    np.save(tmp_path / "x.npy", X)
    code = FRESH.format(before=before)
    arguments = [sys.executable, "-c", code, str(model), str(tmp_path / "x.npy")]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of the size of files there")
def test_a_disk_that_fills_up(model, cache, tmp_path):
    """ONNX Runtime cannot write all of its file, as no file may be larger than that."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))"
    program = fresh(model, tmp_path, limit)
    said, _ = program.communicate()
    assert program.returncode == 0
    assert said.strip() == run(model, OrtOptions(threads=1))[0].tobytes().hex()[-64:]
    assert entries(cache) == []


def test_two_programs_at_once(model, cache, tmp_path):
    programs = [fresh(model, tmp_path) for _ in range(3)]
    said = {program.communicate()[0] for program in programs}
    assert [program.returncode for program in programs] == [0] * 3
    assert len(said) == 1
    assert len(entries(cache)) == 1
    assert run(model)[1] is True


def test_another_program_was_first(model, cache, monkeypatch):
    session = ort_cpu._session

    def overtaken(source, settings):
        made = session(source, settings)
        if settings.optimized_model_filepath:
            monkeypatch.undo()
            monkeypatch.setattr(ort_cache, "SMALLEST", 0)
            monkeypatch.setenv("KDEXPORT_CACHE", str(cache.parent.parent))
            run(model)
        return made

    monkeypatch.setattr(ort_cpu, "_session", overtaken)
    assert run(model)[1] is True
    assert len(entries(cache)) == 1


def test_a_folder_that_cannot_be_written_to(model, cache, monkeypatch):
    cache.parent.parent.write_text("no folder")
    assert run(model)[1] is False


def test_the_cache_stays_small(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(ort_cache, "MOST_KEPT", 2)
    one, two, three = (
        save(tmp_path / name / "model.onnx", *layers(), scale)
        for name, scale in (("a", 1.0), ("b", 2.0), ("c", 3.0))
    )
    run(one)
    (first,) = entries(cache)
    os.utime(cache / first, (1, 1))
    run(two)
    (second,) = set(entries(cache)) - {first}
    os.utime(cache / second, (2, 2))
    # Used again, it is kept, although it was made first.
    run(one)
    run(three)
    assert len(entries(cache)) == 2
    assert first in entries(cache)
    assert second not in entries(cache)


def test_what_killed_programs_left_is_removed(model, cache):
    old, new = cache / ".key.old", cache / ".key.new"
    for each in (old, new):
        each.mkdir(parents=True)
        (each / "model.onnx.data").write_text("half")
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    run(model)
    assert not old.exists()
    assert new.exists()


def test_small_models_are_not_kept(model, cache, monkeypatch):
    monkeypatch.setattr(ort_cache, "SMALLEST", 1 << 20)
    assert run(model)[1] is False
    assert entries(cache) == []


def test_a_broken_model_is_named(tmp_path, cache):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(RunError, match=r"cannot open .*broken.onnx'.*INVALID_PROTOBUF"):
        run(path)
    with pytest.raises(RunError, match=r"cannot open .*none.onnx'.*NO_SUCHFILE"):
        run(tmp_path / "none.onnx")
    assert entries(cache) == []


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_bundle_draws_the_same_bits(sd, cache, low_memory):
    request = Request("a vase", steps=4, seed=5, guidance=5.0)

    def latents(check):
        with Pipeline.load(sd.folder, low_memory=low_memory, check=check) as pipeline:
            *_, last = pipeline.generate(request)
            return np.concatenate([last.latents.ravel(), pipeline.decode(last).ravel()])

    # The hashes that it is found by were not compared with the files.
    expected = latents(check=False)
    assert entries(cache) == []
    for _ in range(2):
        np.testing.assert_array_equal(latents(check=True), expected)
        assert len(entries(cache)) == 3
