"""Which engine fits which machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import ProviderError
from kdexport.core.manifest import Component, EngineRecord
from kdexport.runtimes.tensorrt.select import (
    Machine,
    capability_of,
    fits_gpu,
    fits_version,
    select_engines,
)

ADA = Machine("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, "12.8", "1.7.1.116")
PLAIN = EngineRecord("unet", "a", "rtx", "sm_89", "1.7.1.116", "0" * 64, {})


class Bundle:
    """As much of a manifest as is asked for."""

    def __init__(self, *engines):
        self.engines = engines
        roles = dict.fromkeys(each.role for each in engines) or {"unet": None}
        self.components = [Component(role, "m.onnx", "mixed", (), (), 0) for role in roles]


def engine(**changes):
    return replace(PLAIN, **changes)


@pytest.mark.parametrize(
    ("built", "here", "settings", "kind", "fits"),
    [
        ("sm_89", (8, 9), {}, "rtx", True),
        ("sm_86", (8, 9), {}, "rtx", False),
        ("sm_86", (8, 9), {"compatibility": "ampere-plus"}, "rtx", False),
        ("sm_86", (8, 9), {"compatibility": "ampere-plus"}, "native", True),
        ("sm_86", (12, 0), {"compatibility": "ampere-plus"}, "native", True),
        ("sm_120", (8, 0), {"compatibility": "ampere-plus"}, "native", True),
        ("sm_86", (7, 5), {"compatibility": "ampere-plus"}, "native", False),
        ("sm_75", (8, 9), {"compatibility": "ampere-plus"}, "native", False),
        ("sm_86", (8, 9), {"compatibility": "same-capability"}, "native", False),
        ("sm_89", (8, 9), {"compatibility": "same-capability"}, "native", True),
        ("sm_89", (8, 9), {"compatibility": "none"}, "native", True),
        ("sm_120", (12, 1), {"compatibility": "none"}, "native", False),
    ],
)
def test_gpus(built, here, settings, kind, fits):
    assert fits_gpu(engine(capability=built, settings=settings, kind=kind), here) is fits


@pytest.mark.parametrize(
    ("built", "here", "settings", "kind", "fits"),
    [
        ("1.7.1.116", "1.7.1.116", {}, "rtx", True),
        ("1.7.1.116", "1.7.2", {"version_compatible": True}, "rtx", False),
        ("10.13.0.35", "10.13.2.6", {}, "native", False),
        ("10.13.0.35", "11.4.0.106", {"version_compatible": True}, "native", True),
        ("11.4.0.106", "10.13.0.35", {"version_compatible": True}, "native", False),
        ("8.5.3", "8.6.1", {"version_compatible": True}, "native", False),
        ("8.6.0", "8.6.1", {"version_compatible": True}, "native", True),
    ],
)
def test_versions(built, here, settings, kind, fits):
    assert fits_version(engine(tensorrt=built, settings=settings, kind=kind), here) is fits


@given(st.integers(5, 30), st.integers(0, 9))
def test_a_capability_and_its_name(major, minor):
    machine = replace(ADA, capability=(major, minor))
    assert capability_of(machine.target) == (major, minor)


def test_one_engine_for_each_component():
    engines = [
        engine(role=role, capability=target, file=f"{role}.{target}")
        for role in ("text_encoder", "unet")
        for target in ("sm_86", "sm_89", "sm_120")
    ]
    chosen = select_engines(Bundle(*engines), "rtx", ADA)
    assert [each.file for each in chosen] == ["text_encoder.sm_89", "unet.sm_89"]


def test_the_engine_for_this_very_gpu_is_preferred():
    native = {"kind": "native", "tensorrt": ADA.tensorrt}
    portable = engine(capability="sm_80", settings={"compatibility": "ampere-plus"}, **native)
    own = engine(file="own", **native)
    assert select_engines(Bundle(portable, own), "native", ADA) == (own,)
    assert select_engines(Bundle(portable), "native", ADA) == (portable,)


@pytest.mark.parametrize(
    ("engines", "kind", "message"),
    [
        (
            [engine(capability="sm_86"), engine(capability="sm_120")],
            "rtx",
            r"'unet' are for sm_120, sm_86, but this machine's NVIDIA GeForce RTX 4090 is sm_89; "
            r"build one with `kdexport tensorrt --gpu sm_89`",
        ),
        (
            [engine(tensorrt="1.4.0.76")],
            "rtx",
            r"'unet' for sm_89 was built with TensorRT for RTX 1.4.0.76, but 1.7.1.116 is "
            r"installed here; install 1.4.0.76, build the engines again",
        ),
        (
            [engine(kind="native")],
            "rtx",
            r"no engine of 'unet' for TensorRT for RTX, only one for TensorRT; choose the runtime "
            r"'tensorrt', or build one with `kdexport tensorrt --engine rtx`",
        ),
        ([], "native", r"The bundle has no engine of 'unet'; build it again with"),
    ],
)
def test_what_does_not_fit(engines, kind, message):
    with pytest.raises(ProviderError, match=message) as raised:
        select_engines(Bundle(*engines), kind, ADA)
    # One sentence.
    assert str(raised.value).rstrip(".").count(". ") == 0
