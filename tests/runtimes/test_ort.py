"""ONNX Runtime behind the runner interface."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from kdexport.core.errors import DependencyError, OptionError, ProviderError, RunError
from kdexport.core.manifest import TensorSpec
from kdexport.runtimes import ort_session
from kdexport.runtimes.ort import PROVIDERS, OrtRunner, require_active
from kdexport.runtimes.ort_options import OrtOptions
from onnx import TensorProto, helper


@pytest.fixture
def model(three_outputs):
    return three_outputs


def array(width=3):
    return np.arange(2 * width, dtype=np.float32).reshape(1, 2, width)


def test_describes_and_runs(model):
    with OrtRunner(model) as runner:
        signature = runner.describe()
        assert signature.inputs == (TensorSpec("x", "float32", ("batch", 2, "width")),)
        assert [spec.name for spec in signature.outputs] == ["same", "square", "add"]
        results = runner.run({"x": array()}, ["square"])
        np.testing.assert_array_equal(results["square"], array() ** 2)


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_threads(model, threads, monkeypatch):
    # All of the machine is granted.
    monkeypatch.setattr(ort_session, "granted_threads", lambda: None)
    with OrtRunner(model, OrtOptions(threads=threads)) as runner:
        session = runner._session
        options = session.get_session_options()
        assert options.intra_op_num_threads == (threads or 0)
        assert options.enable_cpu_mem_arena
        assert not options.enable_mem_pattern
        np.testing.assert_array_equal(runner.run({"x": array()})["same"], array())


def test_results_share_no_memory_with_the_feed_or_one_another(model):
    x = array()
    with OrtRunner(model) as runner:
        first = runner.run({"x": x})
        kept = {name: value.copy() for name, value in first.items()}
        second = runner.run({"x": x * 7})
        x[:] = -1
        arrays = [x, *first.values(), *second.values()]
        for index, one in enumerate(arrays):
            assert not any(np.shares_memory(one, other) for other in arrays[index + 1 :])
        for name, value in kept.items():
            np.testing.assert_array_equal(first[name], value)


def test_unnamed_dimensions_agree_with_none(tiny_bundle, tmp_path):
    path = tiny_bundle.save_graph(
        tmp_path / "m.onnx",
        [helper.make_node("Concat", ["a", "b"], ["c"], axis=0)],
        [TensorSpec("a", "float32", (None,)), TensorSpec("b", "float32", (None,))],
        [TensorSpec("c", "float32", (None,))],
        {},
    )
    with OrtRunner(path) as runner:
        assert runner.describe().inputs[0].shape == ("a.0",)
        result = runner.run({"a": np.zeros(2, np.float32), "b": np.ones(3, np.float32)})
    assert result["c"].tolist() == [0, 0, 1, 1, 1]


def test_unknown_types_are_refused(tiny_bundle, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])],
        "text",
        [helper.make_tensor_value_info("a", TensorProto.STRING, [1])],
        [helper.make_tensor_value_info("b", TensorProto.STRING, [1])],
    )
    path = tmp_path / "m.onnx"
    opset = [helper.make_opsetid("", 18)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    )
    runner = OrtRunner(path)
    with pytest.raises(RunError, match=r"'a' of .* is a tensor\(string\), which is not"):
        runner.open()
    assert not runner.is_open


def test_unknown_provider_lists_the_names():
    with pytest.raises(OptionError, match=r"no provider 'cuda:0'; choose cpu, cuda, .* or xnnpack"):
        OrtOptions(provider="cuda:0")


def test_threads_must_be_positive():
    with pytest.raises(OptionError, match="at least 1, not 0"):
        OrtOptions(threads=0)


def test_provider_names_are_onnx_runtimes():
    assert set(PROVIDERS.values()) <= set(onnxruntime.get_all_providers())


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_a_provider_runs_or_is_refused(model, provider):
    if PROVIDERS[provider] in onnxruntime.get_available_providers():
        with OrtRunner(model, OrtOptions(provider=provider)) as runner:
            assert PROVIDERS[provider] in runner._session.get_providers()
            return
    with pytest.raises(ProviderError, match=rf"no provider '{provider}', only .*cpu"):
        OrtRunner(model, OrtOptions(provider=provider))


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_falling_back_to_the_cpu_is_an_error(model):
    # What a session looks like where the wanted provider did not start.
    missing = next(
        name
        for name, provider in PROVIDERS.items()
        if provider not in onnxruntime.get_available_providers()
    )
    session = onnxruntime.InferenceSession(str(model), providers=[PROVIDERS[missing]])
    assert session.get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(ProviderError, match=f"'{missing}' and fell back to CPUExecutionProvider"):
        require_active(missing, session.get_providers())
    require_active("cpu", session.get_providers())


def test_a_broken_model_is_named_with_its_cause(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    runner = OrtRunner(path)
    with pytest.raises(RunError, match=r"cannot open .*broken.onnx'.*INVALID_PROTOBUF") as info:
        runner.open()
    assert info.value.__cause__ is not None
    with pytest.raises(RunError, match=r"cannot open .*none.onnx"):
        OrtRunner(tmp_path / "none.onnx").open()


def test_a_failing_run_is_named_with_its_cause(model):
    with OrtRunner(model) as runner:
        with pytest.raises(RunError, match=r"failed to run .*model.onnx") as info:
            runner.run({"x": array(width=5)})
        assert info.value.__cause__ is not None
        runner.run({"x": array()})


def test_without_onnxruntime_the_extra_is_named(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DependencyError, match=r"pip install kdexport\[cpu\]"):
        OrtRunner(model)


def test_sessions_print_no_warnings(tiny_bundle, tmp_path):
    # An initializer that nothing reads makes ONNX Runtime warn.
    path = tiny_bundle.save_graph(
        tmp_path / "m.onnx",
        [helper.make_node("Relu", ["a"], ["b"])],
        [TensorSpec("a", "float32", (1,))],
        [TensorSpec("b", "float32", (1,))],
        {"unused": np.zeros(3, np.float32)},
    )
    open_it = "import onnxruntime; s = onnxruntime.InferenceSession(sys.argv[1]); "
    ours = (
        "from pathlib import Path; from kdexport.runtimes.ort import OrtRunner; "
        "OrtRunner(Path(sys.argv[1])).open()"
    )
    errors = [
        subprocess.run(
            [sys.executable, "-c", f"import sys; {code}", str(path)],
            check=True,
            capture_output=True,
            text=True,
        ).stderr
        for code in (open_it, ours)
    ]
    assert "unused" in errors[0]
    assert "unused" not in errors[1]
