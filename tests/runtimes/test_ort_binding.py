"""Device IO binding of ONNX Runtime, run in the memory of the CPU."""

from __future__ import annotations

import itertools

import diffusers
import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.errors import RunError
from kdexport.core.manifest import TensorSpec
from kdexport.runtimes import ort_binding
from kdexport.runtimes.ort import OrtRunner
from kdexport.runtimes.ort_binding import DeviceBinding
from kdexport.runtimes.ort_providers import DEVICES
from kdexport.runtimes.pipeline import Pipeline
from kdexport.runtimes.request import Request
from onnx import helper


@pytest.fixture(scope="module")
def session(tiny_bundle, tmp_path_factory):
    """`sum` and `product` of a tensor and a number, and `same`, the tensor itself."""
    shape = ("batch", "width")
    path = tiny_bundle.save_graph(
        tmp_path_factory.mktemp("binding") / "model.onnx",
        [
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Add", ["x", "t"], ["sum"]),
            helper.make_node("Mul", ["sum", "x"], ["product"]),
        ],
        [TensorSpec("x", "float32", shape), TensorSpec("t", "float32", ())],
        [TensorSpec(name, "float32", shape) for name in OUTPUTS],
        {},
    )
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


OUTPUTS = ["same", "sum", "product"]


def feed(x, t=2.0):
    return {"x": np.asarray(x, np.float32), "t": np.array(t, np.float32)}


def test_gives_what_the_session_gives(session):
    binding = DeviceBinding(session, "cpu")
    random = np.random.default_rng(0)
    # Shapes come back, as when two sizes are drawn in turns.
    for shape in [(2, 3), (1, 5), (2, 3), (4, 4), (1, 5), (0, 3)]:
        fed = feed(random.standard_normal(shape), random.standard_normal())
        for wanted in (OUTPUTS, ["product"], ["sum", "same"]):
            expected = dict(zip(wanted, session.run(wanted, fed), strict=True))
            bound = binding.run(fed, wanted)
            assert list(bound) == wanted
            for name in wanted:
                np.testing.assert_array_equal(bound[name], expected[name], strict=True)


def test_arrays_in_any_order_of_memory(session):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    binding = DeviceBinding(session, "cpu")
    for view in (x, x.T, x[::-1, ::2], np.asfortranarray(x)):
        np.testing.assert_array_equal(binding.run(feed(view), ["sum"])["sum"], view + 2)


def test_results_are_fresh(session):
    binding = DeviceBinding(session, "cpu")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    kept, copies = [x], [x.copy()]
    for scale in (1, 1, 7, 1):
        results = binding.run(feed(x * scale), OUTPUTS)
        kept += results.values()
        copies += [each.copy() for each in results.values()]
    for index, one in enumerate(kept):
        assert not any(np.shares_memory(one, other) for other in kept[index + 1 :])
        # Later runs write to none of them.
        np.testing.assert_array_equal(one, copies[index])


def test_no_buffer_lies_on_another(session):
    binding = DeviceBinding(session, "cpu")
    for shape in [(2, 3), (1, 5)]:
        for _ in range(2):
            binding.run(feed(np.ones(shape)), OUTPUTS)
    values = [
        value
        for one in binding._sets.values()
        for value in (*(each.value for each in one.inputs.values()), *one.binding.get_outputs())
    ]
    spans = sorted((each.data_ptr(), each.tensor_size_in_bytes()) for each in values)
    assert len(spans) == 2 * (2 + len(OUTPUTS))
    for (start, size), (following, _) in itertools.pairwise(spans):
        assert start + size <= following


def test_output_buffers_are_kept(session):
    binding = DeviceBinding(session, "cpu")
    seen = set()
    for value in range(4):
        binding.run(feed([[value]]), OUTPUTS)
        (one,) = binding._sets.values()
        seen.add(tuple(each.data_ptr() for each in one.binding.get_outputs()))
    assert len(seen) == 1


def uploads(binding, x, t=2.0):
    before = binding.uploads
    results = binding.run(feed(x, t), ["sum"])
    np.testing.assert_array_equal(results["sum"], np.asarray(x, np.float32) + np.float32(t))
    return binding.uploads - before


