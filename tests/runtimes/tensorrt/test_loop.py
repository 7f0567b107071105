"""The loop on the device against the loop on the host: same bundle, same seed, same numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kdexport.core.errors import BundleError, OptionError, RunError
from kdexport.core.manifest import ControlRecord, TensorSpec, load_manifest, save_manifest
from kdexport.runtimes.picture import sample_picture
from kdexport.runtimes.pipeline import Pipeline
from kdexport.runtimes.request import Request
from kdexport.runtimes.tensorrt.loop import DeviceLoop
from onnx import helper

SIZE = {"height": 48, "width": 64}
SHORT = {"steps": 4, "seed": 0, **SIZE}
SCHEDULERS = ["pndm", "ddim", "euler", "euler-ancestral", "lcm", "dpm++2m", "heun"]


def draw(pipe, request):
    steps = list(pipe.generate(request))
    return steps, pipe.decode(steps[-1])


def assert_same(folder, request, tolerance=0.0, **load):
    with Pipeline.load(folder, runtime="onnxruntime") as host:
        theirs, expected = draw(host, request)
    with Pipeline.load(folder, **load) as device:
        assert isinstance(device._loop, DeviceLoop)
        ours, pixels = draw(device, request)
        told = [(step.index, step.total, step.timestep) for step in ours]
        assert told == [(step.index, step.total, step.timestep) for step in theirs]
        for step, other in zip(ours, theirs, strict=True):
            for name in ("sample", "output", "latents"):
                found, wanted = getattr(step, name), getattr(other, name)
                assert found.dtype == np.float32
                largest = tolerance * np.abs(wanted).max()
                np.testing.assert_allclose(found, wanted, rtol=0, atol=largest)
    assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= (1 if tolerance else 0)
    # So that the comparison says something.
    assert expected.std() > 5


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_draws_what_the_host_draws(gpu, make_bundle, family, scheduler, guidance):
    gpu()
    request = Request("a cat", guidance=guidance, scheduler=scheduler, **SHORT)
    assert_same(make_bundle(family).folder, request)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("negative", [None, "", "blurry"])
@pytest.mark.parametrize("images", [1, 2])
def test_batches_are_run_in_the_pieces_that_the_engines_take(
    gpu, make_bundle, family, negative, images
):
    gpu()
    request = Request(
        ["a cat", "purple dragon", "a vase"],
        negative_prompt=negative,
        guidance=3.0,
        scheduler="euler-ancestral",
        images_per_prompt=images,
        **SHORT,
    )
    # ONNX Runtime rounds products of other numbers of rows otherwise.
    assert_same(make_bundle(family).folder, request, tolerance=1e-5)


@pytest.mark.parametrize("kind", ["rtx", "native"])
@pytest.mark.parametrize("provider", [None, "cuda-no-graphs", "cuda:1"])
@pytest.mark.parametrize("low_memory", [False, True])
def test_every_way_to_run_draws_the_same(gpu, make_bundle, kind, provider, low_memory):
    gpu(kind, gpus=2)
    request = Request("a cat", guidance=3.0, **SHORT)
    options = {"provider": provider, "low_memory": low_memory}
    assert_same(make_bundle("sd", kind).folder, request, **options)


def test_tensorrt_8(gpu, make_bundle):
    """Token ids of 32 bits, contexts and memory by other calls."""
    machine = gpu("native", generation=8)
    bundle = make_bundle("sd", "native", version="8.6.1")
    assert_same(bundle.folder, Request("a cat", guidance=3.0, **SHORT))
    assert machine.library.contexts


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_half_precision_edges(gpu, make_bundle, family):
    """Everything between the engines is rounded to float16, as on the host."""
    gpu()
    request = Request("a cat", guidance=3.0, scheduler="euler-ancestral", **SHORT)
    assert_same(make_bundle(family, dtype="float16").folder, request)


@pytest.mark.parametrize("options", [{"skip": True}, {"embedding": True}])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_clip_skip_and_embedded_guidance(gpu, make_bundle, family, options):
    gpu()
    request = Request(["a", "b"], guidance=4.0, scheduler="lcm", **SHORT)
    assert_same(make_bundle(family, **options).folder, request)


@pytest.mark.parametrize("output", ["latent_parameters", "latent_sample"])
@pytest.mark.parametrize("scheduler", ["pndm", "euler-ancestral"])
def test_from_a_picture(gpu, make_bundle, output, scheduler):
    gpu()
    options = {"steps": 6, "seed": 4, "scheduler": scheduler, "guidance": 2.0}
    request = Request("a cat", init=sample_picture(), strength=0.6, **SIZE, **options)
    assert_same(make_bundle("sd", encoder=output).folder, request)


def test_given_latents(gpu, make_bundle):
    gpu()
    latents = np.random.default_rng(0).standard_normal((1, 4, 6, 8)).astype(np.float32)
    assert_same(make_bundle().folder, Request("a cat", latents=latents, **SHORT))


@pytest.fixture
def steered(tiny_bundle, bundles, with_engines, tmp_path):
    """A bundle with a ControlNet, whose one residual is added to the U-Net's output."""
    folder = tmp_path / "steered"
    manifest = tiny_bundle.write_bundle(bundles("sd").tiny, folder)
    grid = ("batch", 4, "height", "width")
    residual = TensorSpec("mid_residual", "float32", grid)
    sample, picture = (
        TensorSpec("sample", "float32", grid),
        TensorSpec("controlnet_cond", "float32", ("batch", 3, "8*height", "8*width")),
    )
    scale = TensorSpec("conditioning_scale", "float32", ())
    constants = {"pick": np.ones((4, 3, 8, 8), np.float32) / 200}
    nodes = [
        helper.make_node("Conv", ["controlnet_cond", "pick"], ["seen"], strides=[8, 8]),
        helper.make_node("Add", ["seen", "sample"], ["both"]),
        helper.make_node("Mul", ["both", "conditioning_scale"], ["mid_residual"]),
    ]
    save = tiny_bundle.save_graph
    save(folder / "controlnet/model.onnx", nodes, [sample, picture, scale], [residual], constants)
    out = TensorSpec("out_sample", "float32", grid)
    hidden = TensorSpec("encoder_hidden_states", "float32", ("batch", 77, 6))
    timestep = TensorSpec("timestep", "float32", ())
    nodes = [
        helper.make_node("ReduceMean", ["encoder_hidden_states", "axes"], ["text"], keepdims=0),
        helper.make_node("MatMul", ["text", "mix"], ["bias"]),
        helper.make_node("Mul", ["timestep", "tiny"], ["time"]),
        helper.make_node("Add", ["bias", "time"], ["bias1"]),
        helper.make_node("Unsqueeze", ["bias1", "space"], ["spread"]),
        helper.make_node("Mul", ["sample", "spread"], ["product"]),
        helper.make_node("Add", ["product", "mid_residual"], ["out_sample"]),
    ]
    constants = {
        "axes": np.array([1], np.int64),
        "mix": bundles("sd").tiny.arrays["from_hidden"],
        "tiny": np.array(0.001, np.float32),
        "space": np.array([2, 3], np.int64),
    }
    inputs = [sample, timestep, hidden, residual]
    save(folder / "unet/model.onnx", nodes, inputs, [out], constants)
    components = []
    for each in manifest.components:
        if each.role == "unet":
            net = replace(each, role="controlnet", file="controlnet/model.onnx")
            components += [
                replace(net, inputs=(sample, picture, scale), outputs=(residual,)),
                replace(each, inputs=tuple(inputs)),
            ]
        else:
            components.append(each)
    record = ControlRecord(scale=0.7, invert=False, channels=3)
    save_manifest(replace(manifest, components=tuple(components), control=record), folder)
    with_engines(folder)
    return folder


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_controlnet(gpu, steered, guidance):
    gpu()
    pictures = [sample_picture(), sample_picture().rotate(90)]
    request = Request(["a", "b"], control=pictures, guidance=guidance, images_per_prompt=2, **SHORT)
    assert_same(steered, request)


