"""Values die after their last use."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from kdexport.core.errors import RunError
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.liveness import last_uses


def chain(mb, x):
    """Sixty operations, of which one early result is read again at the end."""
    early = mb.add(x=x, y=np.float32(1), name="early")
    value = early
    for step in range(60):
        value = mb.tanh(x=mb.mul(x=value, y=np.float32(1.01)), name=f"step_{step}")
        mb.exp(x=value, name=f"unread_{step}")
    return mb.add(x=value, y=early, name="end")


def test_a_long_program_holds_few_values(mil):
    x = np.ones((4, 5), np.float32)
    alive: list[weakref.ref] = []
    most = 0

    def observe(operation, inputs, outputs):
        nonlocal most
        alive[:] = [each for each in alive if each() is not None]
        alive.extend(weakref.ref(tensor) for tensor in outputs)
        most = max(most, len(alive))

    Evaluator(mil.make(chain, {"x": x}), observer=observe).run({"x": x})
    assert most <= 4


def test_each_value_dies_once(mil):
    function = mil.make(chain, {"x": np.ones((2, 2), np.float32)})
    operations = [each for each in function.operations if each.op_type != "const"]
    dying = last_uses(operations, function.outputs)
    dead = [variable for each in dying for variable in each]
    assert len(dead) == len(set(dead))
    made = {variable for each in operations for variable in each.outputs}
    assert set(dead) == (made - set(function.outputs)) | set(function.inputs.values())
    names = [[variable.name for variable in each] for each in dying]
    assert "early" in names[-1]
    assert ["unread_7"] in names


def test_results_share_no_memory(mil):
    x = np.ones((2, 3), np.float32)

    def body(mb, x):
        return mb.identity(x=x, name="same"), mb.transpose(x=x, perm=[1, 0], name="turned")

    results = Evaluator(mil.make(body, {"x": x})).run({"x": x})
    for result in results.values():
        result[:] = 5
    np.testing.assert_array_equal(x, 1)


def test_a_missing_input_is_named(mil):
    function = mil.make(chain, {"x": np.ones((2, 2), np.float32)})
    with pytest.raises(RunError, match="also takes the inputs x"):
        Evaluator(function).run({"y": np.ones((2, 2), np.float32)})
