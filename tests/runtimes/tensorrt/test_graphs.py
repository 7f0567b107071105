"""Work that is captured the second time, and activation memory that is shared."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import RunError
from kdexport.runtimes.tensorrt.buffers import ActivationMemory
from kdexport.runtimes.tensorrt.context import activation_bytes
from kdexport.runtimes.tensorrt.graphs import Replay


class Recorder:
    """As much of a device as graphs and buffers need; writes down what is done."""

    def __init__(self):
        self.done, self.graphs, self.memory, self.next = [], {}, {}, 0
        self.capturing = None

    def work(self):
        (self.done if self.capturing is None else self.capturing).append("work")

    def capture(self, work):
        self.capturing = []
        work()
        recorded, self.capturing = self.capturing, None
        self.next += 1
        self.graphs[self.next] = recorded
        return self.next

    def replay(self, graph):
        self.done += self.graphs[graph]

    def forget(self, graph):
        del self.graphs[graph]

    def allocate(self, nbytes):
        self.next += 1
        self.memory[self.next] = nbytes
        return self.next

    def free(self, address):
        del self.memory[address]


def test_the_second_time_is_captured():
    device, bound = Recorder(), []
    replay = Replay(device, "It", lambda: True)
    for run in range(5):
        replay.run(("a", 1), lambda: bound.append(1), device.work)
        assert len(device.done) == run + 1
        assert len(device.graphs) == (run > 0)
    assert (len(bound), device.next) == (1, 1)
    replay.run(("a", 2), lambda: bound.append(2), device.work)
    assert bound == [1, 2]
    assert not device.graphs
    replay.run(("a", 2), lambda: bound.append(3), device.work)
    assert len(device.graphs) == 1
    replay.close()
    replay.close()
    assert not device.graphs
    assert len(device.done) == 7


@given(st.lists(st.integers(0, 2), max_size=30), st.booleans())
def test_any_order_of_addresses(order, enabled):
    device, bound = Recorder(), []
    asked = []
    replay = Replay(device, "It", lambda: asked.append(1) or enabled)
    for count, address in enumerate(order, 1):
        replay.run(address, lambda address=address: bound.append(address), device.work)
        # Done every time, with what is wanted, and never more than one graph.
        assert len(device.done) == count
        assert bound[-1] == address
        assert len(device.graphs) <= enabled
    # Once, and not before anything was done again.
    assert len(asked) == any(old == new for old, new in pairwise(order))
    changes = [new for old, new in zip([None, *order], order, strict=False) if old != new]
    assert bound == changes
    replay.close()
    assert not device.graphs


def test_work_that_cannot_be_captured():
    device = Recorder()

    def capture(_work):
        raise RunError("CUDA failed.")

    device.capture = capture
    replay = Replay(device, "'unet.plan'", lambda: True)
    replay.run(1, lambda: None, device.work)
    with pytest.raises(
        RunError, match=r"'unet.plan' cannot be recorded .*: CUDA failed. .*'cuda-no"
    ):
        replay.run(1, lambda: None, device.work)


def test_work_that_fails_is_bound_again():
    device, bound = Recorder(), []
    replay = Replay(device, "It", lambda: True)

    def fail():
        raise RunError("no")

    for _ in range(2):
        with pytest.raises(RunError):
            replay.run(1, lambda: bound.append(1), fail)
    assert bound == [1, 1]


def test_activations_share_the_largest_memory():
    device = Recorder()
    memory = ActivationMemory(device)
    members = [memory.join(nbytes) for nbytes in (100, 5000, 300)]
    assert not device.memory
    first = memory.buffer()
    assert memory.buffer() is first
    assert device.memory == {first.address: 5000}
    memory.leave(members[1])
    assert memory.buffer() is first
    memory.join(9000)
    second = memory.buffer()
    assert second is not first
    assert list(device.memory.values()) == [9000]
    memory.close()
    memory.close()
    assert not device.memory


def test_engines_without_activations():
    device = Recorder()
    memory = ActivationMemory(device)
    memory.join(0)
    assert memory.buffer().nbytes == 1
    memory.close()


def test_every_generation_of_the_number():
    both = SimpleNamespace(device_memory_size=1, device_memory_size_v2=2)
    assert activation_bytes(both) == 2
    assert activation_bytes(SimpleNamespace(device_memory_size=1)) == 1