def test_a_controlnet_of_another_precision(gpu, steered, fake_tensorrt):
    gpu()
    manifest = load_manifest(steered)
    components = [
        replace(each, outputs=(replace(each.outputs[0], dtype="float16"),))
        if each.role == "controlnet"
        else each
        for each in manifest.components
    ]
    save_manifest(replace(manifest, components=tuple(components)), steered)
    engine = next(each for each in manifest.engines if each.role == "controlnet")
    onnx = steered / "controlnet/model.onnx"
    types = {"mid_residual": "HALF"}
    fake_tensorrt.write_engine(steered / engine.file, onnx, engine.profile, types=types)
    with (
        Pipeline.load(steered, check=False) as pipe,
        pytest.raises(BundleError, match="gives 'mid_residual' in float16, but the U-Net's takes"),
    ):
        next(pipe.generate(Request("a", control=sample_picture(), **SHORT)))


def test_nothing_comes_down_but_the_picture(gpu, make_bundle):
    machine = gpu()
    request = Request("a cat", guidance=3.0, scheduler="euler-ancestral", **SHORT)
    with Pipeline.load(make_bundle().folder) as pipe:
        steps = list(pipe.generate(request))
        # The flag that says whether all was finite.
        assert machine.cuda.downloads == [4]
        pipe.decode(steps[-1])
        pixels = 3 * 48 * 64 * 4
        assert machine.cuda.downloads == [4, pixels, 4]
        first = steps[0].latents
        assert steps[0].latents is first
        assert machine.cuda.downloads[3:] == [4 * 6 * 8 * 4, 4]


