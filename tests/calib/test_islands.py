"""The search for operations that must stay in float32, on small programs."""

from __future__ import annotations

import numpy as np
import pytest
from kdexport.calib import islands as module
from kdexport.calib.islands import at_last_timestep, find_islands
from kdexport.core.errors import ParityError
from kdexport.core.manifest import Component, TensorSpec
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.precision import Simulated
from kdexport.runtimes.mil.toolbox import coremltools

mil = coremltools("converters.mil.mil")
mb = mil.Builder

COMPONENT = Component(
    role="unet",
    file="p.mlpackage",
    precision="fp16",
    inputs=(TensorSpec("x", "float32", (1, 64)),),
    outputs=(TensorSpec("y", "float32", (1, 64)),),
    parameters=1,
    ports={"x": "sample", "y": "out_sample"},
)
FREQUENCIES = np.exp(np.linspace(0, -9, 64)).astype(np.float32)[None]


def program(body):
    @mb.program(
        input_specs=[mb.TensorSpec(shape=(1, 64))],
        opset_version=coremltools().target.iOS17,
    )
    def made(x):
        return mb.identity(x=body(x), name="y")

    return made


def embedding(x):
    angles = mb.mul(x=x, y=FREQUENCIES, name="time_proj_angles")
    return mb.sin(x=angles, name="time_proj_sin")


def squares(x):
    large = mb.mul(x=x, y=np.float32(400), name="norm_scaled")
    square = mb.square(x=large, name="norm_square")
    mean = mb.reduce_mean(x=square, axes=[1], keep_dims=True, name="norm_mean")
    return mb.mul(x=x, y=mb.rsqrt(x=mean, name="norm_rsqrt"), name="norm_out")


def cancelled(x):
    shifted = mb.add(x=x, y=np.float32(3000), name="shifted")
    return mb.sub(x=shifted, y=np.float32(3000), name="shifted_back")


def harmless(x):
    return mb.tanh(x=mb.mul(x=x, y=np.float32(0.5), name="half"), name="tanh")


def timesteps():
    return {"sample": np.full((1, 64), 999.0, np.float32)}


def noise():
    return {"sample": np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)}


def found(body, feed, report=lambda share: None):
    return find_islands(program(body), COMPONENT, [feed], report)


def test_a_time_embedding_keeps_its_angles():
    islands = found(embedding, timesteps())
    assert set(islands) == {"time_proj_angles", "time_proj_sin"}
    assert islands["time_proj_angles"] == "'time_proj_sin' needs it in float32"
    assert islands["time_proj_sin"].startswith("float16 is off by ")


def test_an_overflow_is_named():
    islands = found(squares, noise())
    assert "norm_square" in islands
    assert islands["norm_square"].endswith("overflow float16")
    assert "norm_out" not in islands


def test_what_cancels_keeps_its_source():
    assert set(found(cancelled, noise())) == {"shifted", "shifted_back"}


def test_what_float16_does_no_harm_to():
    shares = []
    assert found(harmless, noise(), shares.append) == {}
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize(
    ("body", "feed"), [(embedding, timesteps), (squares, noise), (cancelled, noise)]
)
def test_the_islands_are_enough(body, feed):
    made = program(body)
    (function,) = made.functions.values()
    kept = find_islands(made, COMPONENT, [feed()], lambda share: None)
    call = {"x": feed()["sample"]}
    exact = Evaluator(function, Simulated(lambda operation: False)).run(call)["y"]
    ours = Evaluator(function, Simulated(lambda each: each.name not in kept)).run(call)["y"]
    assert np.linalg.norm(ours - exact) < 2e-3 * np.linalg.norm(exact)


def test_what_overflows_between_the_ends():
    """Of three inputs, only the one in the middle is large."""
    feeds = [{"sample": noise()["sample"] * size} for size in (0.1, 1, 0.1)]
    made = program(squares)
    islands = find_islands(made, COMPONENT, feeds, lambda share: None)
    assert islands["norm_square"].endswith("overflow float16")


def test_a_gate_that_cannot_be_met(monkeypatch):
    monkeypatch.setattr(module, "_LIMITS", (1e9,))
    with pytest.raises(ParityError, match=r"'unet' cannot be float16: .* 'time_proj_sin' \(round"):
        found(embedding, timesteps())


@pytest.mark.parametrize(
    ("recorded", "told"),
    [([1], [999, 1]), ([751, 1], [999, 1]), ([999], [999]), ([999, 5], [999, 5])],
)
def test_one_feed_is_at_the_last_timestep(recorded, told):
    feeds = [{"sample": np.ones(2), "timestep": np.array(each, np.float32)} for each in recorded]
    moved = at_last_timestep(feeds, 999)
    assert [float(each["timestep"]) for each in moved] == told
    assert all(each["timestep"].dtype == np.float32 for each in moved)
    assert [float(each["timestep"]) for each in feeds] == recorded


def test_feeds_without_a_timestep_stay():
    feeds = [{"input_ids": np.ones(2)}, {"input_ids": np.zeros(2)}]
    assert at_last_timestep(feeds, 999) == feeds
