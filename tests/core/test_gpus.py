import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import OptionError
from kdexport.core.gpus import (
    FIRST_CAPABILITY,
    GPUS,
    RTX_CAPABILITIES,
    describe,
    gpus_of,
    resolve_gpu,
)


@pytest.mark.parametrize(
    ("text", "name", "target"),
    [
        ("4090", "4090", "sm_89"),
        ("NVIDIA GeForce RTX 4090", "4090", "sm_89"),
        ("rtx4070ti-super", "4070 Ti Super", "sm_89"),
        ("l40s", "L40S", "sm_89"),
        ("6000 Ada", "RTX 6000 Ada", "sm_89"),
        ("RTX A6000", "A6000", "sm_86"),
        ("Tesla T4", "T4", "sm_75"),
        ("Jetson Orin", "Orin", "sm_87"),
        ("H100", "H100", "sm_90"),
        ("5090", "5090", "sm_120"),
        ("sm_89", "sm_89", "sm_89"),
        ("SM86", "sm_86", "sm_86"),
        (" 8.9 ", "sm_89", "sm_89"),
        ("12.0", "sm_120", "sm_120"),
        ("compute_121", "sm_121", "sm_121"),
    ],
)
def test_resolved(text, name, target):
    gpu = resolve_gpu(text)
    assert (gpu.name, gpu.target) == (name, target)
    assert str(gpu) == (name if name == target else f"{name} ({target})")


@given(
    name=st.sampled_from(sorted(GPUS)),
    brand=st.sampled_from(["", "rtx", "GeForce RTX ", "NVIDIA "]),
    case=st.sampled_from([str.lower, str.upper, str.title]),
)
def test_names_in_any_writing(name, brand, case):
    assert resolve_gpu(brand + case(name.replace(" ", "_"))) == GPUS[name]
    assert GPUS[name].name == name
    assert resolve_gpu(GPUS[name].target).capability == GPUS[name].capability


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4099", r"no GPU '4099' in the table \(close to it: .*4090.*\); .* such as sm_89"),
        ("Voodoo", r"no GPU 'Voodoo' in the table \(some: 4090, 4080 Super, .* and \d+ more\)"),
        ("", "no GPU '' in the table"),
        ("89", "no GPU '89' in the table"),
        ("sm_90a", "no GPU 'sm_90a' in the table"),
        ("sm_42", "No GPU has the compute capability 'sm_42'; choose sm_70, .* or sm_121"),
        ("9.9", "No GPU has the compute capability '9.9'"),
    ],
)
def test_refused(text, message):
    with pytest.raises(OptionError, match=message):
        resolve_gpu(text)


def test_the_gpus_of_a_capability():
    assert {"4090", "L40S", "L4"} <= set(gpus_of("sm_89"))
    assert {"A100", "A30"} <= set(gpus_of("sm_80"))
    assert gpus_of("sm_42") == ()
    assert describe((8, 0)) == "sm_80 (A100, A800, A30)"
    assert describe((8, 9)).startswith("sm_89 (4090, 4080 Super, 4080 and ")
    assert describe((4, 2)) == "sm_42"


def test_what_rtx_lacks():
    lacking = {name for name, gpu in GPUS.items() if gpu.capability not in RTX_CAPABILITIES}
    assert {"H100", "H200", "V100", "B200", "Orin"} <= lacking
    assert {gpu.capability for gpu in GPUS.values()} >= {*RTX_CAPABILITIES}
    assert {gpu.capability for gpu in GPUS.values()} >= {*FIRST_CAPABILITY.values()}