def test_guidance_off_is_one_row(gpu, make_bundle):
    machine = gpu()
    with Pipeline.load(make_bundle().folder) as pipe:
        for guidance, rows in ((1.0, 1), (2.0, 2)):
            machine.library.runs.clear()
            list(pipe.generate(Request("a", guidance=guidance, **SHORT)))
            machine.cuda.flush()
            shapes = [shapes for onnx, shapes in machine.library.runs if "unet" in onnx]
            assert {each["sample"][0] for each in shapes} == {rows}


def test_memory_is_taken_once(gpu, make_bundle):
    """The second picture of a size takes nothing; a graph does the U-Net's later calls."""
    machine = gpu()
    cuda = machine.cuda
    with Pipeline.load(make_bundle().folder) as pipe:
        first = pipe("a cat", **SHORT)
        graphs = cuda.calls.count("cudaGraphInstantiate")
        # The U-Net, called five times; the others were called once.
        assert graphs == 1
        assert cuda.calls.count("cudaGraphLaunch") == 4
        before = [cuda.calls.count(name) for name in ("cudaMalloc", "cudaMallocHost")]
        again = pipe("a cat", **SHORT)
        assert [cuda.calls.count(name) for name in ("cudaMalloc", "cudaMallocHost")] == before
        # Now the text encoder and the decoder, too.
        assert cuda.calls.count("cudaGraphInstantiate") == 3
        assert again.tobytes() == first.tobytes()
        activation = {context.memory[0] for context in machine.library.contexts}
        assert len(activation) == 1
        contexts = len(machine.library.contexts)
        pipe("a cat", **{**SHORT, "height": 64})
        assert len(machine.library.contexts) > contexts


def test_no_graphs_where_they_are_not_wanted(gpu, make_bundle):
    machine = gpu()
    with Pipeline.load(make_bundle().folder, provider="cuda-no-graphs") as pipe:
        pipe("a cat", **SHORT)
        pipe("a cat", **SHORT)
    assert "cudaStreamBeginCapture" not in machine.cuda.calls


