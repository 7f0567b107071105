"""Engines that are not what they should be, and runners on arrays."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from kdexport.core.errors import BundleError, RunError
from kdexport.core.manifest import EngineRecord
from kdexport.runtimes.base import Runner
from kdexport.runtimes.components import call_by_rows
from kdexport.runtimes.ort import OrtRunner
from kdexport.runtimes.tensorrt.buffers import Workspace
from kdexport.runtimes.tensorrt.engine import _deserialise
from kdexport.runtimes.tensorrt.runner import RunnerMaker, as_tensorrt
from kdexport.runtimes.tensorrt.session import shared_logger


@pytest.fixture
def maker(gpu, make_bundle):
    """Makes the runner of a component, and what the stand-in is."""

    def make(role="unet", kind="rtx", family="sd", **options):
        machine = gpu(kind, **options)
        bundle = make_bundle(family, kind, **({"version": "8.6.1"} if options else {}))
        engines = bundle.manifest.engines
        runners = RunnerMaker(bundle.folder, engines, "cuda")
        return runners(bundle.manifest.component(role)), bundle, machine

    return make


def feed_of(bundle, role, rows, height=6, width=8):
    sizes = {"batch": rows, "height": height, "width": width}
    random = np.random.default_rng(0)
    return {
        spec.name: random.integers(0, 1000, [sizes.get(each, each) for each in spec.shape])
        if spec.dtype == "int64"
        else np.asarray(
            random.standard_normal([sizes.get(each, each) for each in spec.shape])
        ).astype(spec.dtype)
        for spec in bundle.manifest.component(role).inputs
    }


@pytest.mark.parametrize("role", ["text_encoder", "unet", "vae_decoder"])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_the_same_as_the_onnx_file(maker, role, family):
    runner, bundle, _ = maker(role, family=family)
    file = bundle.manifest.component(role).file
    with runner, OrtRunner(bundle.folder / file) as reference:
        for rows in (1, 2, 1, 1, 1):
            feed = feed_of(bundle, role, rows)
            ours, theirs = runner.run(feed), reference.run(feed)
            assert list(ours) == list(theirs)
            for name, array in theirs.items():
                assert ours[name].dtype == array.dtype
                np.testing.assert_array_equal(ours[name], array)


def test_narrower_integers(maker):
    """TensorRT 8 takes token ids of 32 bits; runners take those of the manifest."""
    runner, bundle, _ = maker("text_encoder", "native", generation=8)
    file = bundle.manifest.component("text_encoder").file
    feed = feed_of(bundle, "text_encoder", 2)
    with runner, OrtRunner(bundle.folder / file) as reference:
        assert runner.dtype("input_ids") == "int32"
        assert runner.describe().inputs[0].dtype == "int64"
        name = "last_hidden_state"
        ours, theirs = (each.run(feed, [name])[name] for each in (runner, reference))
        np.testing.assert_array_equal(ours, theirs)


def test_only_what_is_asked_for_comes_down(maker):
    runner, bundle, machine = maker("text_encoder")
    with runner:
        runner.run(feed_of(bundle, "text_encoder", 1), ["pooler_output"])
        assert machine.cuda.downloads == [6 * 4]


def test_rows_in_the_pieces_that_the_engine_takes(maker):
    runner, bundle, machine = maker("text_encoder")
    ids = feed_of(bundle, "text_encoder", 7)["input_ids"]
    file = bundle.manifest.component("text_encoder").file
    with runner, OrtRunner(bundle.folder / file) as reference:
        name = "last_hidden_state"
        ours, theirs = (
            call_by_rows(each, "input_ids", ids, [name])[name] for each in (runner, reference)
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    machine.cuda.flush()
    assert [shapes["input_ids"][0] for _, shapes in machine.library.runs] == [3, 3, 1]


def test_outside_the_profile(maker):
    runner, bundle, _ = maker()
    with runner, pytest.raises(RunError, match="takes 1 to 16 for 'width' of its input 'sample'"):
        runner.run(feed_of(bundle, "unet", 1, width=17))


def test_a_closed_runner(maker):
    runner, bundle, machine = maker()
    feed = feed_of(bundle, "unet", 1)
    with pytest.raises(RunError, match="is not open; open it before"):
        runner.run(feed)
    with pytest.raises(RunError, match="is not open"):
        runner.enqueue({})
    with runner:
        runner.run(feed)
    assert machine.cuda.left() == {}
    with runner:
        runner.run(feed)


def test_a_context_goes_when_its_work_is_done(maker):
    """Also one that was not captured, which frees nothing that would wait."""
    runner, _, machine = maker("text_encoder")
    with runner, Workspace(runner._session.opened.device) as memory:
        ids = memory.tensor("input_ids", "int64", (1, 77))
        runner._session.opened.device.fill(ids, 0)
        runner.enqueue({"input_ids": ids})
        assert machine.cuda.queue
        (context,) = runner._engine._contexts.values()
        context.close()
        assert not machine.cuda.queue


def test_more_than_the_engine_takes(maker):
    """Only its own inputs are bound."""
    runner, _, _ = maker("text_encoder")
    with runner, Workspace(runner._session.opened.device) as memory:
        feed = {name: memory.tensor(name, "int64", (1, 77)) for name in ("input_ids", "other")}
        runner._session.opened.device.fill(feed["input_ids"], 0)
        assert runner.enqueue(feed)["last_hidden_state"].shape[:2] == (1, 77)


def test_runners_of_one_maker_share(gpu, make_bundle):
    machine = gpu()
    bundle = make_bundle()
    make = RunnerMaker(bundle.folder, bundle.manifest.engines, "cuda")
    runners = [make(each) for each in bundle.manifest.components]
    for runner in runners:
        runner.open()
    assert len(machine.cuda.live["stream"]) == 1
    runners[0].close()
    assert make.session.opened
    for runner in runners[1:]:
        runner.close()
    with pytest.raises(RunError, match="The GPU was given back"):
        make.session.opened  # noqa: B018


def open_changed(gpu, bundles, tiny_bundle, with_engines, fake_tensorrt, folder, **changes):
    """Opens a U-Net whose engine file is not what it should be."""
    machine = gpu()
    tiny_bundle.write_bundle(bundles("sd").tiny, folder)
    manifest = with_engines(folder)
    record = next(each for each in manifest.engines if each.role == "unet")
    onnx = changes.pop("onnx", folder / "unet/model.onnx")
    fake_tensorrt.write_engine(folder / record.file, onnx, record.profile, **changes)
    make = RunnerMaker(folder, manifest.engines, "cuda")
    return make(manifest.component("unet")), machine, manifest


@pytest.fixture
def changed(gpu, bundles, tiny_bundle, with_engines, fake_tensorrt, tmp_path):
    def make(**changes):
        parts = (gpu, bundles, tiny_bundle, with_engines, fake_tensorrt, tmp_path / "b")
        return open_changed(*parts, **changes)

    return make


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"magic": "other"},
            RunError,
            r"cannot load the engine '.*unet.sm89.rtx.engine' \(magic tag does not match\); build",
        ),
        ({"types": {"sample": "HALF"}}, BundleError, "'sample' of the engine .* is float16, but"),
        ({"types": {"sample": "BF16"}}, BundleError, "is bf16, but the manifest says float32"),
        ({"host": ["timestep"]}, BundleError, "wants 'timestep' in the memory of the host"),
    ],
)
def test_engines_that_do_not_open(changed, changes, error, message):
    runner, machine, _ = changed(**changes)
    with pytest.raises(error, match=message):
        runner.open()
    assert machine.cuda.left() == {}
    assert not runner.is_open


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"no context": True}, r"cannot make an execution context of 'unet.*' \(out of memory\)"),
        ({"unknown": ["timestep"]}, "cannot tell the shapes of timestep of 'unet"),
        ({"no shapes": True}, r"cannot tell the shapes of 'unet.*' \(a division by zero\); build"),
        ({"refused": ["sample"]}, r"take the memory for 'sample' of 'unet.*' \(no memory for it\)"),
        ({"broken": True}, r"failed to run 'unet.sm89.rtx.engine' \(it failed\); free memory"),
    ],
)
def test_engines_that_do_not_run(changed, changes, message):
    runner, _, manifest = changed(**changes)

    class Bundle:
        pass

    Bundle.manifest = manifest
    with runner, pytest.raises(RunError, match=message):
        runner.run(feed_of(Bundle, "unet", 1))


def test_shapes_that_tensorrt_itself_refuses(changed):
    """The file's profile is what counts where the manifest says another."""
    runner, _, manifest = changed()
    wide = dict(runner.record.profile) | {"sample": ((1, 4, 1, 1), (1, 4, 8, 8), (99, 4, 99, 99))}
    runner.record = replace(runner.record, profile=wide)

    class Bundle:
        pass

    Bundle.manifest = manifest
    with runner, pytest.raises(RunError, match=r"does not take the shape .* 'sample' .*outside"):
        runner.run(feed_of(Bundle, "unet", 1, width=20))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "engine '.*' is missing; copy the bundle again"), (b"", "engine '.*' is empty; copy")],
)
def test_files_that_are_not_there(changed, tmp_path, content, message):
    runner, machine, _ = changed()
    path = tmp_path / "b" / runner.record.file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=message):
        runner.open()
    assert machine.cuda.left() == {}


