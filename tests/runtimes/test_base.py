"""The contract of every runner, on a runner whose engine is NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import RunError
from kdexport.core.manifest import TensorSpec
from kdexport.runtimes.base import Runner, Signature

INPUTS = (
    TensorSpec("x", "float32", ("batch", 3, "width")),
    TensorSpec("y", "float32", ("batch", 1)),
    TensorSpec("t", "float32", ()),
)
OUTPUTS = (
    TensorSpec("sum", "float32", ("batch", 3, "width")),
    TensorSpec("double", "float32", ("batch", 1)),
)


class NumpyRunner(Runner):
    """Computes `x + y + t` and `2 y`; `spoil` changes a result before it is returned."""

    def __init__(self, model=Path("numpy"), spoil=lambda results: results):
        super().__init__(model)
        self.spoil = spoil
        self.log = []

    @classmethod
    def create(cls, model, provider, threads):
        return cls(model)

    def _open(self):
        self.log.append("open")
        return Signature(INPUTS, OUTPUTS)

    def _run(self, feed, outputs):
        results = {"sum": feed["x"] + feed["y"][..., None] + feed["t"], "double": 2 * feed["y"]}
        return self.spoil({name: results[name] for name in outputs})

    def _close(self):
        self.log.append("close")


def feed(batch=2, width=4):
    return {
        "x": np.ones((batch, 3, width), np.float32),
        "y": np.full((batch, 1), 2, np.float32),
        "t": np.array(0.5, np.float32),
    }


@given(batch=st.integers(0, 5), width=st.integers(0, 5))
def test_runs_at_any_named_size(batch, width):
    with NumpyRunner() as runner:
        results = runner.run(feed(batch, width))
    assert list(results) == ["sum", "double"]
    np.testing.assert_array_equal(results["sum"], np.full((batch, 3, width), 3.5, np.float32))


def test_gives_the_outputs_asked_for_in_that_order():
    with NumpyRunner() as runner:
        assert list(runner.run(feed(), ["double", "sum"])) == ["double", "sum"]
        assert list(runner.run(feed(), ["double"])) == ["double"]
        with pytest.raises(RunError, match=r"no output 'nope', only sum, double\."):
            runner.run(feed(), ["nope"])


def test_opens_and_closes_once_and_again():
    runner = NumpyRunner()
    assert not runner.is_open
    with runner as entered:
        assert entered is runner
        runner.open()
        assert runner.is_open
        assert runner.describe() == Signature(INPUTS, OUTPUTS)
    runner.close()
    with runner:
        pass
    assert runner.log == ["open", "close", "open", "close"]


def test_closes_when_the_block_fails():
    runner = NumpyRunner()
    with pytest.raises(ZeroDivisionError), runner:
        1 / 0  # noqa: B018
    assert runner.log == ["open", "close"]


def test_must_be_open():
    runner = NumpyRunner(Path("some/model"))
    for use in (runner.describe, lambda: runner.run(feed())):
        with pytest.raises(RunError, match="'some/model' is not open"):
            use()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "takes the inputs x, y, t; lacking: y"),
        ({"z": np.zeros(1)}, "unknown: z"),
        ({"y": None, "z": np.zeros(1)}, "lacking: y and unknown: z"),
        ({"x": np.ones((2, 3, 4))}, "'x' must have dtype float32, not float64"),
        ({"x": np.ones((2, 3, 4), np.float16)}, "dtype float32, not float16"),
        ({"x": np.ones((2, 3), np.float32)}, r"shape \(batch, 3, width\), not \(2, 3\)"),
        ({"x": np.ones((2, 5, 4), np.float32)}, r"shape \(batch, 3, width\), not \(2, 5, 4\)"),
        ({"t": np.ones((1,), np.float32)}, r"'t' must have shape \(\), not \(1\)"),
        ({"y": np.ones((1, 1), np.float32)}, "disagree on 'batch': 'x' has 2, 'y' has 1"),
        ({"y": [[1.0], [2.0]]}, "must be a NumPy array, not list"),
    ],
)
def test_refuses_a_feed_that_breaks_the_contract(change, message):
    wrong = {name: array for name, array in {**feed(), **change}.items() if array is not None}
    with NumpyRunner() as runner, pytest.raises(RunError, match=message):
        runner.run(wrong)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: {**r, "sum": r["sum"].astype(np.float64)}, "output of 'numpy' 'sum' must have"),
        (lambda r: {**r, "sum": r["sum"][:, :2]}, r"shape \(batch, 3, width\), not \(2, 2, 4\)"),
    ],
)
def test_refuses_a_result_that_breaks_the_contract(spoil, message):
    with NumpyRunner(spoil=spoil) as runner, pytest.raises(RunError, match=message):
        runner.run(feed())
