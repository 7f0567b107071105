"""How far a build is."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.export.tensorrt.monitor import Shares, make_monitor

NAMES = st.sampled_from("abcd")
# Each inside one before it in the alphabet, if that has begun: no phase is inside itself.
STARTS = st.tuples(st.just("start"), NAMES, st.sampled_from([None, *"ab"]), st.integers(0, 5))
EVENTS = st.lists(
    STARTS.filter(lambda event: event[2] is None or event[2] < event[1])
    | st.tuples(st.just("step"), NAMES, st.integers(0, 6))
    | st.tuples(st.just("finish"), NAMES)
)


@given(EVENTS)
def test_shares_never_fall(events):
    told = []
    shares = Shares(told.append)
    for name, *arguments in events:
        getattr(shares, name)(*arguments)
    assert told == sorted(set(told))
    assert all(0 < share <= 1 for share in told)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=3))
def test_all_steps_are_told(steps):
    told = []
    shares = Shares(told.append)

    def run(depth):
        name, parent = f"phase {depth}", f"phase {depth - 1}" if depth else None
        shares.start(name, parent, steps[depth])
        for step in range(steps[depth]):
            if depth + 1 < len(steps):
                run(depth + 1)
            shares.step(name, step)
        shares.finish(name)

    run(0)
    # Less than a hundredth is not told.
    assert told[-1] > 0.99
    assert told == sorted(told)


def test_a_part_of_a_step():
    told = []
    shares = Shares(told.append)
    shares.start("build", None, 2)
    shares.start("compile", "build", 4)
    shares.step("compile", 0)
    shares.step("compile", 1)
    shares.finish("compile")
    shares.step("build", 0)
    # A phase beside the first, and what never began.
    shares.start("other", None, 1)
    shares.step("other", 0)
    shares.finish("other")
    shares.step("unknown", 3)
    shares.finish("unknown")
    shares.finish("build")
    assert told == pytest.approx([0.125, 0.25, 0.5, 1])


def test_what_ends_a_build():
    def refuse(share):
        raise KeyboardInterrupt

    shares = Shares(refuse)
    shares.start("build", None, 1)
    with pytest.raises(KeyboardInterrupt):
        shares.step("build", 0)


def test_monitors():
    told = []
    assert make_monitor(SimpleNamespace(), Shares(told.append)) is None
    library = pytest.importorskip("tensorrt_rtx")
    monitor = make_monitor(library, Shares(told.append))
    assert isinstance(monitor, library.IProgressMonitor)
    monitor.phase_start("build", None, 2)
    assert monitor.step_complete("build", 0) is True
    monitor.phase_finish("build")
    assert told == [0.5, 1]
