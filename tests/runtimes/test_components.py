"""Opening, closing and calling a bundle's components."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import BundleError, RunError
from kdexport.core.manifest import TensorSpec
from kdexport.runtimes.components import Components, call, call_by_rows, require_finite
from kdexport.runtimes.ort import OrtRunner
from onnx import helper


class Watched(OrtRunner):
    """Writes down when it is opened and closed."""

    def __init__(self, model, log):
        super().__init__(model)
        self.log = log

    def _open(self):
        self.log.append(f"open {self.model.parent.name}")
        return super()._open()

    def _close(self):
        self.log.append(f"close {self.model.parent.name}")
        super()._close()


@pytest.fixture
def watched(sd):
    """Makes components that write down what they do."""

    def make(low_memory, manifest=None):
        log = []
        components = Components(
            manifest or sd.manifest, lambda each: Watched(sd.folder / each.file, log), low_memory
        )
        return components, log

    return make


def test_components_stay_open(watched):
    components, log = watched(low_memory=False)
    components.open()
    roles = ["text_encoder", "unet", "vae_decoder"]
    assert log == [f"open {role}" for role in roles]
    for role in roles * 2:
        with components.use(role) as runner:
            assert runner.is_open
    components.close()
    components.close()
    assert log[3:] == [f"close {role}" for role in roles]


def test_components_are_opened_while_used(watched):
    components, log = watched(low_memory=True)
    components.open()
    assert log == []
    with components.use("unet") as runner:
        assert runner.is_open
    with pytest.raises(ZeroDivisionError), components.use("vae_decoder"):
        1 / 0  # noqa: B018
    assert log == ["open unet", "close unet", "open vae_decoder", "close vae_decoder"]


@pytest.mark.parametrize("low_memory", [True, False])
def test_closed_components_cannot_be_used(watched, low_memory):
    components, _ = watched(low_memory)
    components.open()
    components.close()
    with pytest.raises(RunError, match="was closed; load the bundle again"):
        components.use("unet").__enter__()


def test_a_component_that_is_not_there(watched, sd):
    kept = tuple(each for each in sd.manifest.components if each.role != "unet")
    components, _ = watched(True, replace(sd.manifest, components=kept))
    with pytest.raises(BundleError, match="no component 'unet'"):
        components.use("unet").__enter__()


@pytest.mark.parametrize("low_memory", [True, False])
@pytest.mark.parametrize("ports", ["inputs", "outputs"])
def test_a_model_that_is_not_what_the_manifest_says(watched, sd, low_memory, ports):
    def spoil(component):
        if component.role != "unet":
            return component
        first, *others = getattr(component, ports)
        return replace(component, **{ports: (replace(first, dtype="float16"), *others)})

    manifest = replace(sd.manifest, components=tuple(map(spoil, sd.manifest.components)))
    components, log = watched(low_memory, manifest)
    use = (lambda: components.use("unet").__enter__()) if low_memory else components.open
    with pytest.raises(BundleError, match=rf"The {ports} of 'unet/model.onnx' are .*float32"):
        use()
    opened = [line for line in log if line.startswith("open")]
    assert len(log) == 2 * len(opened)  # nothing stays open


@pytest.fixture(scope="module")
def add_one(tiny_bundle, tmp_path_factory):
    """Makes an open runner of a model that adds one, its batch fixed or dynamic."""
    runners = {}

    def make(batch, dtype="float32"):
        if (batch, dtype) not in runners:
            rows = batch or "batch"
            path = tiny_bundle.save_graph(
                tmp_path_factory.mktemp("add") / "m.onnx",
                [helper.make_node("Add", ["x", "one"], ["y"])],
                [TensorSpec("x", dtype, (rows, 2))],
                [TensorSpec("y", dtype, (rows, 2))],
                {"one": np.array(1, dtype)},
            )
            runners[batch, dtype] = OrtRunner(path)
            runners[batch, dtype].open()
        return runners[batch, dtype]

    yield make
    for runner in runners.values():
        runner.close()


@given(rows=st.integers(1, 9), batch=st.integers(0, 4), most=st.none() | st.integers(1, 4))
def test_rows_in_pieces_are_the_same_rows(add_one, rows, batch, most):
    data = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    result = call_by_rows(add_one(batch), "x", data, ["y"], most)["y"]
    np.testing.assert_array_equal(result, data + 1)


class Bounded(OrtRunner):
    """Takes certain numbers of rows, and writes down which."""

    def __init__(self, model, least, most):
        super().__init__(model)
        self.least, self.most, self.taken = least, most, []

    def rows(self, name):
        assert name == "x"
        return self.least, self.most

    def _run(self, feed, outputs):
        self.taken.append(len(feed["x"]))
        return super()._run(feed, outputs)


@given(
    rows=st.integers(1, 9),
    least=st.integers(1, 4),
    more=st.integers(0, 3),
    most=st.none() | st.integers(1, 4),
)
def test_rows_that_an_engine_takes(add_one, rows, least, more, most):
    data = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    with Bounded(add_one(None).model, least, least + more) as runner:
        result = call_by_rows(runner, "x", data, ["y"], most)["y"]
    np.testing.assert_array_equal(result, data + 1)
    assert all(least <= taken <= least + more for taken in runner.taken)
    # No more calls than needed, and no larger ones than asked for.
    size = max(least, min(most or least + more, least + more))
    assert len(runner.taken) == -(-rows // size)


@pytest.mark.parametrize("model", ["float32", "float16"])
@pytest.mark.parametrize("fed", [np.float16, np.float32, np.float64])
def test_floats_are_cast_in_and_back(add_one, model, fed):
    result = call(add_one(None, model), {"x": np.full((3, 2), 0.5, fed)}, ["y"])["y"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.full((3, 2), 1.5, np.float32))


def test_integers_are_not_cast(add_one):
    with pytest.raises(RunError, match="must have dtype float32, not int64"):
        call(add_one(None), {"x": np.ones((3, 2), np.int64)}, ["y"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    good = np.zeros((2, 2), np.float32)
    assert require_finite(good, "It") is good
    good[1, 1] = value
    with pytest.raises(RunError, match=r"It gave NaN or infinite values; .* fp32"):
        require_finite(good, "It")