def test_another_networks_engine(changed, tmp_path):
    runner, machine, _ = changed(onnx=tmp_path / "b" / "vae_decoder/model.onnx")
    with pytest.raises(BundleError, match="has the inputs and outputs latent_sample, sample, but"):
        runner.open()
    assert machine.cuda.left() == {}


def test_a_profile_without_rows(maker):
    runner, _, _ = maker()
    runner.record = replace(runner.record, profile={})
    with pytest.raises(RunError, match=r"does not say how many rows \('batch'\) of 'sample'"):
        runner.rows("sample")


@pytest.mark.parametrize("compatible", [False, True])
def test_code_in_an_engine_runs_only_where_it_must(maker, compatible):
    """Version compatible engines bring code of their own library."""
    runner, _, _ = maker()
    settings = {"version_compatible": True} if compatible else {}
    runner.record = replace(runner.record, settings=settings)
    with runner:
        assert runner._session.opened.runtime.engine_host_code_allowed is compatible


def test_memory_that_is_not_aligned(maker, monkeypatch):
    runner, bundle, _ = maker()
    with runner:
        device = runner._session.opened.device
        monkeypatch.setattr(device, "allocate", lambda nbytes: 1000)
        monkeypatch.setattr(device, "upload", lambda *_: None)
        with pytest.raises(RunError, match="at an address that is no multiple of 256; please rep"):
            runner.run(feed_of(bundle, "unet", 1))