def test_an_engine_that_cannot_be_captured_runs_without(gpu, make_bundle):
    machine = gpu()
    machine.library.capturable = False
    with Pipeline.load(make_bundle().folder) as pipe:
        with pytest.warns(
            UserWarning, match="takes memory while it runs, so it cannot be rec"
        ) as told:
            first, second = (pipe("a cat", **SHORT) for _ in range(2))
        assert first.tobytes() == second.tobytes()
        # Each engine once.
        assert len(told) == 3
    assert "cudaStreamBeginCapture" not in machine.cuda.calls


def test_a_smaller_size_in_the_same_memory(gpu, make_bundle):
    gpu()
    folder = make_bundle("sdxl").folder
    sizes = [(64, 64), (40, 48), (48, 128), (40, 48), (64, 64)]
    with Pipeline.load(folder) as device, Pipeline.load(folder, runtime="onnxruntime") as host:
        for height, width in sizes:
            size = {**SHORT, "height": height, "width": width, "scheduler": "euler-ancestral"}
            assert device("a", **size).tobytes() == host("a", **size).tobytes()


def test_many_sizes_give_contexts_back(gpu, make_bundle):
    machine = gpu()
    with Pipeline.load(make_bundle().folder) as pipe:
        for width in (40, 48, 56, 64, 72, 80, 40):
            pipe("a", **{**SHORT, "width": width})
        unet = pipe._components._runners["unet"]
        assert len(unet._engine._contexts) == 4
    made = [each for each in machine.library.contexts if "out_sample" in each.engine.outputs]
    assert len(made) == 7


def spoil(folder, tiny_bundle, tiny, with_engines, name):
    arrays = {**tiny.arrays, name: np.full_like(tiny.arrays[name], np.nan)}
    tiny_bundle.write_bundle(replace(tiny, arrays=arrays), folder)
    with_engines(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("table:text_encoder", "The text_encoder gave NaN or infinite values"),
        ("mix", "The U-Net at call 1 of 5 gave NaN"),
        ("decode", "The vae_decoder gave NaN"),
    ],
)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_values_that_are_not_finite(
    gpu, bundles, tiny_bundle, with_engines, tmp_path, name, message, guidance
):
    gpu()
    spoil(tmp_path / "b", tiny_bundle, bundles("sd").tiny, with_engines, name)
    with Pipeline.load(tmp_path / "b") as pipe, pytest.raises(RunError, match=message):
        pipe("a", guidance=guidance, **SHORT)


def test_a_step_that_is_looked_at_says_what_is_not_finite(
    gpu, bundles, tiny_bundle, with_engines, tmp_path
):
    gpu()
    spoil(tmp_path / "b", tiny_bundle, bundles("sd").tiny, with_engines, "mix")
    with Pipeline.load(tmp_path / "b") as pipe:
        step = next(pipe.generate(Request("a", **SHORT)))
        with pytest.raises(RunError, match="The U-Net at call 1 of 5"):
            step.latents  # noqa: B018


def test_a_step_is_good_until_the_next_picture(gpu, make_bundle):
    gpu()
    with Pipeline.load(make_bundle().folder) as pipe:
        steps = list(pipe.generate(Request("a", **SHORT)))
        kept = steps[1].latents
        pixels = pipe.decode(steps[-1])
        later = list(pipe.generate(Request("b", **SHORT)))
        assert steps[1].latents is kept
        with pytest.raises(RunError, match="Another picture was begun or the pipeline was closed"):
            steps[2].latents  # noqa: B018
        with pytest.raises(RunError, match="Another picture was begun"):
            pipe.decode(steps[-1])
        assert not np.array_equal(pipe.decode(later[-1]), pixels)
        # Any step can be looked at, and arrays can come from elsewhere.
        preview = pipe.decode(later[0])
        np.testing.assert_array_equal(pipe.decode(later[0].latents), preview)
    with pytest.raises(RunError, match="the pipeline was closed"):
        later[1].latents  # noqa: B018


