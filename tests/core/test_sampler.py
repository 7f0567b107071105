"""The sampler table: its checks, its JSON form, its arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.errors import SamplerError
from kdexport.core.sampler import Sampler, SamplerTable

TABLE = SamplerTable(
    timesteps=(999.0, 499.5),
    initial=(1.0, 0.5, 0.25),
    outputs=((), (-2.0,), (0.0, 3.0)),
    noise=((), (0.125,), (-1.0,)),
    draws=(1, 0),
    scale=(0.5, 1.0, 1.0),
)

# Ten significant digits survive JSON unchanged, as do all float32 values.
weights = st.floats(-100, 100, width=32)


@st.composite
def tables(draw):
    calls = draw(st.integers(1, 6))
    draws = draw(st.lists(st.integers(0, 2), min_size=calls, max_size=calls))

    def values(count):
        return tuple(draw(st.lists(weights, min_size=count, max_size=count)))

    return SamplerTable(
        timesteps=values(calls),
        initial=values(calls + 1),
        outputs=tuple(values(row) for row in range(calls + 1)),
        noise=tuple(values(sum(draws[:row])) for row in range(calls + 1)),
        draws=tuple(draws),
        scale=values(calls + 1),
    )


def arrays(count, dtype=np.float32):
    return [np.full((1, 2), 10.0**i, dtype) for i in range(count)]


@given(table=tables())
def test_json_round_trip_keeps_float32_weights(table):
    back = SamplerTable.from_json(json.loads(json.dumps(table.to_json())))
    for mine, theirs in zip(table.to_json().values(), back.to_json().values(), strict=True):
        assert mine == theirs
    np.testing.assert_array_equal(np.float32(back.initial), np.float32(table.initial))
    for mine, theirs in zip(table.outputs, back.outputs, strict=True):
        np.testing.assert_array_equal(np.float32(mine), np.float32(theirs))


def test_sampler_json_round_trip():
    sampler = Sampler("lcm", "LCMScheduler", {"clip_sample": False}, {2: TABLE, 4: TABLE})
    assert Sampler.from_json(json.loads(json.dumps(sampler.to_json()))) == sampler


def test_rows_are_weighted_sums():
    initial, (first, second), (fresh,) = arrays(1)[0], arrays(2), arrays(1)
    np.testing.assert_array_equal(TABLE.row(0, initial, [], []), initial)
    np.testing.assert_array_equal(TABLE.row(1, initial, [first], [fresh]), -1.375 * initial)
    final = TABLE.row(2, initial, [first, second], [fresh])
    np.testing.assert_array_equal(final, np.full((1, 2), 0.25 + 30.0 - 1.0, np.float32))


def test_later_outputs_and_noises_do_not_change_an_earlier_row():
    outputs, noises = arrays(2), arrays(1)
    np.testing.assert_array_equal(
        TABLE.row(1, arrays(1)[0], outputs, noises), TABLE.row(1, arrays(1)[0], outputs[:1], noises)
    )


@settings(max_examples=50)
@given(table=tables(), data=st.data())
def test_every_row_is_linear(table, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    drawn = sum(table.draws)
    vectors = rng.standard_normal((1 + table.calls + drawn, 3)).astype(np.float32)
    matrix = np.array([table.initial[-1], *table.outputs[-1], *table.noise[-1]])
    row = table.row(
        table.calls,
        vectors[0],
        list(vectors[1 : 1 + table.calls]),
        list(vectors[1 + table.calls :]),
    )
    size = np.abs(matrix) @ np.abs(vectors.astype(np.float64)) + 1e-30
    assert np.all(np.abs(row - matrix @ vectors.astype(np.float64)) <= 2e-6 * size)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_rows_are_float32_whatever_the_model_returns(dtype):
    row = TABLE.row(2, arrays(1)[0], arrays(2, dtype), arrays(1, dtype))
    assert row.dtype == np.float32
    np.testing.assert_array_equal(row, np.full((1, 2), 29.25, np.float32))


def test_a_row_does_not_write_into_its_inputs():
    initial, outputs, noises = arrays(1)[0], arrays(2), arrays(1)
    TABLE.row(2, initial, outputs, noises)
    np.testing.assert_array_equal(initial, arrays(1)[0])
    np.testing.assert_array_equal(outputs[1], arrays(2)[1])


@pytest.mark.parametrize(("outputs", "noises"), [(1, 1), (2, 0), (0, 0)])
def test_a_row_with_too_few_inputs_is_refused(outputs, noises):
    with pytest.raises(SamplerError, match="Row 2 of the sampler needs 2 model outputs and 1"):
        TABLE.row(2, arrays(1)[0], arrays(outputs), arrays(noises))


@pytest.mark.parametrize(
    "change",
    [
        {"initial": (1.0, 0.5)},
        {"scale": (1.0,)},
        {"draws": (1,)},
        {"timesteps": (999.0,)},
        {"outputs": ((), (-2.0, 1.0), (0.0, 3.0))},
        {"noise": ((), (), (-1.0,))},
        {"draws": (0, 1)},
    ],
)
def test_rows_that_do_not_fit_are_refused(change):
    with pytest.raises(SamplerError, match="export the model again"):
        replace(TABLE, **change)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (range(1, 51), "it has 1 to 50:"),
        ([4], "it has 4:"),
        ([1, 2, 4], "it has 1, 2, 4:"),
        ([1, *range(4, 51)], "it has 1, 4 to 50:"),
    ],
)
def test_a_missing_step_count_names_those_that_there_are(steps, words):
    sampler = Sampler("pndm", "PNDMScheduler", {}, dict.fromkeys(steps, TABLE))
    assert sampler.table(4) is TABLE
    with pytest.raises(SamplerError, match="no 99-step table for the scheduler 'pndm'") as caught:
        sampler.table(99)
    assert words in str(caught.value)
