"""The stepper: order of calls, draws, previews and misuse."""

from __future__ import annotations

import numpy as np
import pytest
from kdexport.core.errors import SamplerError
from kdexport.core.sampler import SamplerTable
from kdexport.runtimes.noise import TorchNoise
from kdexport.runtimes.sampler import Stepper

SHAPE = (1, 4, 8, 8)
# Two steps of a stochastic sampler with a scaled model input.
TABLE = SamplerTable(
    timesteps=(999.0, 499.5),
    initial=(0.5, 0.25, 0.125),
    outputs=((), (-2.0,), (1.0, 3.0)),
    noise=((), (0.5, 0.25), (1.0, 0.0, 2.0)),
    draws=(2, 1),
    scale=(0.5, 0.25, 1.0),
)


def start(seed=0):
    noise = TorchNoise(seed)
    return Stepper(TABLE, noise.normal(SHAPE), lambda: noise.normal(SHAPE))


def test_walks_through_the_table():
    noise = TorchNoise(5)
    initial, one, two, three = (noise.normal(SHAPE) for _ in range(4))
    stepper = start(5)
    assert (stepper.calls, stepper.done, stepper.timestep) == (0, False, 999.0)
    np.testing.assert_array_equal(stepper.input(), 0.5 * initial)
    stepper.push(first := np.sin(initial))
    assert (stepper.calls, stepper.done, stepper.timestep) == (1, False, 499.5)
    expected = 0.25 * initial - 2.0 * first + 0.5 * one + 0.25 * two
    np.testing.assert_allclose(stepper.input(), expected, atol=1e-6)
    stepper.push(second := np.cos(initial))
    assert stepper.done
    expected = 0.125 * initial + first + 3.0 * second + one + 2.0 * three
    np.testing.assert_allclose(stepper.latent(), expected, atol=2e-6)


def test_the_preview_is_the_input_without_its_scale():
    stepper = start()
    np.testing.assert_array_equal(stepper.latent(), 2.0 * stepper.input())
    stepper.push(stepper.input())
    np.testing.assert_array_equal(stepper.latent(), 4.0 * stepper.input())


def test_looking_twice_changes_nothing():
    once, twice = start(), start()
    for stepper, looks in ((once, 1), (twice, 3)):
        while not stepper.done:
            views = [(stepper.input(), stepper.latent()) for _ in range(looks)]
            stepper.push(np.tanh(views[-1][0]))
    np.testing.assert_array_equal(once.latent(), twice.latent())


def test_an_engine_may_reuse_its_output_buffer():
    buffer = np.empty(SHAPE, np.float32)
    reused, copied = start(), start()
    while not copied.done:
        np.tanh(reused.input(), out=buffer)
        reused.push(buffer)
        copied.push(np.tanh(copied.input()))
        buffer[:] = np.nan
    np.testing.assert_array_equal(reused.latent(), copied.latent())


def test_a_float16_output_is_computed_in_float32():
    half, full = start(), start()
    while not full.done:
        output = np.full(SHAPE, 1.0009765625, np.float16)
        half.push(output)
        full.push(output.astype(np.float32))
    assert half.latent().dtype == np.float32
    np.testing.assert_array_equal(half.latent(), full.latent())


def test_a_finished_stepper_refuses_more():
    stepper = start()
    while not stepper.done:
        stepper.push(stepper.input())
    for misuse in (stepper.input, lambda: stepper.timestep, lambda: stepper.push(stepper.latent())):
        with pytest.raises(SamplerError, match="made all of its 2 model calls"):
            misuse()


def test_an_output_of_another_shape_is_refused():
    with pytest.raises(SamplerError, match=r"the shape \(2, 4, 8, 8\) for latents of the shape"):
        start().push(np.zeros((2, *SHAPE[1:]), np.float32))