def test_tensorrt_for_rtx_itself(tmp_path):
    """The real package: its logger says why it loads nothing, without a GPU as well."""
    library = pytest.importorskip("tensorrt_rtx")
    logger = shared_logger(library)
    assert shared_logger(library) is logger
    runtime = library.Runtime(logger)
    (tmp_path / "junk").write_bytes(b"no engine" * 200)
    record = EngineRecord("unet", "junk", "rtx", "sm_89", "1", "0" * 64, {})
    opened = SimpleNamespace(runtime=runtime, why=lambda: f" ({logger.messages[0]})")
    with pytest.raises(RunError, match=r"cannot load the engine '.*junk' \(.*magic.*; build it"):
        _deserialise(tmp_path / "junk", record, opened)
    for name in ("INPUT", "OUTPUT"):
        assert getattr(library.TensorIOMode, name)
    names = ("create_execution_context", "create_runtime_config", "get_tensor_location")
    assert all(hasattr(library.ICudaEngine, name) for name in names)
    assert library.ExecutionContextAllocationStrategy.USER_MANAGED
    assert library.DynamicShapesKernelSpecializationStrategy.EAGER
    assert [kind.name for kind in (library.float32, library.float16, library.int64)] == [
        *("FLOAT", "HALF", "INT64")
    ]


def test_runners_of_other_engines(sd):
    other: Runner = OrtRunner(sd.folder / "unet/model.onnx")
    with pytest.raises(RunError, match="runs TensorRT engines only"):
        as_tensorrt(other)