def test_writing_into_a_step_does_not_change_the_run(gpu, make_bundle):
    gpu()
    with Pipeline.load(make_bundle().folder) as pipe:
        expected = [step.latents for step in pipe.generate(Request("a", **SHORT))]
        for step, latents in zip(pipe.generate(Request("a", **SHORT)), expected, strict=True):
            np.testing.assert_array_equal(step.latents, latents)
            for array in (step.sample, step.output, step.latents):
                array[:] = np.nan


def test_two_gpus_in_turns(gpu, make_bundle):
    """Each pipeline works on its own GPU, whichever was chosen last."""
    machine = gpu(gpus=2)
    folder = make_bundle().folder
    request = Request("a", guidance=2.0, **SHORT)
    with Pipeline.load(folder, runtime="onnxruntime") as host:
        expected = host.decode(list(host.generate(request))[-1])
    with (
        Pipeline.load(folder, provider="cuda:0", low_memory=True) as first,
        Pipeline.load(folder, provider="cuda:1", low_memory=True) as second,
    ):
        pairs = list(zip(first.generate(request), second.generate(request), strict=True))
        assert set(machine.cuda.live["stream"].values()) == {0, 1}
        for pipe, step in zip((first, second), pairs[-1], strict=True):
            np.testing.assert_array_equal(step.latents, pairs[-1][0].latents)
            np.testing.assert_array_equal(pipe.decode(step), expected)


def test_two_runs_at_once_are_refused(gpu, make_bundle):
    gpu()
    with Pipeline.load(make_bundle().folder) as pipe:
        first, second = (pipe.generate(Request(text, **SHORT)) for text in "ab")
        next(first)
        expected = next(second).latents
        with pytest.raises(RunError, match="draw one picture at a time"):
            next(first)
        np.testing.assert_array_equal(next(pipe.generate(Request("b", **SHORT))).latents, expected)


@pytest.mark.parametrize("low_memory", [False, True])
def test_cancelling_leaves_the_pipeline_usable(gpu, make_bundle, low_memory):
    machine = gpu()
    with Pipeline.load(make_bundle().folder, low_memory=low_memory) as pipe:
        before = pipe("a cat", **SHORT).tobytes()
        steps = pipe.generate(Request("a cat", **SHORT))
        next(steps)
        next(steps)
        steps.close()
        assert not machine.cuda.live["event"]
        assert pipe("a cat", **SHORT).tobytes() == before


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_closed_pipeline_says_so(gpu, make_bundle, low_memory):
    gpu()
    pipe = Pipeline.load(make_bundle().folder, low_memory=low_memory)
    steps = pipe.generate(Request("a", **SHORT))
    step = next(steps)
    pipe.close()
    pipe.close()
    with pytest.raises(RunError, match="pipeline was closed"):
        next(steps)
    with pytest.raises(RunError):
        pipe.decode(step)
    with pytest.raises(RunError, match=r"given back|closed"):
        pipe("a", **SHORT)


def test_low_memory_holds_one_engine_at_a_time(gpu, make_bundle):
    gpu()
    with Pipeline.load(make_bundle().folder, low_memory=True) as pipe:
        runners = pipe._components._runners
        steps = pipe.generate(Request("a", **SHORT))
        assert not any(runner.is_open for runner in runners.values())
        next(steps)
        assert [role for role, runner in runners.items() if runner.is_open] == ["unet"]
        last = list(steps)[-1]
        assert not any(runner.is_open for runner in runners.values())
        pipe.decode(last)
        assert not any(runner.is_open for runner in runners.values())