def test_what_does_not_change_is_sent_once(session):
    binding = DeviceBinding(session, "cpu")
    text = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert uploads(binding, text, 1.0) == 2
    assert uploads(binding, text, 2.0) == 1
    assert uploads(binding, text.copy(), 2.0) == 0
    text[1, 2] += 1  # the same array, changed by its owner
    assert uploads(binding, text, 2.0) == 1
    assert uploads(binding, text[:1], 2.0) == 2
    assert uploads(binding, text, 2.0) == 0


@pytest.mark.parametrize("change", [(0.0, -0.0), (np.nan, 1.0), (1.0, np.nan)])
def test_values_that_compare_oddly(session, change):
    binding = DeviceBinding(session, "cpu")
    for value in (*change, *change):
        bound = binding.run(feed([[value]]), ["same"])["same"]
        assert bound.tobytes() == np.array([[value]], np.float32).tobytes()
    assert binding.uploads == len(change) * 2 + 1
    binding.run(feed([[change[1]]]), ["same"])
    assert binding.uploads == len(change) * 2 + 1


def test_large_inputs_are_always_sent(session, monkeypatch):
    monkeypatch.setattr(ort_binding, "COMPARED_BYTES", 16)
    binding = DeviceBinding(session, "cpu")
    assert [uploads(binding, np.ones((1, 4))) for _ in range(3)] == [2, 0, 0]
    assert [uploads(binding, np.ones((1, 5))) for _ in range(3)] == [2, 1, 1]


@settings(max_examples=30)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(0, 2)), min_size=1, max_size=8
    )
)
def test_any_sequence_of_feeds(session, steps):
    binding = DeviceBinding(session, "cpu", cuda_graphs=True)
    for rows, width, value in steps:
        # Rows that agree in all but their last bytes.
        x = np.zeros((rows, width), np.float32)
        x[-1, -1] = value
        fed = feed(x, value)
        expected = session.run(OUTPUTS, fed)
        for one, other in zip(binding.run(fed, OUTPUTS).values(), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("graphs", [False, True])
def test_a_graph_is_captured_for_each_set_of_shapes(session, graphs):
    class Recorder:
        """The session, writing down which graph each run was for."""

        def __init__(self):
            self.numbers = []

        def io_binding(self):
            return session.io_binding()

        def run_with_iobinding(self, binding, options):
            keys = ("gpu_graph_id", "cuda_graph_annotation_id")
            self.numbers.append({options.get_run_config_entry(key) for key in keys})
            session.run_with_iobinding(binding, options)

    recorder = Recorder()
    binding = DeviceBinding(recorder, "cpu", graphs)
    for width in (3, 3, 5, 3, 5, 5):
        binding.run(feed(np.ones((1, width))), ["sum"])
    # Never in the first run, which allocates what the graph's kernels write to.
    captured = ["-1", "1", "-1", "1", "2", "2"] if graphs else ["-1"] * 6
    assert recorder.numbers == [{each} for each in captured]


@pytest.fixture
def bound_cpu(monkeypatch):
    """Binds inputs and outputs on the CPU as on a GPU."""
    monkeypatch.setitem(DEVICES, "cpu", "cpu")


class Aliasing(OrtRunner):
    """Binds as optimum-onnx 0.1.0 did: the output lies on the sample that it is computed from."""

    def _run(self, feed, outputs):
        sample = feed["sample"]
        binding = self._session.io_binding()
        for name, array in feed.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(*outputs, "cpu", 0, np.float32, sample.shape, sample.ctypes.data)
        self._session.run_with_iobinding(binding)
        return {outputs[0]: sample}


def draw(runner, kind, tiny_bundle):
    """Latents of every step without guidance, by a scheduler of diffusers."""
    scheduler = kind.from_config(tiny_bundle.BASE_CONFIG)
    scheduler.set_timesteps(6)
    random = np.random.default_rng(3)
    text = random.standard_normal((1, tiny_bundle.TOKENS, 6)).astype(np.float32)
    latents = torch.from_numpy(random.standard_normal((1, 4, 6, 8)).astype(np.float32))
    seen = []
    with runner:
        for timestep in scheduler.timesteps:
            sample = scheduler.scale_model_input(latents, timestep)
            fed = {
                "sample": sample.numpy(),
                "timestep": np.array(float(timestep), np.float32),
                "encoder_hidden_states": text,
            }
            output = torch.from_numpy(runner.run(fed, ["out_sample"])["out_sample"])
            latents = scheduler.step(output, timestep, latents).prev_sample
            seen.append(latents.numpy().copy())
    return np.stack(seen)


@pytest.mark.parametrize("kind", [diffusers.PNDMScheduler, diffusers.DDIMScheduler])
def test_schedulers_with_memory_and_no_guidance(sd, tiny_bundle, kind, monkeypatch):
    model = sd.folder / "unet/model.onnx"
    unbound = draw(OrtRunner(model), kind, tiny_bundle)
    aliased = draw(Aliasing(model), kind, tiny_bundle)
    monkeypatch.setitem(DEVICES, "cpu", "cpu")
    runner = OrtRunner(model)
    bound = draw(runner, kind, tiny_bundle)
    np.testing.assert_array_equal(bound, unbound)
    # So this loop does see the defect.
    assert np.abs(aliased - unbound).max() > 0.1


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "euler-ancestral", "heun"])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_a_bundle_draws_the_same_bits(bundles, family, scheduler, guidance, monkeypatch):
    folder = bundles(family).folder
    # Another size in between, as a server draws them.
    requests = [
        Request("a vase", steps=4, guidance=guidance, seed=5, scheduler=scheduler, width=width)
        for width in (64, 48, 64)
    ]

    def pictures():
        with Pipeline.load(folder, check=False) as pipeline:
            for request in requests:
                steps = list(pipeline.generate(request))
                yield [each.output for each in steps] + [each.latents for each in steps]
                yield [pipeline.decode(steps[-1].latents)]

    unbound = list(pictures())
    monkeypatch.setitem(DEVICES, "cpu", "cpu")
    for one, other in zip(pictures(), unbound, strict=True):
        np.testing.assert_array_equal(np.stack(one), np.stack(other))


