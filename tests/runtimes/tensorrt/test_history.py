"""The plan of slots and weights against the walk through the table on the host."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.sampler import SamplerTable
from kdexport.runtimes.sampler import Stepper
from kdexport.runtimes.tensorrt.arithmetic import Checks
from kdexport.runtimes.tensorrt.buffers import Workspace
from kdexport.runtimes.tensorrt.device import CudaDevice
from kdexport.runtimes.tensorrt.history import History, make_schedule
from kdexport.runtimes.tensorrt.libraries import Cuda

SHAPE = (2, 3, 5)
weights = st.one_of(st.just(0.0), st.floats(-20, 20, width=32))


@st.composite
def tables(draw):
    """Any table, with draws anywhere and weights of zero."""
    calls = draw(st.integers(1, 5))
    draws = draw(st.lists(st.integers(0, 2), min_size=calls, max_size=calls))
    drawn = [sum(draws[:row]) for row in range(calls + 1)]

    def row(length):
        return tuple(draw(st.lists(weights, min_size=length, max_size=length)))

    return SamplerTable(
        timesteps=tuple(draw(st.lists(st.floats(0, 999), min_size=calls, max_size=calls))),
        initial=row(calls + 1),
        outputs=tuple(row(index) for index in range(calls + 1)),
        noise=tuple(row(count) for count in drawn),
        draws=tuple(draws),
        scale=tuple(draw(st.floats(0.1, 2)) for _ in range(calls + 1)),
    )


def noises(seed):
    random = np.random.default_rng(seed)
    return lambda: random.standard_normal(SHAPE).astype(np.float32)


@given(table=tables(), seed=st.integers(0, 99))
def test_every_row_is_that_of_the_host(fake_cuda, table, seed):
    fake = fake_cuda.FakeCuda()
    cuda = Cuda(fake.runtime, fake.driver, fake.nvrtc)
    outputs, fresh = noises(seed), noises(seed + 1)
    initial = noises(seed + 2)()
    stepper = Stepper(table, initial, noises(seed + 1))
    with CudaDevice(cuda, 0, (8, 9)) as device, Workspace(device) as memory:
        history = History(device, memory, make_schedule(table), SHAPE, fresh)
        history.begin(initial)
        twice = memory.tensor("twice", "float32", (2 * SHAPE[0], *SHAPE[1:]))
        expected = []
        for call in range(table.calls):
            sample, output = stepper.input(), outputs()
            history.sample(call, twice, copies=2)
            np.testing.assert_array_equal(device.download(twice), np.concatenate([sample] * 2))
            device.upload(history.slot(history.schedule.output_slot(call)), output)
            stepper.push(output)
            history.draw(call)
            expected.append((sample, output, stepper.latent()))
        # Also after all is done.
        for call, arrays in enumerate(expected):
            for name, array in zip(("sample", "output", "latents"), arrays, strict=True):
                np.testing.assert_array_equal(history.fetch(name, call), array)
        scaled = memory.tensor("scaled", "float16", SHAPE)
        history.latents(table.calls, scaled, factor=1.7, shift=0.25)
        last = expected[-1][2] / np.float32(1.7) + np.float32(0.25)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(device.download(scaled), last.astype(np.float16))
        assert make_schedule(table).timesteps.tolist() == [np.float32(t) for t in table.timesteps]
    assert fake.left() == {}


def test_the_layout():
    table = SamplerTable(
        timesteps=(9.0, 5.0),
        initial=(1.0, 0.5, 0.0),
        outputs=((), (2.0,), (0.0, 3.0)),
        noise=((), (4.0,), (5.0, 0.0, 6.0)),
        draws=(1, 2),
        scale=(1.0, 1.0, 1.0),
    )
    schedule = make_schedule(table)
    assert schedule.count == 1 + 2 + 3
    assert schedule.calls == 2
    assert schedule.fresh == ((3,), (4, 5))
    assert schedule.slots.tolist() == [0, 0, 1, 3, 0, 2, 3, 5]
    assert schedule.weights.tolist() == [1, 0.5, 2, 4, 0, 3, 5, 6]
    assert schedule.starts == (0, 1, 4, 8)
    assert (schedule.slots.dtype, schedule.weights.dtype) == (np.int32, np.float32)


def test_the_first_result_that_is_not_finite_is_named(fake_cuda):
    from kdexport.core.errors import RunError
    from kdexport.runtimes.tensorrt.arithmetic import check, guide, place

    fake = fake_cuda.FakeCuda()
    cuda = Cuda(fake.runtime, fake.driver, fake.nvrtc)
    with CudaDevice(cuda, 0, (8, 9)) as device, Workspace(device) as memory:
        good, bad = (memory.tensor(name, "float16", (2, 4)) for name in ("good", "bad"))
        device.fill(good, 0)
        spoilt = np.zeros((2, 4), np.float16)
        spoilt[1, 3] = np.inf
        device.upload(bad, spoilt)
        out = memory.tensor("out", "float32", (1, 4))
        wide = memory.tensor("wide", "float32", (2, 6))
        checks = Checks(device, memory.tensor("failed", "int32", (1,)))
        check(device, good, checks, "The first")
        place(device, wide, good, checks, "The second", first=2)
        checks.require_finite()
        guide(device, out, bad, 2.0, checks, "The third")
        check(device, bad, checks, "The fourth")
        with pytest.raises(RunError, match="The third gave NaN or infinite values; build the eng"):
            checks.require_finite()
        with pytest.raises(RunError, match=r"place does not take a tensor of float32"):
            place(device, wide, good, checks, "It", first=3)
        whole = memory.tensor("whole", "int32", (2, 4))
        with pytest.raises(RunError, match=r"a kernel does not take a tensor of int32"):
            check(device, whole, checks, "It")
    assert fake.left() == {}