def test_what_the_profile_does_not_allow(gpu, make_bundle):
    gpu()
    with Pipeline.load(make_bundle().folder) as pipe:
        with pytest.raises(OptionError, match=r"draw 1 to 6 images at once with guidance, not 7"):
            pipe.generate(Request("a", guidance=2.0, images_per_prompt=7, **SHORT))
        with pytest.raises(OptionError, match=r"draw 1 to 12 images at once without guidance"):
            pipe.plan(Request("a", guidance=1.0, images_per_prompt=13, **SHORT))
        with pytest.raises(OptionError, match=r"a width of 8 to 128 pixels, not 136; choose one"):
            pipe("a", height=48, width=136)


def test_conditioning_and_latents_of_the_host(gpu, make_bundle):
    """What is not the loop goes through arrays: `encode`, and latents from elsewhere."""
    gpu()
    folder = make_bundle("sdxl").folder
    request = Request(["a", "b", "c"], negative_prompt="d", guidance=2.0, **SHORT)
    with Pipeline.load(folder) as device, Pipeline.load(folder, runtime="onnxruntime") as host:
        ours, theirs = device.encode(request).feed(), host.encode(request).feed()
        assert set(ours) == set(theirs)
        for name, array in theirs.items():
            np.testing.assert_array_equal(ours[name], array)
        latents = list(host.generate(request))[-1].latents
        np.testing.assert_array_equal(device.decode(latents), host.decode(latents))


def test_a_missing_engine_frees_the_others(gpu, bundles, tiny_bundle, with_engines, tmp_path):
    machine = gpu()
    tiny_bundle.write_bundle(bundles("sd").tiny, tmp_path / "b")
    manifest = with_engines(tmp_path / "b")
    (tmp_path / "b" / manifest.engines[-1].file).unlink()
    with pytest.raises(BundleError, match=r"lacks 'vae_decoder.sm89.rtx.engine'; copy it again"):
        Pipeline.load(tmp_path / "b")
    with pytest.raises(BundleError, match=r"'.*vae_decoder.sm89.rtx.engine' is missing"):
        Pipeline.load(tmp_path / "b", check=False)
    assert machine.cuda.left() == {}


def without(name):
    """Takes an input away from what the manifest says of the U-Net."""

    def change(manifest):
        components = [
            replace(each, inputs=tuple(spec for spec in each.inputs if spec.name != name))
            if each.role == "unet"
            else each
            for each in manifest.components
        ]
        return replace(manifest, components=tuple(components))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda manifest: replace(
                manifest, text=tuple(replace(each, pooled_output=None) for each in manifest.text)
            ),
            "names no pooled output of a text encoder, which SDXL needs",
        ),
        (
            lambda manifest: replace(manifest, text=manifest.text[1:]),
            "The text encoders give 10 channels, but the U-Net takes 16",
        ),
        (without("text_embeds"), "The U-Net has no input 'text_embeds'; export the model again"),
    ],
)
def test_manifests_that_contradict_themselves(
    gpu, bundles, tiny_bundle, with_engines, tmp_path, change, message
):
    gpu()
    tiny_bundle.write_bundle(bundles("sdxl").tiny, tmp_path / "b")
    save_manifest(change(with_engines(tmp_path / "b")), tmp_path / "b")
    # Components are opened as they are needed: the U-Net would be refused before.
    with (
        Pipeline.load(tmp_path / "b", low_memory=True) as pipe,
        pytest.raises(BundleError, match=message),
    ):
        next(pipe.generate(Request("a", **SHORT)))


def test_a_pipeline_that_does_not_open_frees_the_gpu(gpu, make_bundle, fake_cuda):
    machine = gpu()
    machine.cuda.fail["cuModuleGetFunction"] = fake_cuda.Code(500, "CUDA_ERROR_NOT_FOUND")
    with pytest.raises(RunError, match=r"find the kernel 'combine' \(CUDA_ERROR_NOT_FOUND\)"):
        Pipeline.load(make_bundle().folder)
    assert machine.cuda.left() == {}