def test_text_embeddings_are_sent_once_to_a_picture(sd, bound_cpu):
    with Pipeline.load(sd.folder, check=False) as pipeline:
        list(pipeline.generate(Request("a vase", steps=6, guidance=1.0, seed=5)))
        unet = pipeline._components._runners["unet"]
        # Pndm: seven calls. The latents and the timestep change, the timestep not always.
        (buffers,) = unet._binding._sets.values()
        assert buffers.runs == 7
        assert buffers.inputs["encoder_hidden_states"].uploads == 1
        assert buffers.inputs["sample"].uploads == 7


def test_a_failing_run_is_named_with_its_cause(tiny_bundle, tmp_path, bound_cpu):
    path = tiny_bundle.save_graph(
        tmp_path / "m.onnx",
        [helper.make_node("Add", ["x", "three"], ["y"])],
        [TensorSpec("x", "float32", ("batch", "width"))],
        [TensorSpec("y", "float32", ("batch", 3))],
        {"three": np.zeros(3, np.float32)},
    )
    with OrtRunner(path) as runner:
        with pytest.raises(RunError, match=r"failed to run .*m.onnx") as info:
            runner.run({"x": np.zeros((2, 5), np.float32)})
        assert info.value.__cause__ is not None
        # The buffers of the failed shape are in nobody's way.
        assert runner.run({"x": np.ones((2, 3), np.float32)})["y"].sum() == 6


def test_a_closed_runner_opens_again(sd, bound_cpu):
    runner = OrtRunner(sd.folder / "vae_decoder/model.onnx")
    latents = {"latent_sample": np.ones((1, 4, 2, 2), np.float32)}
    with runner:
        first = runner.run(latents)["sample"]
    assert runner._binding is None
    with runner:
        np.testing.assert_array_equal(runner.run(latents)["sample"], first)
